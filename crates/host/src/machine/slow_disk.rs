//! A machine's disk that takes its time: a limit on the write requests of its block device, which the kernel's block
//! layer keeps (linux block/blk-throttle.c).
//!
//! What is written but not yet synced stays as quick as memory; whoever waits for the disk (fsync) waits longer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{major, minor};

use super::cgroup::{Hierarchy, children, hierarchies, write};

/// Write requests that a transaction of the embedded store counts as: pages of its file that do not lie side by side.
/// Measured are 8.3 on average in an idle cluster; with 10 a client that writes one object after the other waits as long
/// on a real machine as on a simulated one. What writes fewer pages at a time waits less, in proportion.
const REQUESTS_A_WRITE: u32 = 10;
const V1_LIMIT: &str = "blkio.throttle.write_iops_device";
const V2_LIMIT: &str = "io.max";

/// Whether the kernel can do it.
///
/// # Errors
/// What is missing, for a person.
pub(crate) fn supported() -> Result<(), String> {
    let found = hierarchies().map_err(|error| format!("reading the control group hierarchies: {error}"))?;
    if found.iter().any(|it| limit_file(it).is_some()) {
        return Ok(());
    }
    Err("a machine's disk is slowed by limits of the block layer, and this kernel has neither the controller blkio of \
         control groups version 1 nor io of version 2: play it in the virtual world, or take a kernel with \
         CONFIG_BLK_DEV_THROTTLING"
        .to_owned())
}

/// The file of a hierarchy that holds the limit.
fn limit_file(hierarchy: &Hierarchy) -> Option<&'static str> {
    if hierarchy.is_v2() {
        let listed = fs::read_to_string(hierarchy.mount.join("cgroup.controllers")).unwrap_or_default();
        return listed.split_whitespace().any(|name| name == "io").then_some(V2_LIMIT);
    }
    let has = hierarchy.controllers.iter().any(|name| name == "blkio");
    (has && hierarchy.mount.join(V1_LIMIT).exists()).then_some(V1_LIMIT)
}

/// Makes every transaction of the store on the block device `device`, by processes in `groups`, take about `delay`
/// longer, or as long as it needs (`None`). `groups` are a machine's, one a hierarchy.
///
/// Groups of version 1 do not hand this limit down, so it is set in all there are: call it again for newer ones.
///
/// # Errors
/// The kernel's, of the first group that refuses.
pub(crate) fn set(groups: &[(Hierarchy, PathBuf)], device: u64, delay: Option<Duration>) -> io::Result<()> {
    for (hierarchy, group) in groups {
        let Some(file) = limit_file(hierarchy) else { continue };
        let line = line(file, device, delay);
        if hierarchy.is_v2() {
            write(group, file, &line)?;
        } else {
            set_below(group, &line)?;
        }
    }
    Ok(())
}

fn set_below(group: &Path, line: &str) -> io::Result<()> {
    write(group, V1_LIMIT, line)?;
    for child in children(group) {
        match set_below(&child, line) {
            // A container that ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) => {}
            other => other?,
        }
    }
    Ok(())
}

fn line(file: &str, device: u64, delay: Option<Duration>) -> String {
    let (major, minor) = (major(device), minor(device));
    let rate = delay.map(requests_a_second);
    if file == V2_LIMIT {
        let rate = rate.map_or("max".to_owned(), |rate| rate.to_string());
        return format!("{major}:{minor} wiops={rate}");
    }
    // 0 is no limit.
    format!("{major}:{minor} {}", rate.unwrap_or(0))
}

fn requests_a_second(delay: Duration) -> u64 {
    (f64::from(REQUESTS_A_WRITE) / delay.as_secs_f64()).ceil().clamp(1.0, 1e6) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_spelled_as_the_kernel_reads_them() {
        let device = nix::sys::stat::makedev(7, 3);
        let half = Some(Duration::from_millis(500));
        assert_eq!(line(V1_LIMIT, device, half), "7:3 20");
        assert_eq!(line(V1_LIMIT, device, None), "7:3 0");
        assert_eq!(line(V2_LIMIT, device, half), "7:3 wiops=20");
        assert_eq!(line(V2_LIMIT, device, None), "7:3 wiops=max");
        assert_eq!(line(V1_LIMIT, device, Some(Duration::from_secs(90))), "7:3 1", "never none at all");
    }
}
