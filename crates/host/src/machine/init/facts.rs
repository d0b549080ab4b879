//! What the machine says of itself: its identity and its limits in `/proc`, `/sys`, `/etc` and `/run/daruma`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::mounts::{self, HostView};
use crate::machine::power::Boot;
use crate::machine::usage::{self, Usage};
use crate::machine::{Doing, MachineError};

/// Where [`MachineFacts`] are written, in JSON.
pub(crate) const FACTS_FILE: &str = "/run/daruma/machine.json";
const DIRECTORY: &str = "/run/daruma/proc";

/// Facts of a machine that no kernel file tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineFacts {
    pub name: String,
    pub cluster: String,
    pub boot_id: String,
    pub system_uuid: String,
    pub memory_bytes: u64,
    pub cpu_millis: u64,
    pub address: Ipv4Addr,
}

/// Writes the facts and covers the kernel's files that would tell of the host. Call it in the machine's own tree.
pub(super) fn publish(boot: &Boot, host: &HostView) -> Result<(), MachineError> {
    let spec = &boot.spec;
    fs::create_dir_all(DIRECTORY).doing(|| format!("making {DIRECTORY}"))?;
    let facts = MachineFacts {
        name: spec.name.clone(),
        cluster: spec.cluster.clone(),
        boot_id: boot.boot_id.clone(),
        system_uuid: spec.system_uuid.clone(),
        memory_bytes: spec.memory_bytes,
        cpu_millis: (spec.cpus * 1000.0).round() as u64,
        address: spec.address,
    };
    let json = serde_json::to_vec(&facts).map_err(io::Error::from).doing(|| "writing the machine's facts".to_owned())?;
    fs::write(FACTS_FILE, json).doing(|| format!("writing {FACTS_FILE}"))?;
    let cpus = cpu_count(spec.cpus, &host.cpuinfo);
    let online = if cpus == 1 { "0\n".to_owned() } else { format!("0-{}\n", cpus - 1) };
    let usage = usage::read_memory().unwrap_or_default();
    for (name, content, target) in [
        ("boot_id", format!("{}\n", boot.boot_id), "/proc/sys/kernel/random/boot_id"),
        ("cpuinfo", cpuinfo(&host.cpuinfo, cpus), "/proc/cpuinfo"),
        ("online", online, "/sys/devices/system/cpu/online"),
        ("product_uuid", format!("{}\n", spec.system_uuid), "/sys/class/dmi/id/product_uuid"),
        ("meminfo", meminfo(spec.memory_bytes, &usage), "/proc/meminfo"),
    ] {
        let path = Path::new(DIRECTORY).join(name);
        fs::write(&path, content).doing(|| format!("writing {}", path.display()))?;
        mounts::cover(&path, target)?;
    }
    Ok(())
}

/// Keeps `/proc/meminfo` fresh.
#[derive(Debug)]
pub(super) struct Meminfo {
    file: File,
    total_bytes: u64,
}

impl Meminfo {
    pub(super) fn open(total_bytes: u64) -> io::Result<Self> {
        Ok(Self { file: File::options().write(true).open(Path::new(DIRECTORY).join("meminfo"))?, total_bytes })
    }

    /// Writes the figures of now over the old ones; every version has the same length, so no reader sees a torn end.
    pub(super) fn refresh(&self) -> io::Result<()> {
        let usage = usage::read_memory()?;
        self.file.write_all_at(meminfo(self.total_bytes, &usage).as_bytes(), 0)
    }
}

/// The CPUs to show: the limit rounded up, but no more than the host has.
fn cpu_count(limit: f64, cpuinfo: &str) -> usize {
    let of_host = cpuinfo.lines().filter(|line| line.starts_with("processor")).count().max(1);
    (limit.ceil() as usize).clamp(1, of_host)
}

fn cpuinfo(of_host: &str, cpus: usize) -> String {
    let mut shown = String::new();
    for block in of_host.split_inclusive("\n\n").take(cpus) {
        shown.push_str(block);
    }
    shown
}

fn meminfo(total_bytes: u64, usage: &Usage) -> String {
    let cached = usage.inactive_file_bytes + usage.active_file_bytes + usage.shared_bytes;
    let free = total_bytes.saturating_sub(usage.memory_bytes);
    let available = (free + usage.inactive_file_bytes + usage.active_file_bytes).min(total_bytes);
    let mut text = String::new();
    for (name, bytes) in [
        ("MemTotal", total_bytes),
        ("MemFree", free),
        ("MemAvailable", available),
        ("Buffers", 0),
        ("Cached", cached),
        ("SwapCached", 0),
        ("Active(file)", usage.active_file_bytes),
        ("Inactive(file)", usage.inactive_file_bytes),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("AnonPages", usage.anonymous_bytes),
        ("Shmem", usage.shared_bytes),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<16}{:>12} kB", format!("{name}:"), bytes / 1024);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_keeps_its_length() {
        let some = Usage { memory_bytes: 700 << 20, inactive_file_bytes: 100 << 20, ..Usage::default() };
        let text = meminfo(1 << 30, &some);
        assert!(
            text.starts_with(
                "MemTotal:            1048576 kB\nMemFree:              331776 kB\nMemAvailable:         434176 kB\n"
            ),
            "{text}"
        );
        assert_eq!(text.len(), meminfo(1 << 30, &Usage::default()).len());
    }

    #[test]
    fn shows_the_limit_of_processors() {
        let host = "processor\t: 0\nmodel name\t: X\n\nprocessor\t: 1\nmodel name\t: X\n\n";
        assert_eq!(cpu_count(0.5, host), 1);
        assert_eq!(cpu_count(1.5, host), 2);
        assert_eq!(cpu_count(64.0, host), 2);
        assert_eq!(cpuinfo(host, 1), "processor\t: 0\nmodel name\t: X\n\n");
    }
}
