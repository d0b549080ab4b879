//! The command of the machine as a service: when it runs, when it is started again, what signals do to it.

use std::time::{Duration, Instant};

use daruma_world::machines::Signal;

/// What init has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Start the command.
    Start,
    /// Send the system's signal to process `pid`.
    Send {
        /// The process.
        pid: i32,
        /// The signal.
        number: nix::sys::signal::Signal,
    },
}

/// Whether somebody waits for the end of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Now,
    AtItsEnd,
}

/// The state of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Service {
    running: Option<i32>,
    restart_at: Option<Instant>,
    /// Nobody may start it but [`Signal::Start`].
    held: bool,
    /// When a command that was asked to stop is killed.
    kill_at: Option<Instant>,
    restart_delay: Duration,
    patience: Duration,
}

impl Service {
    /// A service that starts at once. It is started again `restart_delay` after its end; one that is stopped and does
    /// not end within `patience` is killed.
    pub(super) fn new(restart_delay: Duration, patience: Duration, now: Instant) -> Self {
        Self { running: None, restart_at: Some(now), held: false, kill_at: None, restart_delay, patience }
    }

    /// Its process.
    pub(super) fn pid(&self) -> Option<i32> {
        self.running
    }

    /// The command runs as this process.
    pub(super) fn started(&mut self, pid: i32) {
        self.running = Some(pid);
        self.restart_at = None;
    }

    /// The command has ended, or could not start. Gives the delay until the next start, if there will be one.
    pub(super) fn ended(&mut self, now: Instant) -> Option<Duration> {
        self.running = None;
        self.kill_at = None;
        if self.held {
            return None;
        }
        self.restart_at = Some(now + self.restart_delay);
        Some(self.restart_delay)
    }

    /// Never start it again: the machine goes down.
    pub(super) fn hold(&mut self) {
        self.held = true;
        self.restart_at = None;
        self.kill_at = None;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.restart_at, self.kill_at].into_iter().flatten().min()
    }

    /// What is due now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Act> {
        if self.restart_at.is_some_and(|at| now >= at) {
            self.restart_at = None;
            return Some(Act::Start);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            return self.running.map(|pid| Act::Send { pid, number: nix::sys::signal::Signal::SIGKILL });
        }
        None
    }

    /// What a signal asks for, in order.
    ///
    /// # Errors
    /// Why it makes no sense now.
    pub(super) fn signal(&mut self, name: &str, signal: Signal, now: Instant) -> Result<(Vec<Act>, Answer), String> {
        use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};
        let send = |pid, number| Act::Send { pid, number };
        match (signal, self.running) {
            (Signal::Start, Some(_)) => Err(format!("{name} runs already")),
            (Signal::Start, None) => {
                self.held = false;
                self.restart_at = None;
                Ok((vec![Act::Start], Answer::Now))
            }
            (Signal::Stop, None) if self.held => Err(format!("{name} is stopped already")),
            (Signal::Stop, None) => {
                self.hold();
                Ok((vec![], Answer::Now))
            }
            (Signal::Stop, Some(pid)) => {
                self.hold();
                self.kill_at = Some(now + self.patience);
                // A paused one has to go on to hear it.
                Ok((vec![send(pid, SIGTERM), send(pid, SIGCONT)], Answer::AtItsEnd))
            }
            (_, None) if self.held => Err(format!("{name} is stopped")),
            (_, None) => Err(format!("{name} does not run now; it is started again in a moment")),
            (Signal::Kill, Some(pid)) => Ok((vec![send(pid, SIGKILL)], Answer::AtItsEnd)),
            (Signal::Terminate, Some(pid)) => Ok((vec![send(pid, SIGTERM)], Answer::Now)),
            (Signal::Pause, Some(pid)) => Ok((vec![send(pid, SIGSTOP)], Answer::Now)),
            (Signal::Continue, Some(pid)) => Ok((vec![send(pid, SIGCONT)], Answer::Now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal as Number;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a start of time for a test")]
    fn a_service_lives_as_its_manager_says() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut service = Service::new(10 * second, 90 * second, start);
        let send = |number| Act::Send { pid: 7, number };
        assert_eq!(service.due(start), Some(Act::Start));
        service.started(7);
        assert_eq!(service.deadline(), None);
        assert_eq!(service.signal("kubelet", Signal::Start, start), Err("kubelet runs already".to_owned()));
        assert_eq!(service.signal("kubelet", Signal::Kill, start), Ok((vec![send(Number::SIGKILL)], Answer::AtItsEnd)));
        // Killed, it comes back after ten seconds, however often.
        for _ in 0..3 {
            assert_eq!(service.ended(start), Some(10 * second));
            assert_eq!(service.due(start + 9 * second), None);
            assert_eq!(service.due(start + 10 * second), Some(Act::Start));
            service.started(7);
        }
        let stopping = Ok((vec![send(Number::SIGTERM), send(Number::SIGCONT)], Answer::AtItsEnd));
        assert_eq!(service.signal("kubelet", Signal::Stop, start), stopping);
        assert_eq!(service.due(start + 89 * second), None);
        assert_eq!(service.due(start + 90 * second), Some(send(Number::SIGKILL)));
        assert_eq!(service.ended(start), None, "stopped, it stays so");
        assert_eq!(service.deadline(), None);
        assert_eq!(service.signal("kubelet", Signal::Kill, start), Err("kubelet is stopped".to_owned()));
        assert_eq!(service.signal("kubelet", Signal::Start, start), Ok((vec![Act::Start], Answer::Now)));
    }
}
