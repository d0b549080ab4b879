//! What a machine is, and that nothing of it stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use daruma_host::supervisor::{Client, Request, SupervisorError, launch};

use crate::Test;
use crate::bed::{Bed, config, program};

pub const ALL: &[Test] = &[
    ("lifecycle::a_machine_shows_its_own_limits", a_machine_shows_its_own_limits),
    ("lifecycle::down_leaves_nothing", down_leaves_nothing),
    ("lifecycle::refusals_are_clear", refusals_are_clear),
];

fn a_machine_shows_its_own_limits() -> Result<()> {
    let mut bed = Bed::new("limits", 1)?;
    let status = bed.status("worker-0")?;
    let read = |bed: &Bed, path: &str| bed.tell("worker-0", &format!("read {path}"));
    let facts = bed.tell("worker-0", "facts")?;
    for expected in [
        "hostname: \"worker-0\"",
        "cpu_millis: 1500",
        "memory_bytes: 134217728",
        "machine_id: \"00000000000000000000000000000000\"",
        "system_uuid: \"00000000-0000-4000-8000-000000000000\"",
        "architecture: \"amd64\"",
    ] {
        ensure!(facts.contains(expected) || cfg!(not(target_arch = "x86_64")), "{expected} in {facts}");
    }
    let boot_id = status.boot_id.context("a boot id")?;
    ensure!(read(&bed, "/proc/sys/kernel/random/boot_id")?.trim() == boot_id, "the boot id is shown");
    ensure!(read(&bed, "/proc/meminfo")?.starts_with("MemTotal:             131072 kB\n"), "{}", read(&bed, "/proc/meminfo")?);
    ensure!(read(&bed, "/sys/devices/system/cpu/online")?.trim() == "0-1", "two processors are shown");
    ensure!(read(&bed, "/proc/cpuinfo")?.matches("processor\t").count() == 2, "two processors are described");
    ensure!(read(&bed, "/proc/self/cgroup")?.lines().all(|line| !line.contains("worker-0")), "the groups start at the top");
    ensure!(read(&bed, "/proc/self/environ")?.contains("COLOUR=red"), "the environment is passed");
    ensure!(read(&bed, "/etc/kubernetes/always")? == "new", "seed files are written");
    let mounts = read(&bed, "/proc/mounts")?;
    ensure!(!mounts.contains("/dev/vda ") || mounts.matches("/usr/local/bin/daruma").count() == 1, "{mounts}");
    ensure!(bed.tell("worker-0", "write /proc/sys/vm/swappiness 60")?.contains("Read-only"), "the host's settings are safe");
    ensure!(bed.tell("worker-0", "write /proc/sys/net/ipv4/ip_forward 1")? == "ok", "the machine's own are not");
    ensure!(bed.tell("worker-0", "write /sys/fs/cgroup/memory/x 1")?.contains("error"), "control files are no files");
    bed.tell("worker-0", "write /etc/kubernetes/once old")?;
    bed.tell("worker-0", "write /etc/kubernetes/always old")?;
    bed.ask(Request::Shutdown { machine: "worker-0".to_owned() })?;
    bed.client.wait_for("worker-0", daruma_host::supervisor::State::Off, std::time::Duration::from_secs(10))?;
    bed.ask(Request::On { machine: "worker-0".to_owned() })?;
    let status = bed.ready("worker-0")?;
    ensure!(read(&bed, "/etc/kubernetes/once")? == "old" && read(&bed, "/etc/kubernetes/always")? == "new", "once means once");
    let pid = status.pid.context("a pid")?;
    let supervisor = bed.client.status()?.supervisor_pid;
    for (name, pid, limit) in [("init", pid.to_string(), 3 << 10), ("supervisor", supervisor.to_string(), 5 << 10)] {
        let (rss_kib, threads) = (proc_field(&pid, "VmRSS:")?, proc_field(&pid, "Threads:")?);
        println!("{name}: {rss_kib} KiB resident, of it anonymous {} KiB", proc_field(&pid, "RssAnon:")?);
        ensure!(threads == 1, "{name} has {threads} threads");
        // The test binary is not optimised, so its size says little; the limit is for a grave mistake.
        ensure!(rss_kib < 3 * limit, "{name} takes {rss_kib} KiB");
    }
    Ok(())
}

fn proc_field(pid: &str, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the field")?;
    Ok(line.split_whitespace().next().context("a figure")?.parse()?)
}

/// Everything on this host that carries the cluster's marks.
fn traces(marks: &[&str]) -> Result<BTreeSet<String>> {
    let marked = |text: &str| marks.iter().any(|mark| text.contains(mark));
    let mut found = BTreeSet::new();
    for file in ["/proc/self/mountinfo", "/proc/net/route"] {
        found.extend(fs::read_to_string(file)?.lines().filter(|line| marked(line)).map(|line| format!("{file}: {line}")));
    }
    let routes = Command::new("ip").args(["route", "show", "table", "all"]).output();
    if let Ok(routes) = routes {
        found.extend(
            String::from_utf8_lossy(&routes.stdout).lines().filter(|line| marked(line)).map(|line| format!("route {line}")),
        );
    }
    for entry in fs::read_dir("/sys/class/net")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if marked(&name) {
            found.insert(format!("link {name}"));
        }
    }
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if marked(&backing) {
            found.insert(format!("loop device of {backing}"));
        }
    }
    for entry in fs::read_dir("/proc")?.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()) {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let words = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if (marked(&words) || marked(&groups)) && pid != std::process::id().to_string() {
            found.insert(format!("process {pid}: {words}"));
        }
    }
    control_groups(Path::new("/sys/fs/cgroup"), 3, &mut |path| {
        if marked(path) {
            found.insert(format!("control group {path}"));
        }
    });
    Ok(found)
}

fn control_groups(below: &Path, depth: u8, visit: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(below).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        visit(&entry.path().to_string_lossy());
        if depth > 0 {
            control_groups(&entry.path(), depth - 1, visit);
        }
    }
}

fn down_leaves_nothing() -> Result<()> {
    let mut bed = Bed::new("nothing", 3)?;
    bed.ask(Request::Off { machine: "worker-1".to_owned() })?;
    bed.ask(Request::Hang { machine: "worker-2".to_owned() })?;
    let status = bed.client.status()?;
    let network = status.subnet.network.to_string();
    let prefix = network.trim_end_matches('0').to_owned();
    let cluster = bed.config.cluster.clone();
    let marks = [cluster.as_str(), status.uplink.as_str(), prefix.as_str()];
    let during = traces(&marks)?;
    for kind in ["link ", "loop device", "process ", "control group ", "/proc/net/route"] {
        ensure!(during.iter().any(|trace| trace.starts_with(kind)), "no {kind} was seen in {during:#?}");
    }
    bed.ask(Request::Down { keep_disks: false })?;
    let files: Vec<_> = fs::read_dir(&bed.config.root)?.flatten().map(|entry| entry.path()).collect();
    ensure!(files.is_empty(), "files stay: {files:?}");
    let after = traces(&marks)?;
    ensure!(after.iter().all(|trace| trace.starts_with("process ") && is_ending(trace)), "{after:#?}");
    Ok(())
}

/// The supervisor itself answers just before it ends.
fn is_ending(trace: &str) -> bool {
    trace.contains("supervisor")
}

fn refusals_are_clear() -> Result<()> {
    let mut bed = Bed::new("refusals", 2)?;
    let machine = |name: &str| name.to_owned();
    let mut refused = |request: Request, expected: &str| -> Result<()> {
        match bed.client.ask(&request) {
            Err(SupervisorError::Refused(problem)) if problem.to_string() == expected => Ok(()),
            other => bail!("{request:?} gave {other:?}"),
        }
    };
    refused(Request::On { machine: machine("worker-7") }, "there is no machine \"worker-7\"; there are worker-0, worker-1")?;
    refused(Request::On { machine: machine("worker-0") }, "worker-0 is on already")?;
    refused(Request::Resume { machine: machine("worker-0") }, "worker-0 is running, not hung")?;
    match launch(&bed.config, &program()?) {
        Err(SupervisorError::UpAlready { pid, .. }) => {
            ensure!(pid == bed.client.status()?.supervisor_pid.to_string(), "the error names the supervisor");
        }
        other => bail!("a second launch gave {other:?}"),
    }
    match Client::connect(&bed.config.root, "other") {
        Err(SupervisorError::NotUp { .. }) => {}
        other => bail!("an unknown cluster gave {other:?}"),
    }
    let mut broken = config("broken", 1, |spec| spec.binds[0].host = "/nowhere".into())?;
    let mut client = launch(&broken, &program()?)?;
    let off = client.wait_for("worker-0", daruma_host::supervisor::State::Running, std::time::Duration::from_secs(5));
    client.ask(&Request::Down { keep_disks: false })?;
    let problem = off.err().context("it cannot boot")?.to_string();
    ensure!(problem.contains("it could not boot: showing /nowhere at /usr/local/bin/daruma"), "{problem}");
    broken.machines[0].memory_bytes = 1;
    match launch(&broken, &program()?) {
        Err(SupervisorError::NotStarted { problem, .. }) => {
            ensure!(problem.contains("its memory must be 16 MiB or more"), "{problem}");
        }
        other => bail!("a machine without memory gave {other:?}"),
    }
    daruma_host::supervisor::clean(&broken.root, &broken.cluster, true)?;
    fs::remove_dir_all(&broken.root)?;
    Ok(())
}
