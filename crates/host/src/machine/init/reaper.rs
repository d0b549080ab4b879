//! Init's loop: one thread, one poll.
#![expect(clippy::disallowed_methods, reason = "init has no world: it is the machine's own clock")]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use daruma_world::machines::{PressureId, Signal as Wanted};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, pipe2};

use super::command;
use super::facts::Meminfo;
use super::log::Log;
use super::processes;
use super::service::{Act, Answer, Service};
use crate::machine::orders::{self, Done, Order, Received, What};
use crate::machine::{MachineSpec, ballast};

const MEMINFO_PERIOD: Duration = Duration::from_secs(2);
/// What containers get between SIGTERM and SIGKILL when the machine goes down.
const CONTAINER_GRACE: Duration = Duration::from_secs(3);
/// There while the machine goes down: a command that is asked to end can tell that from a mere restart.
const GOING_DOWN: &str = "/run/daruma/shutdown";

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
    line: Option<UnixStream>,
    service: Service,
    /// Orders that are answered at the end of the command.
    awaiting_end: Vec<u64>,
    /// Processes that use the machine up.
    pressures: BTreeMap<PressureId, i32>,
    phase: Phase,
}

/// Runs the machine until it goes down.
pub(super) fn run(spec: MachineSpec, log: Log, line: UnixStream) -> ! {
    let ended = live(spec, log, line);
    eprintln!("init: {ended:?}");
    std::process::exit(6)
}

fn live(spec: MachineSpec, log: Log, line: UnixStream) -> io::Result<()> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let (printed, output) = pipe2(OFlag::O_CLOEXEC)?;
    let mut printed = std::fs::File::from(printed);
    let meminfo = Meminfo::open(spec.memory_bytes)?;
    let mut refresh_at = Instant::now() + MEMINFO_PERIOD;
    let mut received = Received::default();
    let service = Service::new(spec.restart_delay, spec.shutdown_grace, Instant::now());
    let (awaiting_end, pressures, phase) = (Vec::new(), BTreeMap::new(), Phase::Up);
    let mut init = Init { spec, log, output, line: Some(line), service, awaiting_end, pressures, phase };
    init.advance(Instant::now());
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let now = Instant::now();
        let wake = init.deadline().map_or(refresh_at, |deadline| deadline.min(refresh_at));
        // Rounded up, or the last part of a millisecond would be spent spinning.
        let millis = (wake.saturating_duration_since(now).as_micros().div_ceil(1000)) as u16;
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(printed.as_fd(), PollFlags::POLLIN)];
        fds.extend(init.line.as_ref().map(|line| PollFd::new(line.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |place: usize| fds.get(place).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        let (signalled, talkative, ordered) = (ready(0), ready(1), ready(2));
        if talkative {
            let count = printed.read(&mut buffer)?;
            init.log.append(&buffer[..count]);
        }
        while signalled && let Some(signal) = signals.read_signal()? {
            init.hear(signal.ssi_signo as i32);
        }
        if ordered && let Some(line) = &init.line {
            if received.read(line).is_err() {
                // Without its supervisor the machine dies anyway.
                init.line = None;
            }
            while let Some(order) = received.document::<Order>() {
                init.obey(order);
            }
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
            Ok(pid) => self.service.started(pid),
            Err(error) => {
                let delay = self.service.ended(Instant::now()).unwrap_or_default();
                self.log.say(&format!("{} cannot start: {error}; next try in {delay:?}", self.spec.command[0]));
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

    fn obey(&mut self, order: Order) {
        let problem = match order.what {
            _ if self.phase != Phase::Up => Some(format!("{} is going down", self.spec.name)),
            What::Signal { service, signal } => match self.signal(&service, signal) {
                Ok(Answer::AtItsEnd) => {
                    self.awaiting_end.push(order.number);
                    return;
                }
                Ok(Answer::Now) => None,
                Err(problem) => Some(problem),
            },
            What::Press { id, pressure } => {
                let words = ballast::press_words(id, &pressure);
                match words.and_then(|words| command::start_ballast(&words, &self.output)) {
                    Ok(pid) => {
                        self.pressures.insert(id, pid);
                        None
                    }
                    Err(error) => Some(error.to_string()),
                }
            }
            What::Release { id } => {
                self.release(id);
                None
            }
        };
        self.answer(order.number, problem);
    }

    fn answer(&mut self, number: u64, problem: Option<String>) {
        if let Some(line) = &self.line {
            // A supervisor that does not listen any more has its reasons.
            let _ = orders::send(line, &Done { number, problem });
        }
    }

    fn signal(&mut self, service: &str, signal: Wanted) -> Result<Answer, String> {
        if service != self.spec.service {
            let only = &self.spec.service;
            return Err(format!("{} has no service {service:?}; its only one is {only:?}", self.spec.name));
        }
        let (acts, answer) = self.service.signal(service, signal, Instant::now())?;
        self.log.say(&format!("{signal:?} of {service}"));
        for act in acts {
            self.act(act);
        }
        Ok(answer)
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Start => self.start(),
            Act::Send { pid, number } => {
                // It may have ended this instant; its burial will tell.
                let _ = kill(Pid::from_raw(pid), number);
            }
        }
    }

    /// Its processes are killed here; its files may be many, so another process removes them.
    fn release(&mut self, id: PressureId) {
        if let Some(pid) = self.pressures.remove(&id) {
            // It may have ended by itself.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if command::start_ballast(&ballast::remove_words(id), &self.output).is_err()
            && let Err(error) = ballast::remove(id)
        {
            self.log.say(&format!("releasing pressure {id}: {error}"));
        }
    }

    fn bury(&mut self) {
        for (pid, how) in processes::bury() {
            self.pressures.retain(|_, process| *process != pid);
            if self.service.pid() != Some(pid) {
                continue;
            }
            let delay = self.service.ended(Instant::now());
            let next = delay.map_or_else(|| "it stays so".to_owned(), |delay| format!("starting it again in {delay:?}"));
            self.log.say(&format!("{} {how}; {next}", self.spec.command[0]));
            for number in std::mem::take(&mut self.awaiting_end) {
                self.answer(number, None);
            }
        }
    }

    fn go_down(&mut self, reboot: bool) {
        if self.phase != Phase::Up {
            return;
        }
        self.log.say(if reboot { "rebooting" } else { "powering off" });
        self.service.hold();
        // Without the mark the command ends as for a restart.
        let _ = std::fs::write(GOING_DOWN, if reboot { "reboot\n" } else { "power-off\n" });
        self.phase = Phase::CommandEnding { until: Instant::now() + self.spec.shutdown_grace, reboot };
        if let Some(pid) = self.service.pid() {
            for number in [Signal::SIGTERM, Signal::SIGCONT] {
                self.act(Act::Send { pid, number });
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Up => self.service.deadline(),
            Phase::CommandEnding { until, .. } | Phase::AllEnding { until, .. } => Some(until),
        }
    }

    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Up => {
                while let Some(act) = self.service.due(now) {
                    self.act(act);
                }
            }
            Phase::CommandEnding { until, reboot } => {
                if self.service.pid().is_none() || now >= until {
                    for number in [Signal::SIGTERM, Signal::SIGCONT] {
                        processes::signal_all(number);
                    }
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
