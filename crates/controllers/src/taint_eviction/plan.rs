//! When a pod must leave a tainted node.
//!
//! Source: kubernetes pkg/controller/tainteviction/taint_eviction.go; pkg/apis/core/v1/helper
//! `GetMatchingTolerations`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daruma_api::core::v1::{Taint, Toleration};
use daruma_api::taints::{NO_EXECUTE, tolerates};

/// An eviction that waits for its time (monotonic).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// When the clock started.
    pub created: Duration,
    /// When the pod goes.
    pub due: Duration,
}

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may stay for ever; what is scheduled is cancelled.
    Stay,
    /// It goes at once; what is scheduled is cancelled first.
    GoNow,
    /// What is scheduled stands.
    Keep,
    /// It goes later; what is scheduled is cancelled first.
    Schedule(Scheduled),
}

/// The NoExecute ones.
pub fn no_execute(taints: &[Taint]) -> Vec<Taint> {
    taints.iter().filter(|taint| taint.effect == NO_EXECUTE).cloned().collect()
}

/// Decides about one pod on a node with these NoExecute taints.
pub fn decide(taints: &[Taint], tolerations: &[Toleration], scheduled: Option<Scheduled>, now: Duration) -> Decision {
    if taints.is_empty() {
        return Decision::Stay;
    }
    let mut used: Vec<&Toleration> = Vec::new();
    for taint in taints {
        match tolerations.iter().find(|toleration| tolerates(toleration, taint)) {
            Some(toleration) => used.push(toleration),
            None => return Decision::GoNow,
        }
    }
    let Some(seconds) = used.iter().filter_map(|toleration| toleration.toleration_seconds).min() else {
        return Decision::Stay;
    };
    let wait = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    match scheduled {
        // The clock that runs already runs out earlier.
        Some(scheduled) if scheduled.created < now => Decision::Keep,
        Some(scheduled) => Decision::Schedule(Scheduled { created: scheduled.created, due: now + wait }),
        None => Decision::Schedule(Scheduled { created: now, due: now + wait }),
    }
}

/// Evictions in the order of their time, by pod key.
#[derive(Debug, Default)]
pub struct Timetable {
    by_pod: BTreeMap<String, Scheduled>,
    by_time: BTreeSet<(Duration, String)>,
}

impl Timetable {
    /// What is scheduled for a pod.
    pub fn get(&self, pod: &str) -> Option<Scheduled> {
        self.by_pod.get(pod).copied()
    }

    /// Schedules a pod, in place of what was.
    pub fn set(&mut self, pod: &str, scheduled: Scheduled) {
        self.cancel(pod);
        self.by_pod.insert(pod.to_owned(), scheduled);
        self.by_time.insert((scheduled.due, pod.to_owned()));
    }

    /// Cancels; gives whether there was anything.
    pub fn cancel(&mut self, pod: &str) -> bool {
        let Some(scheduled) = self.by_pod.remove(pod) else { return false };
        self.by_time.remove(&(scheduled.due, pod.to_owned()));
        true
    }

    /// Takes out the pods whose time has come.
    pub fn due(&mut self, now: Duration) -> Vec<String> {
        let mut due = Vec::new();
        while let Some((time, pod)) = self.by_time.first().cloned() {
            if time > now {
                break;
            }
            self.cancel(&pod);
            due.push(pod);
        }
        due
    }

    /// The next time.
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(time, _)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_taints::taint;
    use daruma_api::taints::{NOT_READY, UNREACHABLE};

    fn toleration(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(NO_EXECUTE.to_owned()),
            toleration_seconds: seconds,
            value: None,
        }
    }

    #[track_caller]
    fn check(taints: &[&str], tolerations: &[(&str, Option<i64>)], scheduled: Option<(u64, u64)>, expected: Decision) {
        let taints: Vec<Taint> = taints.iter().map(|key| taint(key, NO_EXECUTE)).collect();
        let tolerations: Vec<Toleration> = tolerations.iter().map(|(key, seconds)| toleration(key, *seconds)).collect();
        let scheduled = scheduled.map(|(created, due)| at(created, due));
        assert_eq!(decide(&taints, &tolerations, scheduled, Duration::from_secs(1000)), expected);
    }

    fn at(created: u64, due: u64) -> Scheduled {
        Scheduled { created: Duration::from_secs(created), due: Duration::from_secs(due) }
    }

    #[test]
    fn decisions() {
        let both = [(NOT_READY, Some(300)), (UNREACHABLE, Some(60))];
        check(&[], &[], None, Decision::Stay);
        check(&[UNREACHABLE], &[], None, Decision::GoNow);
        check(&[UNREACHABLE], &[(NOT_READY, Some(300))], None, Decision::GoNow);
        check(&[NOT_READY], &both, None, Decision::Schedule(at(1000, 1300)));
        check(&[NOT_READY, UNREACHABLE], &both, None, Decision::Schedule(at(1000, 1060)));
        check(&[UNREACHABLE], &[(UNREACHABLE, None)], None, Decision::Stay);
        check(&[UNREACHABLE], &[(UNREACHABLE, Some(0))], None, Decision::Schedule(at(1000, 1000)));
        check(&[UNREACHABLE], &[(UNREACHABLE, Some(-5))], None, Decision::Schedule(at(1000, 1000)));
        check(&[NOT_READY], &both, Some((900, 1200)), Decision::Keep);
    }

    #[test]
    fn the_timetable_gives_each_pod_once() {
        let mut timetable = Timetable::default();
        timetable.set("a", at(0, 300));
        timetable.set("b", at(0, 200));
        timetable.set("a", at(0, 100));
        assert_eq!(timetable.next(), Some(Duration::from_secs(100)));
        assert!(timetable.due(Duration::from_secs(99)).is_empty());
        assert_eq!(timetable.due(Duration::from_secs(250)), ["a", "b"]);
        assert!(!timetable.cancel("a"));
        assert_eq!(timetable.next(), None);
    }
}
