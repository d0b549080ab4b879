//! A Deployment never has more pods than replicas and surge, and a rollout on healthy nodes never takes
//! away more than it may.

use std::collections::{BTreeMap, BTreeSet};

use daruma_api::IntOrString;
use daruma_api::apps::v1::{Deployment, DeploymentSpec};
use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;

use super::seen::is_ready;
use super::{Invariant, Seen, Stored, Verdict};

#[derive(Default)]
pub(super) struct Replicas {
    /// What was allowed before the last change of a Deployment, for as long as more are there than now allowed.
    earlier: BTreeMap<String, i64>,
    told: BTreeSet<String>,
}

impl Invariant for Replicas {
    fn name(&self) -> &'static str {
        "replicas-within-bounds"
    }

    fn stored(&mut self, seen: &Seen, event: &Stored<'_>) -> Verdict {
        if let Some(new) = event.new.and_then(|new| new.deployment()) {
            let before = event.old.and_then(|old| old.deployment()).map_or(0, |old| Limits::of(old).most);
            if before > Limits::of(new).most {
                let earlier = self.earlier.entry(new.key()).or_default();
                *earlier = before.max(*earlier);
            }
            return Ok(());
        }
        let Some(pod) = event.new.and_then(|new| new.pod()) else { return Ok(()) };
        let Some(deployment) = seen.deployment_of(pod).cloned() else { return Ok(()) };
        if event.old.is_none() {
            return self.count(seen, &deployment, pod);
        }
        let was = event.old.and_then(|old| old.pod()).is_some_and(|old| !old.is_being_deleted() && is_ready(old));
        if was && pod.is_being_deleted() { took_away(seen, &deployment, pod) } else { Ok(()) }
    }
}

impl Replicas {
    /// A pod came.
    fn count(&mut self, seen: &Seen, deployment: &Deployment, pod: &Pod) -> Verdict {
        let key = deployment.key();
        // A rollout counts what its ReplicaSets are asked for: what another one has been told to take away is on its way out
        // (kubernetes pkg/controller/deployment/util/deployment_util.go, NewRSNewReplicas).
        let own = seen.replica_set_of(pod).map(|set| set.uid());
        let mut by_set: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for set in seen.active_pods(deployment).filter_map(|other| seen.replica_set_of(other)) {
            let asked = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let most = if own == Some(set.uid()) { i64::MAX } else { i64::from(asked) };
            by_set.entry(set.uid()).or_insert((0, most)).0 += 1;
        }
        let count: i64 = by_set.values().map(|(pods, most)| *pods.min(most)).sum();
        let now = Limits::of(deployment).most;
        let most = now.max(self.earlier.get(&key).copied().unwrap_or_default());
        if count <= now {
            self.earlier.remove(&key);
            self.told.remove(&key);
        }
        if count > most && self.told.insert(key.clone()) {
            return Err(format!("Deployment {key} has {count} pods of at most {most} after {} came", pod.name()));
        }
        Ok(())
    }
}

/// A Ready pod was asked to go: where its ReplicaSet did that, enough others must be there.
fn took_away(seen: &Seen, deployment: &Deployment, pod: &Pod) -> Verdict {
    let Some(set) = seen.replica_set_of(pod) else { return Ok(()) };
    let of_set = |other: &Pod| seen.replica_set_of(other).is_some_and(|other| other.uid() == set.uid());
    let left = seen.active_pods(deployment).filter(|other| of_set(other)).count() as i64;
    let asked = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    // Fewer left than it asks for: somebody else took it. And on nodes that are not healthy nothing is promised.
    if left < i64::from(asked) || !seen.all_ready() {
        return Ok(());
    }
    let available = seen.active_pods(deployment).filter(|pod| is_ready(pod)).count() as i64;
    let least = Limits::of(deployment).least;
    if available < least {
        return Err(format!(
            "Deployment {} keeps {available} available pods, fewer than {least}, after its rollout took {}",
            deployment.key(),
            pod.name()
        ));
    }
    Ok(())
}

struct Limits {
    most: i64,
    least: i64,
}

impl Limits {
    /// kubernetes pkg/controller/deployment/util/deployment_util.go `ResolveFenceposts`: surge is rounded up,
    /// unavailability down.
    fn of(deployment: &Deployment) -> Self {
        let empty = DeploymentSpec::default();
        let spec = deployment.spec.as_ref().unwrap_or(&empty);
        let replicas = i64::from(spec.replicas.unwrap_or(1));
        let strategy = spec.strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self { most: replicas, least: 0 };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let part = |value: Option<&IntOrString>, up: bool| match value {
            Some(IntOrString::Int(number)) => i64::from(*number),
            Some(IntOrString::String(text)) => percent(text, replicas, up),
            None => percent("25%", replicas, up),
        };
        let surge = part(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
        let mut unavailable = part(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self { most: replicas + surge, least: (replicas - unavailable).max(0) }
    }
}

fn percent(text: &str, of: i64, up: bool) -> i64 {
    let share: i64 = text.trim_end_matches('%').parse().unwrap_or_default();
    if up { (of * share + 99) / 100 } else { of * share / 100 }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    const DEPLOYMENT: &str = r#"{"metadata":{"namespace":"d","name":"web","uid":"D"},"spec":{"replicas":2,"selector":{},
        "template":{}}}"#;
    const SMALLER: &str = r#"{"metadata":{"namespace":"d","name":"web","uid":"D"},"spec":{"replicas":1,"selector":{},
        "template":{}}}"#;
    const SET: &str = r#"{"metadata":{"namespace":"d","name":"web-1","uid":"S","ownerReferences":[{"apiVersion":"apps/v1",
        "kind":"Deployment","name":"web","uid":"D","controller":true}]},"spec":{"replicas":0,"selector":{}}}"#;
    const POD: &str = r#"{"metadata":{"namespace":"d","name":"p","ownerReferences":[{"apiVersion":"apps/v1",
        "kind":"ReplicaSet","name":"web-1","uid":"S","controller":true}]},"spec":{"containers":[]},
        "status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    const GOING: &str = r#"{"metadata":{"namespace":"d","name":"p","deletionTimestamp":"2026-01-01T00:00:00Z",
        "ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-1","uid":"S","controller":true}]},
        "spec":{"containers":[]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;

    #[test]
    fn fires() {
        let made = vec![
            ("put", "apps/deployments/d/web", 1, DEPLOYMENT),
            ("put", "apps/replicasets/d/web-1", 2, SET),
            ("put", "core/pods/d/a", 3, POD),
            ("put", "core/pods/d/b", 4, POD),
            ("put", "core/pods/d/c", 5, POD),
        ];
        let with = |more: Vec<(&'static str, &'static str, u64, &'static str)>| [made.clone(), more].concat();
        check(&made, &[]);
        // A ReplicaSet controller that makes one too many.
        check(&with(vec![("put", "core/pods/d/x", 6, POD)]), &["replicas-within-bounds"]);
        // Scaled down: what is there already may stay a while.
        check(&with(vec![("put", "apps/deployments/d/web", 6, SMALLER)]), &[]);
        // A rollout that takes the old pods at once: of two, none may be missing.
        check(&with(vec![("put", "core/pods/d/a", 6, GOING)]), &[]);
        let both = vec![("put", "core/pods/d/a", 6, GOING), ("put", "core/pods/d/b", 7, GOING)];
        check(&with(both), &["replicas-within-bounds"]);
    }
}
