//! The power switch: how a machine comes to life and how it dies.
#![expect(unsafe_code, reason = "clone with new namespaces, and what its child does until it executes init")]
#![expect(clippy::disallowed_methods, reason = "waits for ended machines")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use daruma_world::machines::PressureId;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};

use super::cgroup::MachineCgroup;
use super::orders::{self, Done, Order, Received, What};
use super::switch::Switch;
use super::{Doing, MachineError, MachineSpec, disk, slow_disk};

/// The mode of the binary that becomes a machine's PID 1.
pub const INIT_MODE: &str = "machine-init";
/// What PID 1 does not answer within this time is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time within which containers that start on a machine with a slow disk become slow.
const RENEWAL: Duration = Duration::from_secs(1);

/// What init is told when it starts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Boot {
    /// The machine.
    pub spec: MachineSpec,
    /// New at each power-on.
    pub boot_id: String,
    /// The loop device of the disk, on the host.
    pub disk: PathBuf,
    /// An empty host directory to build the root on.
    pub stage: PathBuf,
    /// Pressures whose files stay on the disk; those of others are removed.
    pub pressures: Vec<PressureId>,
}

/// A machine that is on.
#[derive(Debug)]
pub struct Running {
    /// PID 1, as the host numbers it.
    pub pid: i32,
    /// The boot id.
    pub boot_id: String,
    /// The line to PID 1. The first thing to hear is its report: one line when it has booted or why it could not.
    pub line: UnixStream,
    received: Received,
    orders: u64,
    cgroup: MachineCgroup,
    disk_number: u64,
    slow_disk: Option<SlowDisk>,
    frozen: bool,
}

/// A disk that takes its time.
#[derive(Debug)]
struct SlowDisk {
    delay: Duration,
    renew_at: Instant,
}

/// Where a cluster keeps a machine on the host.
#[derive(Debug, Clone)]
pub struct Place {
    /// The machine's directory.
    pub directory: PathBuf,
    /// Name of the cluster's control groups.
    pub cgroup: String,
}

impl Place {
    /// The machine's disk.
    pub fn image(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    fn stage(&self) -> PathBuf {
        self.directory.join("root")
    }
}

/// Why a machine's PID 1 ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The machine powered itself off.
    PowerOff,
    /// The machine asked for a reboot.
    Reboot,
    /// PID 1 ended by this signal, or with this negative exit code.
    Crash(i32),
}

/// Switches a machine on. Its disk must have been made. Files of `pressures` stay on it.
///
/// Must be called in a single-threaded process. The machine dies with the calling thread.
pub fn on(
    spec: &MachineSpec,
    place: &Place,
    pressures: Vec<PressureId>,
    switch: &mut Switch,
    log: &File,
) -> Result<Running, MachineError> {
    fs::create_dir_all(place.stage()).doing(|| format!("making {}", place.stage().display()))?;
    let attached = disk::attach(&place.image())?;
    let cgroup = MachineCgroup::create(&place.cgroup, spec)?;
    let boot_id = new_uuid().doing(|| "drawing a boot id".to_owned())?;
    let boot =
        Boot { spec: spec.clone(), boot_id: boot_id.clone(), disk: attached.device.clone(), stage: place.stage(), pressures };
    let disk_number = attached.number;
    let started = start(&boot, &cgroup, switch, log, attached.fd);
    match started {
        Ok((pid, line)) => {
            let received = Received::default();
            Ok(Running { pid, boot_id, line, received, orders: 0, cgroup, disk_number, slow_disk: None, frozen: false })
        }
        Err(error) => {
            // The first error is the one to report.
            let _ = switch.unplug(&spec.name);
            let _ = cgroup.remove();
            Err(error)
        }
    }
}

fn start(
    boot: &Boot,
    cgroup: &MachineCgroup,
    switch: &mut Switch,
    log: &File,
    disk: OwnedFd,
) -> Result<(i32, UnixStream), MachineError> {
    let told = tell(boot).doing(|| "writing the machine's description".to_owned())?;
    let (go_read, go_write) = pipe2(OFlag::O_CLOEXEC).doing(|| "making a pipe".to_owned())?;
    let (line, line_of_init) = UnixStream::pair().doing(|| "making a line to the machine".to_owned())?;
    let limits = line.set_read_timeout(Some(PATIENCE)).and_then(|()| line.set_write_timeout(Some(PATIENCE)));
    limits.doing(|| "making a line to the machine".to_owned())?;
    let child = Child {
        go: go_read.as_raw_fd(),
        go_write: go_write.as_raw_fd(),
        log: log.as_raw_fd(),
        kept: [told.as_raw_fd(), line_of_init.as_raw_fd(), disk.as_raw_fd()],
        arguments: arguments(&[told.as_raw_fd(), line_of_init.as_raw_fd(), disk.as_raw_fd()]),
    };
    let pid = child.clone_machine().doing(|| "cloning the machine's first process".to_owned())?;
    let ready = cgroup
        .attach(pid)
        .and_then(|()| switch.plug(&boot.spec.name, boot.spec.mac(), pid))
        .and_then(|()| File::from(go_write).write_all(b"g").doing(|| "starting the machine's first process".to_owned()));
    if let Err(error) = ready {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        let _ = wait_for(pid, Duration::from_secs(5));
        return Err(error);
    }
    Ok((pid, line))
}

fn tell(boot: &Boot) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("machine", MFdFlags::MFD_CLOEXEC)?);
    serde_json::to_writer(&mut file, boot)?;
    file.rewind()?;
    Ok(file.into())
}

fn arguments(fds: &[RawFd]) -> Vec<CString> {
    let words = ["daruma".to_owned(), INIT_MODE.to_owned()].into_iter().chain(fds.iter().map(ToString::to_string));
    words.map(|word| CString::new(word).expect("words and numbers hold no zero byte")).collect()
}

/// What the cloned process needs between clone and exec; made before, because it must not allocate much.
struct Child {
    go: RawFd,
    go_write: RawFd,
    log: RawFd,
    kept: [RawFd; 3],
    arguments: Vec<CString>,
}

impl Child {
    fn clone_machine(&self) -> io::Result<i32> {
        let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
        let flags = (namespaces | libc::SIGCHLD) as libc::c_ulong;
        // SAFETY: without CLONE_VM and with no new stack this is fork: the child goes on with a copy of everything.
        // This process has one thread, so no lock is held by a thread that the child lacks.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => self.become_init(),
            pid => Ok(pid as i32),
        }
    }

    /// Runs in the clone. Never returns.
    fn become_init(&self) -> ! {
        let mut pointers: Vec<*const libc::c_char> = self.arguments.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let path = c"/proc/self/exe";
        let mut byte = 0_u8;
        // SAFETY: plain system calls on descriptors of this process and on strings that live until exec; every
        // failure ends the clone at once.
        unsafe {
            libc::close(self.go_write);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // The supervisor closes its end when it gives up or dies.
            if libc::read(self.go, (&raw mut byte).cast(), 1) != 1 {
                libc::_exit(101);
            }
            libc::setsid();
            if libc::unshare(libc::CLONE_NEWCGROUP) != 0 {
                libc::_exit(102);
            }
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            libc::dup2(null, 0);
            libc::dup2(self.log, 1);
            libc::dup2(self.log, 2);
            for fd in self.kept {
                libc::fcntl(fd, libc::F_SETFD, 0);
            }
            let mut none = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::execv(path.as_ptr(), pointers.as_ptr());
            libc::_exit(103);
        }
    }
}

impl Running {
    /// Cuts the power: first the network, then the disk, then the processes, so that nothing says goodbye.
    pub fn cut(mut self, name: &str, switch: &mut Switch) -> Result<(), MachineError> {
        let link = switch.set_port(name, false);
        // A machine that dies while it boots has no disk mounted yet; its death below is cut enough.
        let _ = disk::cut_power(&PathBuf::from(format!("/proc/{}/root/var", self.pid)), self.disk_number);
        self.end(name, switch)?;
        link
    }

    /// Ends the machine's processes at once, without cutting its disk: what was written is kept.
    pub fn end(&mut self, name: &str, switch: &mut Switch) -> Result<(), MachineError> {
        self.hurry_disk();
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno).doing(|| format!("killing process {}", self.pid)),
        }
        if self.frozen {
            // Killed tasks of a version 1 freezer stay until it thaws.
            self.cgroup.freeze(false)?;
            self.frozen = false;
        }
        wait_for(self.pid, Duration::from_secs(30)).doing(|| format!("waiting for the end of {name}"))?;
        self.remove(name, switch)
    }

    /// Removes what a machine leaves on the host whose PID 1 has ended already.
    pub fn remove(&mut self, name: &str, switch: &mut Switch) -> Result<(), MachineError> {
        self.hurry_disk();
        switch.unplug(name)?;
        self.cgroup.remove()
    }

    /// Freezes the machine's processes, or lets them go on. A frozen machine's kernel still answers: mind its link.
    pub fn freeze(&mut self, frozen: bool) -> Result<(), MachineError> {
        self.cgroup.freeze(frozen)?;
        self.frozen = frozen;
        Ok(())
    }

    /// Makes durable writes of the machine take so much longer, or no longer (`None`).
    pub(crate) fn slow_disk(&mut self, delay: Option<Duration>) -> Result<(), MachineError> {
        if delay.is_none() && self.slow_disk.is_none() {
            return Ok(());
        }
        self.slow_disk = delay.map(|delay| SlowDisk { delay, renew_at: Instant::now() + RENEWAL });
        slow_disk::set(self.cgroup.groups(), self.disk_number, delay).doing(|| "limiting the machine's disk".to_owned())
    }

    /// Whoever waits for a slow disk cannot die before it has answered.
    fn hurry_disk(&mut self) {
        // A limit that stays delays the machine's end; it must not prevent it.
        let _ = self.slow_disk(None);
    }

    /// When containers that are new by then must be made slow, too.
    pub(crate) fn slow_disk_due(&self) -> Option<Instant> {
        self.slow_disk.as_ref().map(|slow| slow.renew_at)
    }

    /// Does what is due of that.
    pub(crate) fn renew_slow_disk(&mut self, now: Instant) -> Result<(), MachineError> {
        match &self.slow_disk {
            Some(slow) if now >= slow.renew_at => self.slow_disk(Some(slow.delay)),
            _ => Ok(()),
        }
    }

    /// The next line of init's report, however many pieces it comes in; `None` when PID 1 has gone without one.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.received.line() {
                return Some(line);
            }
            self.received.read(&self.line).ok()?;
        }
    }

    /// Gives an order to PID 1 and waits for its answer: why it was not carried out, if it was not.
    pub(crate) fn order(&mut self, what: What) -> Result<Option<String>, MachineError> {
        self.leave_order(what)?;
        let pid = self.pid;
        let step = || format!("talking to process {pid}");
        let end = Instant::now() + PATIENCE;
        loop {
            while let Some(done) = self.received.document::<Done>() {
                // Answers to orders that nobody waited for come first.
                if done.number == self.orders {
                    return Ok(done.problem);
                }
            }
            if Instant::now() > end {
                return Err(io::Error::from(io::ErrorKind::TimedOut)).doing(step);
            }
            self.received.read(&self.line).doing(step)?;
        }
    }

    /// The same without waiting: a machine that holds still does it when it goes on.
    pub(crate) fn leave_order(&mut self, what: What) -> Result<(), MachineError> {
        self.orders += 1;
        let sent = orders::send(&self.line, &Order { number: self.orders, what });
        sent.doing(|| format!("talking to process {}", self.pid))
    }

    /// The machine's control group of a hierarchy that lists processes.
    pub(crate) fn group(&self) -> &Path {
        self.cgroup.any()
    }

    /// Presses the button that asks the machine to end gracefully.
    pub fn ask(&self, reboot: bool) -> Result<(), MachineError> {
        let signal = libc::SIGRTMIN() + if reboot { 5 } else { 4 };
        // SAFETY: plain system call on a process that this one has not waited for yet.
        let sent = unsafe { libc::kill(self.pid, signal) };
        let result = if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        result.doing(|| format!("signalling process {}", self.pid))
    }

    /// Whether PID 1 has ended, and why. Does not wait.
    pub fn ended(&self) -> Option<End> {
        reap(self.pid)
    }
}

fn reap(pid: i32) -> Option<End> {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        // reboot(2) in a pid namespace ends its PID 1 with one of these two signals.
        Ok(WaitStatus::Signaled(_, Signal::SIGHUP, _)) => Some(End::Reboot),
        Ok(WaitStatus::Signaled(_, Signal::SIGINT, _)) => Some(End::PowerOff),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(End::Crash(signal as i32)),
        Ok(WaitStatus::Exited(_, code)) => Some(End::Crash(-code)),
        // Alive, or stopped by somebody who traces it.
        Ok(_) => None,
        Err(_) => Some(End::Crash(0)),
    }
}

fn wait_for(pid: i32, limit: Duration) -> io::Result<()> {
    let end = Instant::now() + limit;
    while reap(pid).is_none() {
        if Instant::now() > end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A random UUID from the kernel.
pub fn new_uuid() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

/// Takes over a descriptor that was passed by number on the command line.
///
/// # Safety
/// The number must be an open descriptor that nothing else in this process owns.
pub(crate) unsafe fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: promised by the caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
