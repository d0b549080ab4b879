//! Control groups of machines, version 1 (hybrid included) and version 2.
#![expect(clippy::disallowed_methods, reason = "waits for the kernel to let go of ended processes")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Doing, MachineError, MachineSpec};

/// Most processes and threads of a machine of any size, as Linux' default `pid_max`.
pub const PIDS_MAX: u64 = 32_768;
/// A machine so small that less would come out can still start so many.
const PIDS_LEAST: u64 = 1024;
/// Kernel stack of a thread (`THREAD_SIZE`).
const STACK_BYTES: u64 = 16 << 10;
const CPU_PERIOD_US: u64 = 100_000;

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Controllers of version 1, `name=…` among them; empty for version 2.
    pub controllers: Vec<String>,
    /// The control group of this process, relative to the mount.
    own: PathBuf,
}

impl Hierarchy {
    /// Whether this is the unified hierarchy.
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The hierarchies that this process sees.
pub fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(parse(&fs::read_to_string("/proc/self/mountinfo")?, &fs::read_to_string("/proc/self/cgroup")?))
}

/// The controllers that can be used on the given hierarchies.
pub fn controllers(hierarchies: &[Hierarchy]) -> Vec<String> {
    let mut names = Vec::new();
    for hierarchy in hierarchies {
        if hierarchy.is_v2() {
            let listed = fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).unwrap_or_default();
            names.extend(listed.split_whitespace().map(str::to_owned));
        } else {
            names.extend(hierarchy.controllers.iter().cloned());
        }
    }
    names.sort();
    names
}

/// The directory name of a cluster: plain below the default root, else with a mark of the root.
pub fn cluster_directory(root: &Path, cluster: &str) -> String {
    if root == Path::new("/var/lib/daruma") {
        return format!("daruma-{cluster}");
    }
    let hash = super::spec::fnv(root.as_os_str().as_encoded_bytes());
    format!("daruma-{cluster}.{:06x}", hash & 0x00ff_ffff)
}

/// The control groups of one machine, one a hierarchy.
#[derive(Debug)]
pub struct MachineCgroup {
    groups: Vec<(Hierarchy, PathBuf)>,
}

impl MachineCgroup {
    /// Makes the groups `directory/machine` with the limits of `spec`.
    pub fn create(directory: &str, spec: &MachineSpec) -> Result<Self, MachineError> {
        let mut groups = Vec::new();
        for hierarchy in hierarchies().doing(|| "reading the control group hierarchies".to_owned())? {
            let group = make(&hierarchy, &[directory, &spec.name])
                .doing(|| format!("making a control group below {}", hierarchy.mount.display()))?;
            groups.push((hierarchy, group));
        }
        let made = Self { groups };
        let limited = made.limit(spec);
        if limited.is_err() {
            // The limits' error is the one to report.
            let _ = made.remove();
        }
        limited.map(|()| made)
    }

    fn limit(&self, spec: &MachineSpec) -> Result<(), MachineError> {
        let quota = ((spec.cpus * CPU_PERIOD_US as f64) as u64).max(1000);
        let memory = spec.memory_bytes.to_string();
        let mut limited = (false, false);
        for (hierarchy, group) in &self.groups {
            let set = |file: &str, value: &str| {
                write(group, file, value).doing(|| format!("writing {value} to {}", group.join(file).display()))
            };
            if hierarchy.is_v2() && group.join("memory.max").exists() {
                set("memory.max", &memory)?;
                limited.0 = true;
                // Kernels without swap have no such file.
                let _ = write(group, "memory.swap.max", "0");
            }
            if hierarchy.is_v2() && group.join("cpu.max").exists() {
                set("cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
                limited.1 = true;
            }
            if hierarchy.has("pids") || hierarchy.is_v2() && group.join("pids.max").exists() {
                set("pids.max", &pids_max(spec.memory_bytes).to_string())?;
            }
            if hierarchy.has("memory") {
                set("memory.limit_in_bytes", &memory)?;
                limited.0 = true;
                // Absent where the kernel does not account swap.
                let _ = write(group, "memory.memsw.limit_in_bytes", &memory);
                let _ = write(group, "memory.swappiness", "0");
            }
            if hierarchy.has("cpu") {
                set("cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
                set("cpu.cfs_quota_us", &quota.to_string())?;
                limited.1 = true;
            }
        }
        if limited == (true, true) {
            return Ok(());
        }
        let missing = if limited.0 { "cpu" } else { "memory" };
        Err(io::Error::other(format!("the {missing} controller is not available"))).doing(|| "limiting the machine".to_owned())
    }

    /// All of them.
    pub(super) fn groups(&self) -> &[(Hierarchy, PathBuf)] {
        &self.groups
    }

    /// The group of a hierarchy in which containers are listed too: one of a controller, where there is one.
    pub(crate) fn any(&self) -> &Path {
        let of = |name: &str| self.groups.iter().find(|(hierarchy, _)| hierarchy.has(name));
        let found = of("pids").or_else(|| of("memory")).or_else(|| self.groups.iter().find(|(hierarchy, _)| hierarchy.is_v2()));
        found.map_or(Path::new("/nonexistent"), |(_, group)| group)
    }

    /// Moves a process into the machine.
    pub fn attach(&self, pid: i32) -> Result<(), MachineError> {
        for (_, group) in &self.groups {
            write(group, "cgroup.procs", &pid.to_string()).doing(|| format!("moving process {pid} to {}", group.display()))?;
        }
        Ok(())
    }

    /// Stops every process of the machine where it is, or lets it go on.
    pub fn freeze(&self, frozen: bool) -> Result<(), MachineError> {
        let step = || if frozen { "freezing the machine".to_owned() } else { "thawing the machine".to_owned() };
        let unified = self.groups.iter().find(|(hierarchy, _)| hierarchy.is_v2());
        if let Some((_, group)) = unified.filter(|(_, group)| group.join("cgroup.freeze").exists()) {
            return set_frozen_v2(group, frozen).doing(step);
        }
        match self.groups.iter().find(|(hierarchy, _)| hierarchy.has("freezer")) {
            Some((_, group)) => set_frozen_v1(group, frozen).doing(step),
            None => Err(io::Error::other("the kernel has neither a version 2 hierarchy nor the freezer controller")).doing(step),
        }
    }

    /// Removes the groups, nested ones first. The machine's processes must have ended.
    pub fn remove(&self) -> Result<(), MachineError> {
        for (_, group) in &self.groups {
            remove_tree(group, Duration::from_secs(5)).doing(|| format!("removing {}", group.display()))?;
        }
        Ok(())
    }
}

/// The group of a machine as [`MachineCgroup::any`] gives it; `None` while the machine is off.
pub(crate) fn of_machine(directory: &str, machine: &str) -> io::Result<Option<PathBuf>> {
    let hierarchies = hierarchies()?;
    let of = |name: &str| hierarchies.iter().find(|hierarchy| hierarchy.has(name));
    let found = of("pids").or_else(|| of("memory")).or_else(|| hierarchies.iter().find(|hierarchy| hierarchy.is_v2()));
    let groups = found.into_iter().flat_map(bases).map(|base| base.join(directory).join(machine));
    Ok(groups.into_iter().find(|group| group.exists()))
}

/// Most processes and threads of a machine: as a kernel that boots with this memory sets `threads-max`, stacks may
/// take an eighth of it (linux kernel/fork.c `set_max_threads`).
pub fn pids_max(memory_bytes: u64) -> u64 {
    (memory_bytes / (8 * STACK_BYTES)).clamp(PIDS_LEAST, PIDS_MAX)
}

/// Ends and removes whatever is left of a cluster, of which no supervisor runs any more.
pub fn clean(directory: &str) -> Result<(), MachineError> {
    for hierarchy in hierarchies().doing(|| "reading the control group hierarchies".to_owned())? {
        for base in bases(&hierarchy) {
            let group = base.join(directory);
            if !group.exists() {
                continue;
            }
            kill_tree(&group);
            remove_tree(&group, Duration::from_secs(10)).doing(|| format!("removing {}", group.display()))?;
        }
    }
    Ok(())
}

fn kill_tree(group: &Path) {
    // What cannot be thawed or killed here makes the removal fail, which is reported.
    let _ = set_state(group, "THAWED");
    for child in children(group) {
        kill_tree(&child);
    }
    for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines().filter_map(|line| line.parse().ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = write(group, "cgroup.freeze", "0");
}

fn set_state(group: &Path, state: &str) -> io::Result<()> {
    write(group, "freezer.state", state)
}

fn set_frozen_v1(group: &Path, frozen: bool) -> io::Result<()> {
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    await_that(Duration::from_secs(5), || {
        set_state(group, wanted)?;
        Ok(fs::read_to_string(group.join("freezer.state"))?.trim() == wanted)
    })
}

fn set_frozen_v2(group: &Path, frozen: bool) -> io::Result<()> {
    write(group, "cgroup.freeze", if frozen { "1" } else { "0" })?;
    let wanted = if frozen { "frozen 1" } else { "frozen 0" };
    await_that(Duration::from_secs(5), || Ok(fs::read_to_string(group.join("cgroup.events"))?.lines().any(|line| line == wanted)))
}

fn await_that(limit: Duration, mut holds: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let end = Instant::now() + limit;
    while !holds()? {
        if Instant::now() > end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn make(hierarchy: &Hierarchy, path: &[&str]) -> io::Result<PathBuf> {
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for base in bases(hierarchy) {
        match make_below(hierarchy, base, path) {
            Ok(group) => return Ok(group),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn make_below(hierarchy: &Hierarchy, base: PathBuf, path: &[&str]) -> io::Result<PathBuf> {
    let mut group = base;
    for part in path {
        if hierarchy.is_v2() {
            delegate(&group);
        }
        group.push(part);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if hierarchy.has("cpuset") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let parent = group.parent().unwrap_or(&group).join(file);
                write(&group, file, fs::read_to_string(parent)?.trim())?;
            }
        }
    }
    // The last group keeps its controllers: init moves itself away before it gives them on.
    Ok(group)
}

/// Gives every controller on to the children. One that refuses shows later as a missing limit.
pub(crate) fn delegate(group: &Path) {
    let available = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        let _ = write(group, "cgroup.subtree_control", &format!("+{controller}"));
    }
}

/// Where groups may be made: at the top, else below the group of this process.
fn bases(hierarchy: &Hierarchy) -> Vec<PathBuf> {
    let mut bases = vec![hierarchy.mount.clone()];
    if !hierarchy.own.as_os_str().is_empty() {
        bases.push(hierarchy.mount.join(&hierarchy.own));
    }
    bases
}

pub(super) fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let mut found: Vec<PathBuf> =
        entries.iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(fs::DirEntry::path).collect();
    found.sort();
    found
}

fn remove_tree(group: &Path, limit: Duration) -> io::Result<()> {
    await_that(limit, || {
        for child in children(group) {
            remove_tree(&child, limit)?;
        }
        match fs::remove_dir(group) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY)) => Ok(false),
            Err(error) => Err(error),
        }
    })
}

pub(super) fn write(group: &Path, file: &str, value: &str) -> io::Result<()> {
    use std::io::Write;
    // Never create: a missing file means a missing controller.
    fs::OpenOptions::new().write(true).open(group.join(file))?.write_all(value.as_bytes())
}

fn parse(mountinfo: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        let ([_, _, _, root, mount, ..], [kind, _, options, ..]) = (before.as_slice(), after.as_slice()) else { continue };
        let controllers: Vec<String> = match *kind {
            "cgroup2" => Vec::new(),
            "cgroup" => options.split(',').filter(|option| is_controller(option)).map(str::to_owned).collect(),
            _ => continue,
        };
        if *kind == "cgroup" && controllers.is_empty() {
            continue;
        }
        let full = own_group(own, &controllers).unwrap_or("/");
        let relative = Path::new(full).strip_prefix(root).unwrap_or_else(|_| Path::new(""));
        let hierarchy = Hierarchy { mount: PathBuf::from(mount), controllers, own: relative.to_owned() };
        // The same hierarchy may be mounted twice; the first mount serves.
        if !found.iter().any(|other| other.controllers == hierarchy.controllers) {
            found.push(hierarchy);
        }
    }
    found
}

fn is_controller(option: &str) -> bool {
    !matches!(option, "rw" | "ro" | "xattr" | "noprefix" | "clone_children" | "none" | "cpuset_v2_mode" | "favordynmods")
        && !option.starts_with("release_agent=")
}

fn own_group<'a>(own: &'a str, controllers: &[String]) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let matches = match controllers.first() {
            None => names.is_empty(),
            Some(first) => names.split(',').any(|name| name == first),
        };
        matches.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hybrid_and_unified_layouts() {
        let hybrid = "30 29 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 29 0:30 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n\
                      32 29 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n\
                      33 29 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/nest/a\n2:cpu,cpuacct:/\n9:name=systemd:/\n0::/b\n";
        let found = parse(hybrid, own);
        let lines: Vec<String> =
            found.iter().map(|h| format!("{} {:?} {}", h.mount.display(), h.controllers, h.own.display())).collect();
        assert_eq!(
            lines,
            [
                "/sys/fs/cgroup/cpu [\"cpu\", \"cpuacct\"] ",
                "/sys/fs/cgroup/memory [\"memory\"] nest/a",
                "/sys/fs/cgroup/systemd [\"name=systemd\"] ",
                "/sys/fs/cgroup/unified [] b",
            ]
        );
        let unified = parse("30 29 0:29 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw,nsdelegate\n", "0::/docker/x/y\n");
        assert_eq!(unified[0].own, Path::new("y"));
        assert!(unified[0].is_v2());
    }

    #[test]
    fn a_larger_machine_may_run_more() {
        assert_eq!([64 << 20, 1 << 30, 64 << 30].map(pids_max), [1024, 8192, 32_768]);
    }

    #[test]
    fn the_default_root_gives_plain_names() {
        assert_eq!(cluster_directory(Path::new("/var/lib/daruma"), "demo"), "daruma-demo");
        assert_ne!(cluster_directory(Path::new("/a"), "demo"), cluster_directory(Path::new("/b"), "demo"));
    }
}
