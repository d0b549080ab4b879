//! What the kubelet knows of its container engine's health.
//!
//! Source: kubernetes pkg/kubelet/runtime.go (runtimeErrors, networkErrors), pkg/kubelet/kubelet.go (updateRuntimeUp),
//! pkg/kubelet/pleg/generic.go (Healthy).
//!
//! Invariant: pure.

use std::time::Duration;

use daruma_world::containers::RuntimeStatus;

use crate::text::go_duration;

/// An engine that was not well for so long counts as down (`maxWaitForContainerRuntime`).
const DOWN_AFTER: Duration = Duration::from_secs(30);
/// An engine that did not tell for so long what runs makes pods' states unknown (`genericPlegRelistThreshold`).
const SILENT_AFTER: Duration = Duration::from_secs(180);

/// The engine as it answered last. Times are monotonic.
#[derive(Debug, Default)]
pub struct EngineHealth {
    /// When it last said that all is well.
    well_at: Option<Duration>,
    /// When it last said anything.
    answered_at: Option<Duration>,
    status: RuntimeStatus,
}

impl EngineHealth {
    /// Takes an answer over; `true` where it says something else than the one before. An engine that does not answer
    /// changes nothing but by the time that passes.
    pub fn answered(&mut self, status: RuntimeStatus, now: Duration) -> bool {
        let is_first = self.answered_at.replace(now).is_none();
        if status.runtime_problem.is_none() {
            self.well_at = Some(now);
        }
        let changed = is_first || self.status != status;
        self.status = status;
        changed
    }

    /// Why containers cannot be run, one text a reason.
    pub fn runtime_problems(&self, now: Duration) -> Vec<String> {
        let mut problems = Vec::new();
        match self.well_at {
            None => problems.push("container runtime status check may not have completed yet".to_owned()),
            Some(at) if now.saturating_sub(at) >= DOWN_AFTER => problems.push("container runtime is down".to_owned()),
            Some(_) => {}
        }
        match self.answered_at.map(|at| now.saturating_sub(at)) {
            None => problems.push("PLEG is not healthy: pleg has yet to be successful".to_owned()),
            Some(silent) if silent > SILENT_AFTER => {
                let (silent, threshold) = (go_duration(silent), go_duration(SILENT_AFTER));
                problems.push(format!("PLEG is not healthy: pleg was last seen active {silent} ago; threshold is {threshold}"));
            }
            Some(_) => {}
        }
        if let Some(problem) = &self.status.runtime_problem {
            problems.push(format!("container runtime not ready: RuntimeReady=false reason: message:{problem}"));
        }
        problems
    }

    /// Why pods cannot get a network.
    pub fn network_problem(&self) -> Option<String> {
        if self.answered_at.is_none() {
            return Some("network state unknown".to_owned());
        }
        let problem = self.status.network_problem.as_ref()?;
        let condition = format!("NetworkReady=false reason:NetworkPluginNotReady message:{problem}");
        Some(format!("container runtime network not ready: {condition}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_after_a_while() {
        let second = Duration::from_secs;
        let mut health = EngineHealth::default();
        assert_eq!(
            health.runtime_problems(second(0)),
            ["container runtime status check may not have completed yet", "PLEG is not healthy: pleg has yet to be successful"]
        );
        assert_eq!(health.network_problem().as_deref(), Some("network state unknown"));
        assert!(health.answered(RuntimeStatus::default(), second(100)));
        assert!(!health.answered(RuntimeStatus::default(), second(110)));
        assert_eq!((health.runtime_problems(second(139)), health.network_problem()), (vec![], None));
        assert_eq!(health.runtime_problems(second(140)), ["container runtime is down"]);
        assert_eq!(
            health.runtime_problems(Duration::from_millis(291_500)),
            ["container runtime is down", "PLEG is not healthy: pleg was last seen active 3m1.5s ago; threshold is 3m0s"]
        );
        // It answers again, but has lost its network.
        let no_network = RuntimeStatus { runtime_problem: None, network_problem: Some("no plugin".to_owned()) };
        assert!(health.answered(no_network, second(300)));
        assert!(health.runtime_problems(second(300)).is_empty());
        let text = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:no plugin";
        assert_eq!(health.network_problem().as_deref(), Some(text));
        // One that says that it is not well is not well at once, and down after the usual time.
        let unwell = RuntimeStatus { runtime_problem: Some("no disk".to_owned()), network_problem: None };
        assert!(health.answered(unwell.clone(), second(310)));
        let text = "container runtime not ready: RuntimeReady=false reason: message:no disk";
        assert_eq!(health.runtime_problems(second(310)), [text]);
        health.answered(unwell, second(330));
        assert_eq!(health.runtime_problems(second(330)), ["container runtime is down", text]);
    }
}
