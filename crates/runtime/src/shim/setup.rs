//! The beginning of a shim: into the background, the pod's name spaces, the control socket.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, Pid, fork};

use super::process::{ChildResult, check, context};
use super::protocol::ShimSpec;
use super::spawn;

/// What the running shim holds.
pub struct Sandbox {
    /// Its directory on the volatile file system.
    pub directory: PathBuf,
    /// What it was asked for.
    pub spec: ShimSpec,
    /// The control socket.
    pub listener: UnixListener,
    /// Readable when a child has ended.
    pub signals: OwnedFd,
    /// The shim's own PID name space.
    pub own_pid_ns: OwnedFd,
    /// The process and name space that the pod's containers share, where they do.
    pub pod: Option<(Pid, OwnedFd)>,
}

/// Forks into the background. `None` in the caller's process, once the shim is ready.
pub fn background(directory: &Path) -> ChildResult<Option<Sandbox>> {
    let (report, report_to) = context("pipe", spawn::pipe())?;
    // SAFETY: this is called before any thread exists.
    if let ForkResult::Parent { .. } = context("fork", unsafe { fork() })? {
        drop(report_to);
        let mut text = String::new();
        context("wait for the shim", File::from(report).read_to_string(&mut text))?;
        return if text == "ready" { Ok(None) } else { Err(if text.is_empty() { "the shim died".to_owned() } else { text }) };
    }
    drop(report);
    let mut report_to = File::from(report_to);
    match set_up(directory) {
        Ok(sandbox) => {
            let _ = report_to.write_all(b"ready");
            Ok(Some(sandbox))
        }
        Err(text) => {
            undo(directory);
            let _ = report_to.write_all(text.as_bytes());
            std::process::exit(1)
        }
    }
}

fn set_up(directory: &Path) -> ChildResult<Sandbox> {
    let spec: ShimSpec = context("read shim.json", fs::read(directory.join(super::SPEC)))
        .and_then(|text| context("read shim.json", serde_json::from_slice(&text)))?;
    detach(directory)?;
    for file in &spec.procs_files {
        context(format_args!("join control group {}", file.display()), fs::write(file, "0"))?;
    }
    // The kernel's preference goes to containers before their shim, as far as we may say so.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");

    let mut flags = CloneFlags::empty();
    if spec.netns.is_some() {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    if spec.hostname.is_some() {
        flags |= CloneFlags::CLONE_NEWUTS;
    }
    if spec.shm.is_some() {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    context("unshare", unshare(flags))?;
    if let Some(name) = &spec.hostname {
        context("set host name", nix::unistd::sethostname(name))?;
    }
    let none: Option<&str> = None;
    if let Some(path) = &spec.netns {
        loopback_up()?;
        // Any user may open low ports and ping: containerd's enable_unprivileged_ports and _icmp.
        let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
        let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
        context("make network name space file", fs::write(path, ""))?;
        context("bind network name space", mount(Some("/proc/self/ns/net"), path, none, MsFlags::MS_BIND, none))?;
    }
    for (name, value) in &spec.sysctls {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        context(format_args!("set sysctl {name}={value}"), fs::write(file, value))?;
    }
    if let Some(path) = &spec.shm {
        context("make shm directory", fs::create_dir_all(path))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
        context("mount shm", mount(Some("shm"), path, Some("tmpfs"), flags, Some("mode=1777,size=65536k")))?;
    }
    let own_pid_ns: OwnedFd = context("open own PID name space", File::open("/proc/self/ns/pid"))?.into();
    let pod = if spec.pod_pid { Some(spawn::pause(&own_pid_ns)?) } else { None };
    let signals = child_signals()?;
    let listener = context("bind control socket", UnixListener::bind(directory.join(super::SOCKET)))?;
    context("control socket", listener.set_nonblocking(true))?;
    context("write pid", fs::write(directory.join(super::PID), std::process::id().to_string()))?;
    Ok(Sandbox { directory: directory.to_owned(), spec, listener, signals, own_pid_ns, pod })
}

/// Leaves the caller's session, streams and working directory.
fn detach(directory: &Path) -> ChildResult<()> {
    let null = context("open /dev/null", fs::OpenOptions::new().read(true).write(true).open("/dev/null"))?;
    let log = context("open shim.log", fs::OpenOptions::new().create(true).append(true).open(directory.join("shim.log")))?;
    // SAFETY: plain calls on this process and descriptors that it owns.
    unsafe {
        libc::setsid();
        libc::umask(0o022);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        context("subreaper", check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0).into()))?;
        libc::prctl(libc::PR_SET_NAME, c"daruma-shim".as_ptr());
        for target in 0..2 {
            context("redirect streams", check(libc::dup2(null.as_raw_fd(), target).into()))?;
        }
        context("redirect streams", check(libc::dup2(log.as_raw_fd(), 2).into()))?;
    }
    context("chdir", std::env::set_current_dir("/"))
}

/// Blocks the signals that a shim lives through, and makes SIGCHLD readable.
fn child_signals() -> ChildResult<OwnedFd> {
    // SAFETY: the sets are initialised by sigemptyset before use; the descriptor returned is ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        context("block signals", check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into()))?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into());
        Ok(spawn::own(context("signalfd", fd)?))
    }
}

/// Turns the loopback card of a new network name space on.
fn loopback_up() -> ChildResult<()> {
    // SAFETY: the request structure is zeroed, holds a NUL-terminated name and lives through the calls.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0).into());
        let socket = spawn::own(context("socket", socket)?);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        context("set lo up", check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request).into()))?;
    }
    Ok(())
}

/// Takes back what [`background`] put into the machine's mount name space. Also called by the
/// engine for a shim that died.
pub fn undo(directory: &Path) {
    let Ok(text) = fs::read(directory.join(super::SPEC)) else { return };
    let Ok(spec) = serde_json::from_slice::<ShimSpec>(&text) else { return };
    if let Some(path) = &spec.netns {
        let _ = umount2(path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(path);
    }
    if let Some(path) = &spec.shm {
        let _ = umount2(path, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_file(directory.join(super::SOCKET));
}
