//! Medians, percentiles, memory and processor time of processes, and how a figure is printed.

use std::fs;
use std::time::Duration;

/// Heads what [`print`] prints.
pub const HEADER: &str = "                                                        measured        asked";

/// Prints one figure with what is asked of it.
pub fn print(what: &str, measured: &str, asked: &str) {
    println!("{what:<48} {measured:>15} {asked:>12}");
}

/// The middle one of sorted values.
pub fn median(values: &mut [Duration]) -> Duration {
    percentile(values, 50)
}

/// The value below which so many hundredths of all are.
pub fn percentile(values: &mut [Duration], hundredths: usize) -> Duration {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get((values.len() * hundredths / 100).min(last)).copied().unwrap_or_default()
}

/// `12.3 ms` or `1.23 s`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

/// `123 MB` (of a million bytes) from kibibytes.
pub fn megabytes(kib: u64) -> String {
    format!("{:.0} MB", kib as f64 * 1024.0 / 1e6)
}

/// Resident memory of a process in KiB.
pub fn rss(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The highest resident memory so far in KiB.
pub fn peak(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// Lets [`peak`] begin anew.
pub fn reset_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// A process's share of memory in KiB.
pub fn pss(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Processor time that a process has used.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    // User and system time; a tick is a hundredth of a second on every Linux of today.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
