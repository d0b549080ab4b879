//! What breaks, and what stays whole.
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daruma_host::supervisor::{Request, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Test;
use crate::bed::Bed;

pub const ALL: &[Test] = &[
    ("failures::out_of_memory_takes_a_container", out_of_memory_takes_a_container),
    ("failures::a_full_disk_is_only_full", a_full_disk_is_only_full),
    ("failures::the_command_is_started_again", the_command_is_started_again),
    ("failures::a_dead_first_process_is_a_crash", a_dead_first_process_is_a_crash),
    ("failures::a_killed_supervisor_is_succeeded", a_killed_supervisor_is_succeeded),
    ("failures::a_reset_while_booting_spares_the_host", a_reset_while_booting_spares_the_host),
];

fn out_of_memory_takes_a_container() -> Result<()> {
    let mut bed = Bed::new("memory", 1)?;
    let before = bed.status("worker-0")?;
    for _ in 0..3 {
        let ended = bed.tell("worker-0", "hog")?;
        ensure!(ended.contains("signal: 9"), "the hog ended with {ended}");
    }
    ensure!(bed.status("worker-0")? == before, "the machine runs on");
    Ok(())
}

fn a_full_disk_is_only_full() -> Result<()> {
    let mut bed = Bed::new("full", 1)?;
    let full = bed.tell("worker-0", "fill /var/big")?;
    ensure!(full.starts_with("StorageFull"), "{full}");
    ensure!(bed.status("worker-0")?.state == State::Running, "the machine runs on");
    ensure!(bed.tell("worker-0", "write-synced /var/small yes")? == "ok", "there is room again");
    Ok(())
}

fn the_command_is_started_again() -> Result<()> {
    let mut bed = Bed::new("again", 1)?;
    let before = bed.status("worker-0")?;
    // The command ends instead of answering.
    let _ = bed.tell("worker-0", "fail");
    let after = bed.ready("worker-0")?;
    ensure!(before == after, "it is the same boot");
    // It answers a moment before its second line has come through the pipe.
    let end = Instant::now() + Duration::from_secs(2);
    let mut log = String::new();
    while log.matches("agent: listening").count() < 2 && Instant::now() < end {
        log = bed.tell("worker-0", "read /var/log/kubelet.log")?;
    }
    ensure!(log.contains("exited with code 7; starting it again in 100ms"), "{log}");
    ensure!(log.matches("agent: listening").count() == 2, "{log}");
    Ok(())
}

fn a_dead_first_process_is_a_crash() -> Result<()> {
    let mut bed = Bed::new("crash", 1)?;
    let pid = bed.status("worker-0")?.pid.context("a pid")?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    bed.client.wait_for("worker-0", State::Off, Duration::from_secs(5))?;
    let off = bed.status("worker-0")?;
    ensure!(off.last_end.as_deref() == Some("it crashed: PID 1 was killed by signal 9 without being asked"), "{off:?}");
    bed.ask(Request::On { machine: "worker-0".to_owned() })?;
    bed.ready("worker-0")?;
    Ok(())
}

fn a_killed_supervisor_is_succeeded() -> Result<()> {
    let mut bed = Bed::new("succeed", 2)?;
    bed.tell("worker-1", "write-synced /var/kept yes")?;
    bed.ask(Request::Hang { machine: "worker-0".to_owned() })?;
    let status = bed.client.status()?;
    kill(Pid::from_raw(status.supervisor_pid as i32), Signal::SIGKILL)?;
    let pid = status.machine("worker-1").and_then(|machine| machine.pid).context("a pid")?;
    let end = Instant::now() + Duration::from_secs(5);
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        ensure!(Instant::now() < end, "machines die with their supervisor");
        std::thread::sleep(Duration::from_millis(5));
    }
    ensure!(bed.client.status().is_err(), "nobody answers");
    let lost = bed.tell("worker-1", "read /var/kept").err().context("nobody is there")?;
    let problem = lost.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    ensure!(problem == Some(std::io::ErrorKind::HostUnreachable), "packets end in the unreachable route: {lost:?}");
    bed.launch_again()?;
    bed.ready("worker-0")?;
    bed.ready("worker-1")?;
    ensure!(bed.tell("worker-1", "read /var/kept")? == "yes", "the same disks are back");
    Ok(())
}

fn a_reset_while_booting_spares_the_host() -> Result<()> {
    let mut bed = Bed::with("booting", 1, |spec| spec.boot_time = Duration::from_millis(1))?;
    let machine = "worker-0".to_owned();
    for _ in 0..20 {
        bed.ask(Request::Reset { machine: machine.clone() })?;
        bed.client.status()?;
        // Most of these fall into the first milliseconds of a boot, when PID 1 still sees the host's files.
        std::thread::sleep(Duration::from_millis(2));
        if bed.status("worker-0")?.state == State::Restarting {
            bed.ready("worker-0")?;
            continue;
        }
        for _ in 0..2 {
            bed.ask(Request::Off { machine: machine.clone() })?;
            bed.ask(Request::On { machine: machine.clone() })?;
        }
    }
    bed.ready("worker-0")?;
    std::fs::write(bed.config.root.join("alive"), "yes")?;
    Ok(())
}
