//! What this host lacks to run machines, and how to get it. Each check tries the thing itself.
#![expect(clippy::disallowed_methods, reason = "namespaces are tried on a thread that ends afterwards")]

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use daruma_world::machines::LinkEffect;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::machine::{cgroup, disk, link_faults};
use crate::netlink::link::{self, End, Place};
use crate::netlink::{Socket, namespace, nf_tables};

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub name: &'static str,
    /// What is wrong; `None` when all is well.
    pub problem: Option<String>,
    /// How to get what is missing.
    pub hint: &'static str,
    /// Whether a cluster can run without it.
    pub optional: bool,
}

impl Finding {
    /// Whether the check passed.
    pub fn is_well(&self) -> bool {
        self.problem.is_none()
    }
}

struct Check {
    name: &'static str,
    hint: &'static str,
    optional: bool,
    run: fn() -> Result<(), String>,
}

/// Every check, in the order in which findings are read best.
const ALL: &[Check] = &[
    Check { name: "root", hint: "run it as root, for example with sudo", optional: false, run: root },
    Check {
        name: "namespaces",
        hint: "needs a kernel with pid, mount, network, uts, ipc and cgroup namespaces, and all capabilities",
        optional: false,
        run: namespaces,
    },
    Check { name: "cgroups", hint: CGROUP_HINT, optional: false, run: cgroups },
    Check { name: "freezer", hint: "mount cgroup2, or the version 1 freezer controller", optional: true, run: freezer },
    Check { name: "loop devices", hint: "modprobe loop", optional: false, run: loop_devices },
    Check { name: "ext4", hint: "modprobe ext4", optional: false, run: ext4 },
    Check { name: "mkfs.ext4", hint: "apt-get install e2fsprogs", optional: false, run: mkfs },
    Check { name: "overlay", hint: "modprobe overlay", optional: false, run: overlay },
    Check { name: "bridge", hint: "modprobe bridge", optional: false, run: bridge },
    Check { name: "veth", hint: "modprobe veth", optional: false, run: veth },
    Check { name: "nf_tables", hint: "modprobe nf_tables", optional: false, run: nf_tables },
    Check { name: "cut links", hint: FAULT_HINT, optional: true, run: || link_faults::probe::supports(LinkEffect::Cut) },
    Check { name: "lossy links", hint: FAULT_HINT, optional: true, run: || link_faults::probe::supports(LinkEffect::Loss(1.0)) },
    Check {
        name: "narrow links",
        hint: FAULT_HINT,
        optional: true,
        run: || link_faults::probe::supports(LinkEffect::Bandwidth(1 << 20)),
    },
    Check {
        name: "slow links",
        hint: FAULT_HINT,
        optional: true,
        run: || link_faults::probe::supports(LinkEffect::Delay(Duration::from_millis(1))),
    },
];

const FAULT_HINT: &str = "drills that need it play in the virtual world";
const CGROUP_HINT: &str = "mount cgroup2 with the cpu, memory and pids controllers at /sys/fs/cgroup, or their version 1 \
                           hierarchies; some kernels need cgroup_enable=memory at boot";

/// Checks everything. Takes some milliseconds and leaves nothing behind.
pub fn check() -> Vec<Finding> {
    let run =
        |check: &Check| Finding { name: check.name, problem: (check.run)().err(), hint: check.hint, optional: check.optional };
    ALL.iter().map(run).collect()
}

fn root() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err("this is not root".to_owned()) }
}

fn namespaces() -> Result<(), String> {
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    if !Path::new("/proc/self/ns/pid").exists() {
        return Err("the kernel has no pid namespaces".to_owned());
    }
    apart(all, || Ok(()))
}

fn cgroups() -> Result<(), String> {
    let hierarchies = cgroup::hierarchies().map_err(|error| error.to_string())?;
    let found = cgroup::controllers(&hierarchies);
    let missing: Vec<&str> = ["cpu", "memory", "pids"].into_iter().filter(|name| !found.iter().any(|has| has == name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("controllers are missing: {}", missing.join(", "))) }
}

/// Whether machines can hang.
pub(crate) fn freezer() -> Result<(), String> {
    let hierarchies = cgroup::hierarchies().map_err(|error| error.to_string())?;
    let frozen = |hierarchy: &cgroup::Hierarchy| hierarchy.is_v2() || hierarchy.controllers.iter().any(|name| name == "freezer");
    if hierarchies.iter().any(frozen) { Ok(()) } else { Err("machines cannot hang: nothing can freeze them".to_owned()) }
}

fn loop_devices() -> Result<(), String> {
    fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map(drop)
        .map_err(|error| format!("/dev/loop-control: {error}"))
}

fn ext4() -> Result<(), String> {
    let known = fs::read_to_string("/proc/filesystems").map_err(|error| error.to_string())?;
    if known.lines().any(|line| line.trim_end().ends_with("ext4")) || module_exists("ext4") {
        return Ok(());
    }
    Err("the kernel does not know ext4".to_owned())
}

fn module_exists(name: &str) -> bool {
    let release = nix::sys::utsname::uname().map(|system| system.release().to_string_lossy().into_owned());
    let listed = release.ok().and_then(|release| fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).ok());
    listed.is_some_and(|listed| listed.lines().any(|line| line.contains(&format!("/{name}.ko"))))
}

fn mkfs() -> Result<(), String> {
    disk::find_program("mkfs.ext4").map(drop).ok_or_else(|| "the program is not installed".to_owned())
}

fn overlay() -> Result<(), String> {
    apart(CloneFlags::CLONE_NEWNS, || {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        // A mount on a mount: invisible outside this thread's namespace, so the place does not matter.
        mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(Path::new("/tmp").join(name))?;
        }
        let options = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work";
        mount(Some("overlay"), "/tmp/merged", Some("overlay"), MsFlags::empty(), Some(options))?;
        umount2("/tmp/merged", MntFlags::MNT_DETACH)?;
        umount2("/tmp", MntFlags::MNT_DETACH)?;
        Ok(())
    })
}

fn bridge() -> Result<(), String> {
    apart(CloneFlags::CLONE_NEWNET, || link::add_bridge(&mut Socket::route()?, "br0"))
}

fn veth() -> Result<(), String> {
    apart(CloneFlags::CLONE_NEWNET, || {
        let own = namespace::current()?;
        let end = |name| End { name, mac: None, mtu: None };
        link::add_veth(&mut Socket::route()?, &end("here"), &end("there"), Place::Namespace(own.as_fd()))
    })
}

fn nf_tables() -> Result<(), String> {
    apart(CloneFlags::CLONE_NEWNET, || nf_tables::probe(&mut Socket::netfilter()?))
}

/// Runs `visit` on a thread of its own in new namespaces.
fn apart(flags: CloneFlags, visit: fn() -> io::Result<()>) -> Result<(), String> {
    let visited = thread::spawn(move || {
        unshare(flags)?;
        visit()
    });
    visited.join().map_err(|_| "the check panicked".to_owned())?.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_answers_and_has_a_hint() {
        let findings = check();
        assert_eq!(findings.len(), ALL.len());
        for finding in findings {
            println!("{}: {}", finding.name, finding.problem.as_deref().unwrap_or("well"));
            assert!(!finding.hint.is_empty());
        }
    }
}
