//! Forks of the shim: container processes and execs.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Pid, fork};

use super::process::{self, ChildResult, Stdio, context};
use super::protocol::{self, PidNamespace, ProcessSpec, StartSpec};
use super::rootfs;

/// A process that came to its command.
pub struct Spawned {
    /// As the shim sees it.
    pub pid: Pid,
    /// The terminal's master, where there is one.
    pub master: Option<OwnedFd>,
}

/// A pipe whose ends close on exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// Starts a container's main process. `pod` is a descriptor of the pod's PID name space.
pub fn start(spec: &StartSpec, stdio: Streams, own: &OwnedFd, pod: Option<&OwnedFd>) -> Result<Spawned, String> {
    let enter = || match spec.pid_namespace {
        PidNamespace::Own => unshare(CloneFlags::CLONE_NEWPID),
        PidNamespace::Pod => match pod {
            Some(pod) => setns(pod, CloneFlags::CLONE_NEWPID),
            None => Err(nix::Error::ESRCH),
        },
        PidNamespace::Machine => Ok(()),
    };
    spawn(stdio, own, enter, |stdio| {
        process::join_cgroups(&spec.process)?;
        let mut flags = CloneFlags::CLONE_NEWNS;
        if !spec.process.security.privileged {
            flags |= CloneFlags::CLONE_NEWCGROUP;
        }
        context("unshare", unshare(flags))?;
        rootfs::enter(spec)?;
        process::become_command(&spec.process, stdio, spec.process.tty)
    })
}

/// Runs a process in the container whose main process is `main`.
pub fn exec(spec: &ProcessSpec, main: Pid, stdio: Streams, own: &OwnedFd) -> Result<Spawned, String> {
    let open =
        |name: &str| File::open(format!("/proc/{main}/ns/{name}")).map_err(|error| format!("container is not running: {error}"));
    let (pid_ns, mnt, cgroup) = (open("pid")?, open("mnt")?, open("cgroup")?);
    spawn(
        stdio,
        own,
        || setns(&pid_ns, CloneFlags::CLONE_NEWPID),
        |stdio| {
            process::join_cgroups(spec)?;
            context("join cgroup name space", setns(&cgroup, CloneFlags::CLONE_NEWCGROUP))?;
            context("join mount name space", setns(&mnt, CloneFlags::CLONE_NEWNS))?;
            process::become_command(spec, stdio, false)
        },
    )
}

/// What the child's standard streams are to be.
pub enum Streams {
    /// These descriptors.
    Given {
        /// Standard input.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: Option<OwnedFd>,
        /// Standard error.
        stderr: Option<OwnedFd>,
    },
    /// A terminal.
    Terminal,
}

/// Forks with children's PID name space set by `enter`, and waits until the child has become its
/// command or has said why not.
fn spawn<E, B>(streams: Streams, own: &OwnedFd, enter: E, body: B) -> Result<Spawned, String>
where
    E: FnOnce() -> nix::Result<()>,
    B: FnOnce(Stdio) -> ChildResult<Infallible>,
{
    let (report, report_to) = context("pipe", pipe())?;
    let (terminal, stdio) = match streams {
        Streams::Given { stdin, stdout, stderr } => (None, Stdio::Pipes { stdin, stdout, stderr }),
        Streams::Terminal => {
            let (ours, theirs) = context("socketpair", std::os::unix::net::UnixStream::pair())?;
            (Some(ours), Stdio::Terminal { master_to: theirs.into() })
        }
    };
    context("enter PID name space", enter())?;
    // SAFETY: the shim has one thread, so that the child may use everything that the parent may.
    let forked = unsafe { fork() };
    if let Ok(ForkResult::Child) = forked {
        let failure = process::reset_signals().and_then(|()| body(stdio));
        let Err(text) = failure;
        let _ = File::from(report_to).write_all(text.as_bytes());
        // SAFETY: ends the child without running the parent's destructors or exit handlers.
        unsafe { libc::_exit(128) };
    }
    let back = setns(own, CloneFlags::CLONE_NEWPID);
    drop((report_to, stdio));
    let ForkResult::Parent { child } = context("fork", forked)? else { unreachable!("the child has exited above") };
    if let Err(error) = back {
        kill_and_reap(child);
        return Err(format!("leave PID name space: {error}"));
    }
    let mut text = String::new();
    let mut report = File::from(report);
    if wait_readable(report.as_fd(), 60_000) {
        let _ = report.read_to_string(&mut text);
    } else {
        "timed out waiting for the process to start".clone_into(&mut text);
    }
    if !text.is_empty() {
        kill_and_reap(child);
        return Err(text);
    }
    let mut master = None;
    if let Some(socket) = terminal {
        let (mut data, mut fds) = (Vec::new(), Vec::new());
        let _ = protocol::receive_with_fds(socket.as_raw_fd(), &mut data, &mut fds);
        master = fds.pop();
        if master.is_none() {
            kill_and_reap(child);
            return Err("the process ended before it had a terminal".to_owned());
        }
    }
    Ok(Spawned { pid: child, master })
}

fn wait_readable(fd: std::os::fd::BorrowedFd<'_>, limit_ms: u16) -> bool {
    let mut set = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
    loop {
        match nix::poll::poll(&mut set, limit_ms) {
            Err(nix::Error::EINTR) => {}
            Ok(count) => return count > 0,
            Err(_) => return false,
        }
    }
}

fn kill_and_reap(child: Pid) {
    let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
    while nix::sys::wait::waitpid(child, None) == Err(nix::Error::EINTR) {}
}

/// Forks the process that holds a pod's shared PID name space: it reaps what is orphaned there.
pub fn pause(own: &OwnedFd) -> Result<(Pid, OwnedFd), String> {
    context("unshare PID name space", unshare(CloneFlags::CLONE_NEWPID))?;
    // SAFETY: the shim has one thread.
    let forked = unsafe { fork() };
    if let Ok(ForkResult::Child) = forked {
        // SAFETY: plain calls; the loop below ends only when the process is killed.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0u32);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            loop {
                let mut signal = 0;
                libc::sigwait(&raw const set, &raw mut signal);
                while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {}
            }
        }
    }
    let back = setns(own, CloneFlags::CLONE_NEWPID);
    let ForkResult::Parent { child } = context("fork", forked)? else { unreachable!("the child never returns") };
    context("leave PID name space", back)?;
    let namespace = context("open the pod's PID name space", File::open(format!("/proc/{child}/ns/pid")))?;
    Ok((child, namespace.into()))
}

/// Takes ownership of a raw descriptor that a call has just returned.
pub fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: callers pass what open-like calls returned, checked to be no error.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
