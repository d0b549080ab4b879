//! What a machine uses, read inside it at the top of its control groups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where a machine's control groups are.
const TOP: &str = "/sys/fs/cgroup";

/// Memory and CPU figures of the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Memory limit in bytes.
    pub memory_limit_bytes: u64,
    /// Memory in use in bytes, page cache included.
    pub memory_bytes: u64,
    /// Inactive page cache in bytes.
    pub inactive_file_bytes: u64,
    /// Active page cache in bytes.
    pub active_file_bytes: u64,
    /// Anonymous memory in bytes.
    pub anonymous_bytes: u64,
    /// Shared memory and tmpfs in bytes.
    pub shared_bytes: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Major page faults.
    pub major_page_faults: u64,
    /// CPU time in nanoseconds.
    pub cpu_ns: u64,
    /// CPU limit in thousandths of a core; 0 for none.
    pub cpu_millis: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// Most processes and threads at once.
    pub tasks_max: u64,
}

/// Reads the figures of the machine that this process lives in.
pub fn read() -> io::Result<Usage> {
    let top = Path::new(TOP);
    if top.join("cgroup.controllers").exists() { read_v2(top) } else { read_v1(top) }
}

/// Reads the memory figures only.
pub fn read_memory() -> io::Result<Usage> {
    let top = Path::new(TOP);
    let mut usage = Usage::default();
    if top.join("cgroup.controllers").exists() {
        memory_v2(top, &mut usage)?;
    } else {
        memory_v1(&top.join("memory"), &mut usage)?;
    }
    Ok(usage)
}

fn memory_v1(group: &Path, usage: &mut Usage) -> io::Result<()> {
    usage.memory_limit_bytes = number(group.join("memory.limit_in_bytes"))?;
    usage.memory_bytes = number(group.join("memory.usage_in_bytes"))?;
    let stat = fs::read_to_string(group.join("memory.stat"))?;
    usage.inactive_file_bytes = field(&stat, "total_inactive_file");
    usage.active_file_bytes = field(&stat, "total_active_file");
    usage.anonymous_bytes = field(&stat, "total_rss");
    usage.shared_bytes = field(&stat, "total_shmem");
    usage.page_faults = field(&stat, "total_pgfault");
    usage.major_page_faults = field(&stat, "total_pgmajfault");
    Ok(())
}

fn memory_v2(group: &Path, usage: &mut Usage) -> io::Result<()> {
    usage.memory_limit_bytes = number(group.join("memory.max"))?;
    usage.memory_bytes = number(group.join("memory.current"))?;
    let stat = fs::read_to_string(group.join("memory.stat"))?;
    usage.inactive_file_bytes = field(&stat, "inactive_file");
    usage.active_file_bytes = field(&stat, "active_file");
    usage.anonymous_bytes = field(&stat, "anon");
    usage.shared_bytes = field(&stat, "shmem");
    usage.page_faults = field(&stat, "pgfault");
    usage.major_page_faults = field(&stat, "pgmajfault");
    Ok(())
}

fn read_v1(top: &Path) -> io::Result<Usage> {
    let mut usage = Usage::default();
    memory_v1(&top.join("memory"), &mut usage)?;
    usage.cpu_ns = number(top.join("cpuacct/cpuacct.usage"))?;
    let quota = number(top.join("cpu/cpu.cfs_quota_us")).unwrap_or(0);
    usage.cpu_millis = millis(quota, number(top.join("cpu/cpu.cfs_period_us"))?);
    usage.tasks = number(top.join("pids/pids.current"))?;
    usage.tasks_max = number(top.join("pids/pids.max"))?;
    Ok(usage)
}

fn read_v2(top: &Path) -> io::Result<Usage> {
    let mut usage = Usage::default();
    memory_v2(top, &mut usage)?;
    usage.cpu_ns = field(&fs::read_to_string(top.join("cpu.stat"))?, "usage_usec") * 1000;
    let limit = fs::read_to_string(top.join("cpu.max"))?;
    let mut words = limit.split_whitespace().map(|word| word.parse().unwrap_or(0));
    usage.cpu_millis = millis(words.next().unwrap_or(0), words.next().unwrap_or(0));
    usage.tasks = number(top.join("pids.current"))?;
    usage.tasks_max = number(top.join("pids.max"))?;
    Ok(usage)
}

fn millis(quota_us: u64, period_us: u64) -> u64 {
    (quota_us * 1000).checked_div(period_us).unwrap_or(0)
}

/// A file of one number; `max` is the largest, `-1` (no quota) is none.
fn number(file: PathBuf) -> io::Result<u64> {
    let text = fs::read_to_string(&file)?;
    match text.trim() {
        "max" => Ok(u64::MAX),
        "-1" => Ok(0),
        digits => {
            digits.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", file.display())))
        }
    }
}

fn field(stat: &str, name: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_whole_words() {
        let stat = "anon 5\nanon_thp 7\ninactive_file 9\n";
        assert_eq!(field(stat, "anon"), 5);
        assert_eq!(field(stat, "inactive_file"), 9);
        assert_eq!(field(stat, "file"), 0);
    }

    #[test]
    fn quotas_become_thousandths() {
        assert_eq!(millis(150_000, 100_000), 1500);
        assert_eq!(millis(0, 100_000), 0);
        assert_eq!(millis(5, 0), 0);
    }
}
