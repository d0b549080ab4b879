//! Containers of a machine as its control groups show them to the host.
//!
//! Invariant: an engine names a container's control group by the container's id, 64 hexadecimal digits.
#![expect(clippy::disallowed_methods, reason = "waits for the kernel to stop processes")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daruma_world::machines::Signal;
use nix::errno::Errno;
use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::Pid;

/// Groups are nested no deeper below a machine: kubepods, quality of service, pod, container.
const DEPTH: u8 = 6;
/// Rounds after which no process is expected to be new.
const ROUNDS: u8 = 20;

/// Ids of the containers below `group` in which processes live.
pub fn living(group: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    visit(group, DEPTH, &mut |path, name| {
        if is_id(name) && !processes(path).is_empty() {
            found.insert(name.to_owned());
        }
    });
    found
}

/// The group of a container below `group`.
pub(crate) fn find(group: &Path, id: &str) -> Option<PathBuf> {
    let mut found = None;
    visit(group, DEPTH, &mut |path, name| {
        if name == id {
            found = Some(path.to_owned());
        }
    });
    found
}

/// Sends a signal to every process of the container whose group is `container`; a request to end goes to its main
/// process alone, as engines do it. False where none lives.
///
/// Pausing stops each process, not the group: what is stopped so can be killed, as the kubelet expects.
pub(crate) fn signal(container: &Path, signal: Signal) -> io::Result<bool> {
    let number = match signal {
        Signal::Kill => Number::SIGKILL,
        Signal::Terminate => Number::SIGTERM,
        Signal::Pause => Number::SIGSTOP,
        Signal::Continue => Number::SIGCONT,
        Signal::Stop | Signal::Start => return Err(io::ErrorKind::Unsupported.into()),
    };
    let mut reached = BTreeSet::new();
    // A process may fork just before the signal reaches it.
    for _ in 0..ROUNDS {
        let mut new: Vec<i32> = processes(container).into_iter().filter(|pid| !reached.contains(pid)).collect();
        if signal == Signal::Terminate && new.iter().any(|pid| is_main(*pid)) {
            new.retain(|pid| is_main(*pid));
        }
        if new.is_empty() {
            break;
        }
        for pid in new {
            match kill(Pid::from_raw(pid), number) {
                Ok(()) | Err(Errno::ESRCH) => reached.insert(pid),
                Err(errno) => return Err(errno.into()),
            };
        }
        if signal == Signal::Terminate {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(!reached.is_empty())
}

/// The processes of a group and of those inside it, as the host numbers them.
fn processes(group: &Path) -> Vec<i32> {
    let listed = |path: &Path| fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = listed(group).lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1).collect();
    visit(group, DEPTH, &mut |path, _| found.extend(listed(path).lines().filter_map(|line| line.parse::<i32>().ok())));
    found
}

/// Whether a process is the first one of its own process tree (`NSpid` in proc_pid_status(5)).
fn is_main(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    numbers.split_whitespace().next_back() == Some("1")
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn visit(group: &Path, depth: u8, seen: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        seen(&entry.path(), &entry.file_name().to_string_lossy());
        if depth > 1 {
            visit(&entry.path(), depth - 1, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_found_by_their_ids() {
        let top = std::env::temp_dir().join(format!("daruma-containers-{}", std::process::id()));
        let id = "ab".repeat(32);
        for (path, listed) in [
            ("kubepods/burstable/pod1", ""),
            (&format!("kubepods/burstable/pod1/{id}"), "4194303\n"),
            (&format!("kubepods/pod2/{}", "c".repeat(64)), ""),
        ] {
            fs::create_dir_all(top.join(path)).unwrap();
            fs::write(top.join(path).join("cgroup.procs"), listed).unwrap();
        }
        assert_eq!(living(&top), BTreeSet::from([id.clone()]));
        assert_eq!(find(&top, &id), Some(top.join("kubepods/burstable/pod1").join(&id)));
        assert_eq!(find(&top, "other"), None);
        fs::remove_dir_all(&top).unwrap();
    }
}
