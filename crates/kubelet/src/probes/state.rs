//! When a probe asks, and what its answers mean.
//!
//! Source: kubernetes pkg/kubelet/prober/worker.go (doProbe).
//!
//! Invariant: pure.

use std::time::Duration;

use daruma_api::core::v1::{Container as Spec, Probe};
use jiff::Timestamp;

use crate::backoff::between;

/// What a probe asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Has it started?
    Startup,
    /// Does it have to be restarted?
    Liveness,
    /// Can it serve?
    Readiness,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// The container's probe of this kind.
    pub fn of(self, container: &Spec) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }

    /// As events spell it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    /// The result before the first answer; none for startup.
    fn initial(self) -> Option<bool> {
        match self {
            Self::Startup => None,
            Self::Liveness => Some(true),
            Self::Readiness => Some(false),
        }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Look again after this time, or when the pod has news; only then where `None`.
    Wait(Option<Duration>),
    /// Note a result without asking, then decide anew.
    Set(bool),
    /// Ask.
    Probe,
}

/// The course of one probe of one container.
#[derive(Debug, Clone)]
pub struct ProbeState {
    kind: Kind,
    container_id: String,
    last: Option<bool>,
    run: i32,
    on_hold: bool,
    was_running: bool,
}

impl ProbeState {
    /// Nothing is known.
    pub fn new(kind: Kind) -> Self {
        Self { kind, container_id: String::new(), last: None, run: 0, on_hold: false, was_running: false }
    }

    /// Decides from the container's id and, where it runs, its start.
    pub fn next(
        &mut self,
        container: Option<(&str, Option<Timestamp>)>,
        probe: &Probe,
        started: bool,
        kubelet_started_at: Timestamp,
        now: Timestamp,
    ) -> Step {
        let Some((id, started_at)) = container else { return Step::Wait(None) };
        if id != self.container_id {
            id.clone_into(&mut self.container_id);
            (self.last, self.run, self.on_hold, self.was_running) = (None, 0, false, false);
            // A container from before the kubelet's start keeps the results that the API knows.
            let older = started_at.is_some_and(|at| at < kubelet_started_at);
            if let Some(initial) = self.kind.initial().filter(|_| !older) {
                return Step::Set(initial);
            }
        }
        let Some(started_at) = started_at else {
            if std::mem::take(&mut self.was_running) {
                return Step::Set(false);
            }
            return Step::Wait(None);
        };
        self.was_running = true;
        if self.on_hold {
            // Until there is another container.
            return Step::Wait(None);
        }
        let delay = Duration::from_secs(probe.initial_delay_seconds.unwrap_or_default().max(0) as u64);
        let age = between(started_at, now);
        if age < delay {
            return Step::Wait(Some(delay.saturating_sub(age)));
        }
        // Startup probes end with the start; the others begin with it.
        if started == (self.kind == Kind::Startup) {
            return Step::Wait(None);
        }
        Step::Probe
    }

    /// Takes an answer; gives the result where the threshold is reached.
    pub fn observe(&mut self, good: bool, probe: &Probe) -> Option<bool> {
        if self.last == Some(good) {
            self.run += 1;
        } else {
            self.last = Some(good);
            self.run = 1;
        }
        let threshold = if good { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        if self.run < threshold {
            return None;
        }
        if (self.kind == Kind::Liveness && !good) || self.kind == Kind::Startup {
            self.on_hold = true;
            self.run = 0;
        }
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn probe(text: &str) -> Probe {
        serde_yaml_ng::from_str(text).expect("a probe")
    }

    #[test]
    fn a_readiness_probe() {
        let probe = probe("{initialDelaySeconds: 5, failureThreshold: 2, successThreshold: 2}");
        let mut state = ProbeState::new(Kind::Readiness);
        assert_eq!(state.next(None, &probe, false, at(0), at(100)), Step::Wait(None));
        let seen = Some(("c", Some(at(100))));
        assert_eq!(state.next(seen, &probe, true, at(0), at(100)), Step::Set(false));
        assert_eq!(state.next(seen, &probe, true, at(0), at(102)), Step::Wait(Some(Duration::from_secs(3))));
        assert_eq!(state.next(seen, &probe, false, at(0), at(105)), Step::Wait(None), "it waits for the startup probe");
        assert_eq!(state.next(seen, &probe, true, at(0), at(105)), Step::Probe);
        assert_eq!(state.observe(true, &probe), None);
        assert_eq!(state.observe(true, &probe), Some(true));
        assert_eq!(state.observe(false, &probe), None);
        assert_eq!(state.observe(true, &probe), None);
        assert_eq!(state.observe(false, &probe), None);
        assert_eq!(state.observe(false, &probe), Some(false));
        assert_eq!(state.next(Some(("c", None)), &probe, true, at(0), at(110)), Step::Set(false));
        assert_eq!(state.next(Some(("c", None)), &probe, true, at(0), at(110)), Step::Wait(None));
    }

    #[test]
    fn a_liveness_probe_holds_after_failure() {
        let probe = probe("{failureThreshold: 1}");
        let mut state = ProbeState::new(Kind::Liveness);
        let seen = Some(("c", Some(at(100))));
        assert_eq!(state.next(seen, &probe, true, at(0), at(100)), Step::Set(true));
        assert_eq!(state.next(seen, &probe, true, at(0), at(100)), Step::Probe);
        assert_eq!(state.observe(false, &probe), Some(false));
        assert!(matches!(state.next(seen, &probe, true, at(0), at(101)), Step::Wait(_)));
        assert_eq!(state.next(Some(("d", Some(at(101)))), &probe, true, at(0), at(101)), Step::Set(true));
    }

    #[test]
    fn a_container_older_than_the_kubelet() {
        let probe = probe("{}");
        let mut state = ProbeState::new(Kind::Readiness);
        assert_eq!(state.next(Some(("c", Some(at(100)))), &probe, true, at(200), at(201)), Step::Probe);
    }
}
