//! A Deployment never asks for more pods than replicas and surge, its ReplicaSets never make more than they are asked
//! for, and a rollout on healthy nodes never takes away more than it may.
//!
//! What is bounded is what the real controllers bound. The Deployment's keeps the sum of its `ReplicaSets`'
//! `spec.replicas` at replicas and surge (kubernetes pkg/controller/deployment/util/deployment_util.go `NewRSNewReplicas`),
//! and each `ReplicaSet`'s keeps its own pods at its `spec.replicas` (pkg/controller/replicaset/replica_set.go
//! `manageReplicas`). Pods that are asked to end do not count. So there may be more pods than replicas and surge for
//! as long as a `ReplicaSet` that was made smaller has not deleted what is too many, and only those.
//!
//! A controller acts on what it has last seen: what was asked before binds for as long as `status.observedGeneration`
//! does not say that the newer was seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Invariant, Limits, Pod, ReplicaSet, Seen, Stored, Verdict, Workload};

/// A pod that is lost by itself is in the statuses that a rollout counts by after this time.
const LAG: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Replicas {
    /// Limits of Deployments, by UID.
    limits: BTreeMap<String, InForce<Limits>>,
    /// `spec.replicas` of `ReplicaSets`, by UID.
    sizes: BTreeMap<String, InForce<i64>>,
    /// Fewest available pods of its Deployment when a `ReplicaSet` was last made smaller, by its UID.
    least: BTreeMap<String, i64>,
    /// When a Deployment last lost a pod that no rollout took, by UID.
    disturbed: BTreeMap<String, Duration>,
    /// What was complained of already: UID and generation.
    told: BTreeSet<(String, i64)>,
}

/// What a controller may still act on, by generation: the last that it has seen, and what is newer.
struct InForce<T>(VecDeque<(i64, T)>);

impl<T> Default for InForce<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq> InForce<T> {
    fn note(&mut self, generation: i64, asked: T, observed: i64) {
        if self.0.back().is_none_or(|(_, last)| *last != asked) {
            self.0.push_back((generation, asked));
        }
        while self.0.get(1).is_some_and(|(generation, _)| *generation <= observed) {
            self.0.pop_front();
        }
    }

    fn each(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, asked)| asked)
    }
}

impl Invariant for Replicas {
    fn name(&self) -> &'static str {
        "replicas-within-bounds"
    }

    fn stored(&mut self, seen: &Seen, event: &Stored<'_>) -> Verdict {
        if let Some(one) = event.new.or(event.old).and_then(|one| one.workload()).filter(|one| one.kind == "Deployment") {
            if event.new.is_some() {
                self.limits.entry(one.uid.clone()).or_default().note(one.generation, one.limits, one.observed);
            } else {
                self.limits.remove(&one.uid);
                self.disturbed.remove(&one.uid);
            }
            return Ok(());
        }
        let old_set = event.old.and_then(|old| old.replica_set());
        match event.new.and_then(|new| new.replica_set()) {
            Some(new) => return self.resized(seen, old_set, new),
            None if old_set.is_some() => {
                let uid = old_set.map(|old| &*old.uid).unwrap_or_default();
                self.sizes.remove(uid);
                self.least.remove(uid);
                return Ok(());
            }
            None => {}
        }
        match (event.old.and_then(|old| old.pod()), event.new.and_then(|new| new.pod())) {
            (None, Some(new)) if new.is_active() => self.made(seen, new),
            (Some(old), new) if old.is_active() && old.is_ready => match new {
                Some(new) if new.is_active() && new.is_ready => Ok(()),
                Some(new) if new.is_going => self.taken(seen, new, event.at),
                _ => {
                    self.lost(seen, old, event.at);
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }
}

impl Replicas {
    fn limits(&self, deployment: &Workload) -> Limits {
        let known = self.limits.get(&deployment.uid).into_iter().flat_map(InForce::each);
        known.fold(deployment.limits, |all, one| Limits { most: all.most.max(one.most), least: all.least.min(one.least) })
    }

    /// A `ReplicaSet` was asked for another number.
    fn resized(&mut self, seen: &Seen, old: Option<&ReplicaSet>, new: &ReplicaSet) -> Verdict {
        self.sizes.entry(new.uid.clone()).or_default().note(new.generation, new.replicas, new.observed);
        let before = old.map_or(0, |old| old.replicas);
        let Some(deployment) = seen.deployment_of(new).filter(|_| new.replicas != before) else { return Ok(()) };
        let limits = self.limits(deployment);
        if new.replicas < before {
            self.least.insert(new.uid.clone(), limits.least);
            return Ok(());
        }
        let asked: i64 = seen.sets_of(&deployment.uid).map(|set| set.replicas).sum();
        if asked > limits.most && self.told.insert((deployment.uid.clone(), deployment.generation)) {
            let (key, most) = (&deployment.key, limits.most);
            return Err(format!(
                "Deployment {key} asks for {asked} pods of at most {most} since {} was set to {}",
                new.name, new.replicas
            ));
        }
        Ok(())
    }

    /// A pod came.
    fn made(&mut self, seen: &Seen, pod: &Pod) -> Verdict {
        let Some(set) = seen.replica_set_of(pod) else { return Ok(()) };
        let pods = seen.active_of(&set.uid).pods;
        let known = self.sizes.get(&set.uid).into_iter().flat_map(InForce::each);
        let most = known.fold(set.replicas, |most, one| most.max(*one));
        if pods > most && self.told.insert((set.uid.clone(), set.generation)) {
            return Err(format!(
                "ReplicaSet {}/{} has {pods} pods of at most {most} since {} came",
                set.namespace, set.name, pod.name
            ));
        }
        Ok(())
    }

    /// A Ready pod was asked to go: where its `ReplicaSet` did that, enough others must be there.
    fn taken(&mut self, seen: &Seen, pod: &Pod, at: Duration) -> Verdict {
        let Some(set) = seen.replica_set_of(pod) else { return Ok(()) };
        let Some(deployment) = seen.deployment_of(set) else { return Ok(()) };
        if seen.active_of(&set.uid).pods < set.replicas {
            self.lost(seen, pod, at);
            return Ok(());
        }
        let is_calm = self.disturbed.get(&deployment.uid).is_none_or(|since| at.saturating_sub(*since) > LAG);
        let Some(least) = self.least.get(&set.uid).filter(|_| is_calm && seen.all_healthy()) else { return Ok(()) };
        let available: i64 = seen.sets_of(&deployment.uid).map(|set| seen.active_of(&set.uid).ready).sum();
        if available < *least {
            return Err(format!(
                "Deployment {} keeps {available} available pods, fewer than {least}, after its rollout took {}",
                deployment.key, pod.name
            ));
        }
        Ok(())
    }

    /// A Ready pod went, or stopped being Ready, and no rollout had asked for that.
    fn lost(&mut self, seen: &Seen, pod: &Pod, at: Duration) {
        if let Some(deployment) = seen.replica_set_of(pod).and_then(|set| seen.deployment_of(set)) {
            self.disturbed.insert(deployment.uid.clone(), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Step, check};

    const OWNER: &str = r#""ownerReferences":[{"kind":"Deployment","name":"web","uid":"D","controller":true}]"#;
    const POD: &str = r#"{"metadata":{"namespace":"d","name":"p","ownerReferences":[{"kind":"ReplicaSet","name":"web-1",
        "uid":"S1","controller":true}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    const GOING: &str = r#"{"metadata":{"namespace":"d","name":"p","deletionTimestamp":"2026-01-01T00:00:00Z",
        "ownerReferences":[{"kind":"ReplicaSet","name":"web-1","uid":"S1","controller":true}]},
        "status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    const WAITING: &str = r#"{"metadata":{"namespace":"d","name":"p","ownerReferences":[{"kind":"ReplicaSet","name":"web-1",
        "uid":"S1","controller":true}]}}"#;

    fn deployment(replicas: u8, generation: u8, observed: u8) -> &'static str {
        format!(
            r#"{{"metadata":{{"namespace":"d","name":"web","uid":"D","generation":{generation}}},"spec":{{"replicas":{replicas}}},
            "status":{{"observedGeneration":{observed}}}}}"#
        )
        .leak()
    }

    fn set(number: u8, replicas: u8, generation: u8, observed: u8) -> &'static str {
        format!(
            r#"{{"metadata":{{"namespace":"d","name":"web-{number}","uid":"S{number}","generation":{generation},{OWNER}}},
            "spec":{{"replicas":{replicas}}},"status":{{"observedGeneration":{observed}}}}}"#
        )
        .leak()
    }

    /// Numbers the steps. `D` is the Deployment, `1` and `2` its `ReplicaSets`; all else is a pod.
    fn history(steps: &[(&'static str, &'static str)]) -> Vec<Step> {
        let numbered = steps.iter().zip(1..);
        let key = |name: &str| match name {
            "D" => "apps/deployments/d/web".to_owned(),
            "1" | "2" => format!("apps/replicasets/d/web-{name}"),
            pod => format!("core/pods/d/{pod}"),
        };
        numbered.map(|((name, value), revision)| ("put", &*key(name).leak(), revision, *value)).collect()
    }

    #[track_caller]
    fn fires(steps: &[(&'static str, &'static str)], does: bool) {
        check(&history(steps), if does { &["replicas-within-bounds"] } else { &[] });
    }

    #[test]
    fn a_deployment_asks_for_too_many() {
        // Four and a surge of one.
        let made = [("D", deployment(4, 1, 1)), ("1", set(1, 4, 1, 1))];
        fires(&[&made[..], &[("2", set(2, 1, 1, 1))]].concat(), false);
        fires(&[&made[..], &[("2", set(2, 2, 1, 1))]].concat(), true);
        // Made smaller: what is asked for already may stay, but not grow.
        let smaller = [&made[..], &[("D", deployment(2, 2, 1))]].concat();
        fires(&[&smaller[..], &[("2", set(2, 1, 1, 1))]].concat(), false);
        fires(&[&smaller[..], &[("D", deployment(2, 2, 2)), ("2", set(2, 1, 1, 1))]].concat(), true);
    }

    #[test]
    fn a_replica_set_makes_too_many() {
        let made = [("D", deployment(2, 1, 1)), ("1", set(1, 2, 1, 1)), ("a", POD), ("b", POD)];
        fires(&made, false);
        fires(&[&made[..], &[("c", POD)]].concat(), true);
        fires(&[&made[..], &[("b", GOING), ("c", POD)]].concat(), false);
        // Its controller has not seen yet that only one is wanted, or has.
        let shrunk = |observed| [("D", deployment(1, 2, 2)), ("1", set(1, 1, 2, observed)), ("b", GOING), ("c", POD)];
        fires(&[&made[..], &shrunk(1)].concat(), false);
        fires(&[&made[..], &shrunk(2)].concat(), true);
    }

    #[test]
    fn a_rollout_takes_too_many() {
        // Of two, none may be missing.
        let made = [("D", deployment(2, 1, 1)), ("1", set(1, 2, 1, 1)), ("a", POD), ("b", POD), ("1", set(1, 0, 2, 1))];
        fires(&[&made[..], &[("a", GOING)]].concat(), true);
        // Somebody else took one, or it stopped being Ready by itself: the rollout could not know.
        let other = [("D", deployment(2, 1, 1)), ("1", set(1, 2, 1, 1)), ("a", POD), ("b", POD), ("a", GOING)];
        fires(&[&other[..], &[("1", set(1, 0, 2, 1)), ("b", GOING)]].concat(), false);
        fires(&[&made[..], &[("a", WAITING), ("b", GOING)]].concat(), false);
    }
}
