//! The last steps of a process on its way into a container: terminal, user, rights, execve.
//!
//! Everything here runs in a freshly forked child of the single-threaded shim.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::capabilities;
use super::protocol::ProcessSpec;
use super::users;

/// Why a child did not come to its command; fit for an event.
pub type ChildResult<T> = Result<T, String>;

/// Says what failed.
pub fn context<T, E: std::fmt::Display>(what: impl std::fmt::Display, result: Result<T, E>) -> ChildResult<T> {
    result.map_err(|error| format!("{what}: {error}"))
}

/// Turns the last error of the C library into a result.
pub fn check(code: libc::c_long) -> io::Result<libc::c_long> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

/// Where a child's standard streams come from.
pub enum Stdio {
    /// Given descriptors; `/dev/null` where none.
    Pipes {
        /// Standard input.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: Option<OwnedFd>,
        /// Standard error.
        stderr: Option<OwnedFd>,
    },
    /// A new terminal, whose master goes to this socket.
    Terminal {
        /// Takes the master's descriptor.
        master_to: OwnedFd,
    },
}

/// Joins control groups.
pub fn join_cgroups(spec: &ProcessSpec) -> ChildResult<()> {
    for file in &spec.procs_files {
        context(format_args!("join control group {}", file.display()), fs::write(file, "0"))?;
    }
    Ok(())
}

/// Undoes what the shim has set for itself and children would inherit.
pub fn reset_signals() -> ChildResult<()> {
    // SAFETY: plain calls on this process's own signal state; the set is initialised by sigemptyset.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        context("unblock signals", check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()).into()))?;
    }
    Ok(())
}

/// Becomes the command. Called inside the container's name spaces and root.
pub fn become_command(spec: &ProcessSpec, stdio: Stdio, console: bool) -> ChildResult<Infallible> {
    // SAFETY: plain call; failing (already a leader) is harmless.
    unsafe { libc::setsid() };
    set_oom_score(spec.oom_score_adj)?;
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => {
            for (target, fd) in [(0, stdin), (1, stdout), (2, stderr)] {
                if let Some(fd) = fd {
                    duplicate(fd.as_raw_fd(), target)?;
                } else {
                    let null = context("open /dev/null", fs::OpenOptions::new().read(true).write(true).open("/dev/null"))?;
                    duplicate(null.as_raw_fd(), target)?;
                }
            }
        }
        Stdio::Terminal { master_to } => terminal(&master_to, console)?,
    }
    // Rust's own descriptors close on exec; this is for those that were inherited otherwise.
    // SAFETY: only sets a flag on descriptors of this process.
    context("close descriptors", check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 4u32) }))?;

    let identity = users::resolve(spec)?;
    let cwd = &spec.cwd;
    if !cwd.is_dir() {
        context(format_args!("mkdir {}", cwd.display()), fs::create_dir_all(cwd))?;
    }
    let mut env: Vec<String> = spec.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    own_streams(identity.uid);
    let capabilities = capabilities::wanted(&spec.security);
    capabilities::limit_bounding(capabilities)?;
    // SAFETY: plain calls that change the credentials of this single-threaded process.
    unsafe {
        context("keep capabilities", check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into()))?;
        context("setgroups", check(libc::setgroups(identity.groups.len(), identity.groups.as_ptr()).into()))?;
        context("setgid", check(libc::setresgid(identity.gid, identity.gid, identity.gid).into()))?;
        context("setuid", check(libc::setresuid(identity.uid, identity.uid, identity.uid).into()))?;
    }
    if spec.security.no_new_privileges {
        // SAFETY: plain call on this process.
        context("no_new_privs", check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()))?;
    }
    capabilities::set(capabilities)?;
    // After the change of credentials, which resets it: a container does not outlive its shim.
    // SAFETY: plain call on this process.
    context("set parent death signal", check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }.into()))?;
    context(
        format_args!("chdir to cwd ({:?}) set in config.json failed", cwd.display().to_string()),
        std::env::set_current_dir(cwd),
    )?;
    execute(&spec.argv, &env)
}

fn duplicate(from: RawFd, to: RawFd) -> ChildResult<()> {
    // SAFETY: both are descriptors of this process; dup2 clears the close-on-exec flag of the copy
    // unless both are the same, which the shim avoids by keeping 0 to 2 open on /dev/null.
    context("dup2", check(unsafe { libc::dup2(from, to) }.into())).map(|_| ())
}

/// Gives the standard streams to the user, who may want to open `/dev/stdout` (runc `fixStdioPermissions`).
fn own_streams(uid: u32) {
    use std::os::unix::fs::MetadataExt;
    let null = fs::metadata("/dev/null").map(|facts| facts.rdev()).unwrap_or_default();
    for fd in 0..3 {
        let same = fs::metadata(format!("/proc/self/fd/{fd}")).is_ok_and(|facts| facts.rdev() == null && null != 0);
        if !same {
            // SAFETY: plain call; what refuses a new owner stays usable through the descriptor.
            unsafe { libc::fchown(fd, uid, u32::MAX) };
        }
    }
}

/// Writes the preference of the out-of-memory killer. Below what is allowed to us, 0 stands.
fn set_oom_score(value: i32) -> ChildResult<()> {
    let file = "/proc/self/oom_score_adj";
    match fs::write(file, value.to_string()) {
        Ok(()) => Ok(()),
        // Also when /proc is hidden from the process by its image's mounts.
        Err(_) if value <= 0 => Ok(()),
        Err(error) => Err(format!("write {value} to {file}: {error}")),
    }
}

/// Makes a terminal in the container's own devpts and takes it as the controlling one.
fn terminal(master_to: &OwnedFd, console: bool) -> ChildResult<()> {
    // SAFETY: open, ioctl and the calls below act on descriptors that this function owns.
    unsafe {
        let master = context(
            "open /dev/ptmx",
            check(libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC).into()),
        )?;
        let master = OwnedFd::from_raw_fd(master as RawFd);
        let (unlock, mut number): (libc::c_int, libc::c_uint) = (0, 0);
        context("unlock terminal", check(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock).into()))?;
        context("name of terminal", check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number).into()))?;
        let name = format!("/dev/pts/{number}");
        let path = CString::new(name.clone()).expect("no NUL in a number");
        let slave = context("open terminal", check(libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC).into()))?;
        let slave = OwnedFd::from_raw_fd(slave as RawFd);
        if console {
            let _ = fs::write("/dev/console", "");
            let bind = libc::mount(path.as_ptr(), c"/dev/console".as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null());
            context("mount /dev/console", check(bind.into()))?;
        }
        context("take terminal", check(libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0).into()))?;
        context("send terminal", super::protocol::send_with_fds(master_to.as_raw_fd(), b"t", &[master.as_raw_fd()]))?;
        for target in 0..3 {
            duplicate(slave.as_raw_fd(), target)?;
        }
    }
    Ok(())
}

/// Finds the command as a shell would and replaces this process by it.
fn execute(argv: &[String], env: &[String]) -> ChildResult<Infallible> {
    let name = argv.first().ok_or("no command specified")?;
    let path = find(name, env)?;
    let c = |text: &str| context(format_args!("exec: {name:?}"), CString::new(text));
    let file = c(&path)?;
    let argv: Vec<CString> = argv.iter().map(|argument| c(argument)).collect::<Result<_, _>>()?;
    let env: Vec<CString> = env.iter().map(|entry| c(entry)).collect::<Result<_, _>>()?;
    match nix::unistd::execve(&file, &argv, &env) {
        Err(nix::Error::ENOEXEC) => Err(format!("exec {path}: exec format error")),
        Err(error) => Err(format!("exec {path}: {}", error.desc().to_lowercase())),
    }
}

/// Resolves a command name; the texts are those of Go's `os/exec`, which runc shows.
fn find(name: &str, env: &[String]) -> ChildResult<String> {
    if name.contains('/') {
        return match fs::metadata(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("exec: {name:?}: stat {name}: no such file or directory"))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => {
                Err(format!("exec: {name:?}: stat {name}: not a directory"))
            }
            Err(_) => Err(format!("exec: {name:?}: permission denied")),
            Ok(facts) if facts.is_dir() => Err(format!("exec: {name:?}: is a directory")),
            Ok(facts) if facts.permissions().mode() & 0o111 == 0 => Err(format!("exec: {name:?}: permission denied")),
            Ok(_) => Ok(name.to_owned()),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    for directory in path.split(':').filter(|directory| !directory.is_empty()) {
        let candidate = Path::new(directory).join(name);
        if fs::metadata(&candidate).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0) {
            return Ok(candidate.to_string_lossy().into_owned());
        }
    }
    Err(format!("exec: {name:?}: executable file not found in $PATH"))
}
