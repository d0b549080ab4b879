//! Control groups, version 1 (a hierarchy per controller) and version 2.
//!
//! Paths given here are relative to the machine's root, e.g. `kubepods/burstable/pod1/abc`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use daruma_world::containers::Resources;

/// v1 controllers that are used where mounted.
const V1_CONTROLLERS: [&str; 8] = ["cpu", "cpuacct", "memory", "cpuset", "devices", "freezer", "blkio", "pids"];
/// Devices that an ordinary container may use: `runc libcontainer/specconv AllowedDevices`.
const ALLOWED_DEVICES: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
    "c 10:200 rwm",
];

/// What a group uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Inactive page cache in bytes.
    pub inactive_file: u64,
    /// Anonymous memory in bytes.
    pub rss: u64,
    /// Page faults.
    pub faults: u64,
    /// Major page faults.
    pub major_faults: u64,
}

/// The machine's hierarchies.
#[derive(Debug, Clone)]
pub struct Cgroups {
    mount: PathBuf,
    prefix: PathBuf,
    /// Controllers with a hierarchy of their own; empty: version 2.
    v1: Vec<String>,
}

impl Cgroups {
    /// Looks at what is mounted below `mount` (`/sys/fs/cgroup`); all groups are made below `prefix`.
    pub fn detect(mount: &Path, prefix: &str) -> io::Result<Self> {
        let v1: Vec<String> = V1_CONTROLLERS
            .iter()
            .filter(|name| mount.join(name).join("cgroup.procs").exists())
            .map(|name| (*name).to_owned())
            .collect();
        if v1.is_empty() && !mount.join("cgroup.controllers").exists() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no control groups are mounted at {}", mount.display())));
        }
        Ok(Self { mount: mount.to_owned(), prefix: PathBuf::from(prefix.trim_matches('/')), v1 })
    }

    /// Where the hierarchies are mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Controllers with a v1 hierarchy of their own; empty with version 2.
    pub fn v1_controllers(&self) -> &[String] {
        &self.v1
    }

    fn directory(&self, controller: &str, path: &str) -> PathBuf {
        let base = if self.v1.is_empty() { self.mount.clone() } else { self.mount.join(controller) };
        base.join(&self.prefix).join(path.trim_matches('/'))
    }

    fn directories(&self, path: &str) -> Vec<PathBuf> {
        if self.v1.is_empty() {
            return vec![self.directory("", path)];
        }
        self.v1.iter().map(|controller| self.directory(controller, path)).collect()
    }

    /// Makes a group and its missing parents.
    pub fn create(&self, path: &str) -> io::Result<()> {
        let whole = self.prefix.join(path.trim_matches('/'));
        if self.v1.is_empty() {
            let mut current = self.mount.clone();
            for part in &whole {
                delegate(&current);
                current.push(part);
                make(&current)?;
            }
            return Ok(());
        }
        for controller in &self.v1 {
            let mut current = self.mount.join(controller);
            for part in &whole {
                let parent = current.clone();
                current.push(part);
                make(&current)?;
                if controller == "cpuset" {
                    // A new cpuset is empty, and nothing can run in it. Whoever made it may not have filled it yet.
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        if fs::read_to_string(current.join(file))?.trim().is_empty() {
                            let value = fs::read_to_string(parent.join(file))?;
                            fs::write(current.join(file), value.trim())?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Sets limits; unset ones are left alone.
    pub fn apply(&self, path: &str, resources: &Resources) -> io::Result<()> {
        let set = |controller: &str, file: &str, value: String| {
            let file = self.directory(controller, path).join(file);
            fs::write(&file, &value)
                .map_err(|error| io::Error::new(error.kind(), format!("write {value:?} to {}: {error}", file.display())))
        };
        let v2 = self.v1.is_empty();
        if let Some(shares) = resources.cpu_shares {
            let shares = shares.clamp(2, 262_144);
            // The map that runc and the kubelet use from shares to weight.
            if v2 {
                set("", "cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string())?;
            } else {
                set("cpu", "cpu.shares", shares.to_string())?;
            }
        }
        let period = resources.cpu_period_us.filter(|period| *period > 0);
        if v2 {
            if let Some(quota) = resources.cpu_quota_us {
                let quota = if quota <= 0 { "max".to_owned() } else { quota.to_string() };
                set("", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000)))?;
            }
        } else if resources.cpu_quota_us.is_some() || period.is_some() {
            // Where the parent's quota is smaller for the old period, the other order is needed.
            let quota = resources.cpu_quota_us.map_or(-1, |quota| if quota <= 0 { -1 } else { quota });
            if let Some(period) = period
                && set("cpu", "cpu.cfs_period_us", period.to_string()).is_err()
            {
                set("cpu", "cpu.cfs_quota_us", quota.to_string())?;
                set("cpu", "cpu.cfs_period_us", period.to_string())?;
            }
            set("cpu", "cpu.cfs_quota_us", quota.to_string())?;
        }
        if let Some(bytes) = resources.memory_limit_bytes.filter(|bytes| *bytes > 0) {
            if v2 {
                set("", "memory.max", bytes.to_string())?;
            } else {
                set("memory", "memory.limit_in_bytes", bytes.to_string())?;
            }
        }
        if let Some(limit) = resources.pids_limit.filter(|limit| *limit > 0) {
            set("pids", "pids.max", limit.to_string())?;
        }
        Ok(())
    }

    /// Forbids all but the usual devices. With version 2 this takes a BPF program, which is not
    /// loaded; the container's file systems are mounted `nodev` instead.
    pub fn restrict_devices(&self, path: &str) -> io::Result<()> {
        if !self.v1.iter().any(|name| name == "devices") {
            return Ok(());
        }
        let directory = self.directory("devices", path);
        fs::write(directory.join("devices.deny"), "a")?;
        for rule in ALLOWED_DEVICES {
            fs::write(directory.join("devices.allow"), rule)?;
        }
        Ok(())
    }

    /// Files to which a process writes `0` to join the group.
    pub fn procs_files(&self, path: &str) -> Vec<PathBuf> {
        self.directories(path).into_iter().map(|directory| directory.join("cgroup.procs")).collect()
    }

    /// Files that list or kill every process of the group.
    pub fn kill_files(&self, path: &str) -> Vec<PathBuf> {
        if self.v1.is_empty() {
            let directory = self.directory("", path);
            return vec![directory.join("cgroup.kill"), directory.join("cgroup.procs")];
        }
        self.procs_files(path).into_iter().take(1).collect()
    }

    /// File with a line `oom_kill N` that counts the group's own victims.
    pub fn oom_file(&self, path: &str) -> Option<PathBuf> {
        let (controller, file) = if self.v1.is_empty() { ("", "memory.events") } else { ("memory", "memory.oom_control") };
        Some(self.directory(controller, path).join(file)).filter(|file| file.exists())
    }

    /// What the group uses.
    pub fn usage(&self, path: &str) -> io::Result<Usage> {
        if self.v1.is_empty() {
            let directory = self.directory("", path);
            let memory = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
            return Ok(Usage {
                cpu_ns: field(&fs::read_to_string(directory.join("cpu.stat"))?, "usage_usec") * 1000,
                memory: number(&directory.join("memory.current")).unwrap_or(0),
                inactive_file: field(&memory, "inactive_file"),
                rss: field(&memory, "anon"),
                faults: field(&memory, "pgfault"),
                major_faults: field(&memory, "pgmajfault"),
            });
        }
        let directory = self.directory("memory", path);
        let memory = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
        Ok(Usage {
            cpu_ns: number(&self.directory("cpuacct", path).join("cpuacct.usage"))?,
            memory: number(&directory.join("memory.usage_in_bytes")).unwrap_or(0),
            inactive_file: field(&memory, "total_inactive_file"),
            rss: field(&memory, "total_rss"),
            faults: field(&memory, "total_pgfault"),
            major_faults: field(&memory, "total_pgmajfault"),
        })
    }

    /// Tasks that run in the group and below it.
    pub fn tasks(&self, path: &str) -> u64 {
        number(&self.directory("pids", path).join("pids.current")).unwrap_or(0)
    }

    /// Kills every process of the group.
    pub fn kill(&self, path: &str) {
        for file in self.kill_files(path) {
            if file.ends_with("cgroup.kill") {
                let _ = fs::write(file, "1");
                continue;
            }
            for pid in
                fs::read_to_string(file).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1)
            {
                // One that has just ended is as good as killed.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }

    /// Removes a group without processes. A missing one is fine.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        for directory in self.directories(path) {
            match fs::remove_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Makes one group; an existing one is fine.
fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("make control group {}: {error}", directory.display()))),
    }
}

/// Hands every controller that `directory` has to its children (version 2).
fn delegate(directory: &Path) {
    for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
        // A controller that is not there cannot be handed on; its limits then fail with a text of their own.
        let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn number(file: &Path) -> io::Result<u64> {
    fs::read_to_string(file)?.trim().parse().map_err(io::Error::other)
}

/// The number after `name` on a line of its own; 0 where missing.
pub fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), 3);
        assert_eq!(field(text, "oom"), 0);
    }
}
