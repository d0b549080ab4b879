//! Init's loop: one thread, one poll.
#![expect(clippy::disallowed_methods, reason = "init has no world: it is the machine's own clock")]

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, pipe2};

use super::command::{self, Backoff};
use super::facts::Meminfo;
use super::log::Log;
use super::processes;
use crate::machine::MachineSpec;

const MEMINFO_PERIOD: Duration = Duration::from_secs(2);
/// What containers get between SIGTERM and SIGKILL when the machine goes down.
const CONTAINER_GRACE: Duration = Duration::from_secs(3);

/// Where the machine is on its way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Up,
    /// The command was asked to end.
    CommandEnding {
        until: Instant,
        reboot: bool,
    },
    /// Everything else was asked to end.
    AllEnding {
        until: Instant,
        reboot: bool,
    },
}

struct Init {
    spec: MachineSpec,
    log: Log,
    output: OwnedFd,
    command: Option<(i32, Instant)>,
    restart_at: Option<Instant>,
    backoff: Backoff,
    phase: Phase,
}

/// Runs the machine until it goes down.
pub(super) fn run(spec: MachineSpec, log: Log) -> ! {
    let ended = live(spec, log);
    eprintln!("init: {ended:?}");
    std::process::exit(6)
}

fn live(spec: MachineSpec, log: Log) -> io::Result<()> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let (printed, output) = pipe2(OFlag::O_CLOEXEC)?;
    let mut printed = std::fs::File::from(printed);
    let meminfo = Meminfo::open(spec.memory_bytes)?;
    let mut refresh_at = Instant::now() + MEMINFO_PERIOD;
    let mut init = Init { spec, log, output, command: None, restart_at: None, backoff: Backoff::new(), phase: Phase::Up };
    init.start();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let now = Instant::now();
        let wake = init.deadline().map_or(refresh_at, |deadline| deadline.min(refresh_at));
        // Rounded up, or the last part of a millisecond would be spent spinning.
        let millis = (wake.saturating_duration_since(now).as_micros().div_ceil(1000)) as u16;
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(printed.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let (signalled, talkative) = (ready(&fds[0]), ready(&fds[1]));
        if talkative {
            let count = printed.read(&mut buffer)?;
            init.log.append(&buffer[..count]);
        }
        while signalled && let Some(signal) = signals.read_signal()? {
            init.hear(signal.ssi_signo as i32);
        }
        let now = Instant::now();
        if now >= refresh_at {
            // Stale figures until the next try.
            let _ = meminfo.refresh();
            refresh_at = now + MEMINFO_PERIOD;
        }
        init.advance(now);
    }
}

impl Init {
    fn start(&mut self) {
        match command::start(&self.spec, &self.output) {
            Ok(pid) => self.command = Some((pid, Instant::now())),
            Err(error) => {
                let delay = self.backoff.after(Duration::ZERO);
                self.log.say(&format!("{} cannot start: {error}; next try in {delay:?}", self.spec.command[0]));
                self.restart_at = Some(Instant::now() + delay);
            }
        }
    }

    fn hear(&mut self, signal: i32) {
        match signal {
            libc::SIGCHLD => self.bury(),
            // The buttons: as systemd understands them, and the two that everybody tries.
            libc::SIGTERM => self.go_down(false),
            libc::SIGINT => self.go_down(true),
            signal if signal == libc::SIGRTMIN() + 4 => self.go_down(false),
            signal if signal == libc::SIGRTMIN() + 5 => self.go_down(true),
            _ => {}
        }
    }

    fn bury(&mut self) {
        for (pid, how) in processes::bury() {
            let Some((_, since)) = self.command.filter(|(command, _)| *command == pid) else { continue };
            self.command = None;
            if self.phase == Phase::Up {
                let delay = self.backoff.after(since.elapsed());
                self.log.say(&format!("{} {how}; starting it again in {delay:?}", self.spec.command[0]));
                self.restart_at = Some(Instant::now() + delay);
            }
        }
    }

    fn go_down(&mut self, reboot: bool) {
        if self.phase != Phase::Up {
            return;
        }
        self.log.say(if reboot { "rebooting" } else { "powering off" });
        self.restart_at = None;
        self.phase = Phase::CommandEnding { until: Instant::now() + self.spec.shutdown_grace, reboot };
        if let Some((pid, _)) = self.command {
            // It may have ended this instant; its burial will tell.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Up => self.restart_at,
            Phase::CommandEnding { until, .. } | Phase::AllEnding { until, .. } => Some(until),
        }
    }

    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Up => {
                if self.restart_at.is_some_and(|at| now >= at) {
                    self.restart_at = None;
                    self.start();
                }
            }
            Phase::CommandEnding { until, reboot } => {
                if self.command.is_none() || now >= until {
                    processes::signal_all(Signal::SIGTERM);
                    self.phase = Phase::AllEnding { until: now + CONTAINER_GRACE, reboot };
                    self.advance(now);
                }
            }
            Phase::AllEnding { until, reboot } => {
                if !processes::others_live() || now >= until {
                    processes::signal_all(Signal::SIGKILL);
                    self.log.say("the machine is down");
                    processes::end(reboot);
                }
            }
        }
    }
}
