//! A force-deleted pod's container ends soon while its node lives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daruma_api::meta::ObjectExt;

use super::one_pod_a_name::may_run;
use super::seen::is_ready_node;
use super::{Invariant, Running, Seen, Stored, Verdict};

/// The engine gives such a container 2 s before SIGKILL; a kubelet that has just come back looks at once, one
/// whose watch broke off within its back-off.
const BOUND: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct ForceDeleted {
    /// Node and start of the time in which it could have ended, by UID.
    pending: BTreeMap<String, (String, Duration)>,
}

impl Invariant for ForceDeleted {
    fn name(&self) -> &'static str {
        "force-deleted-containers-end"
    }

    fn stored(&mut self, _: &Seen, event: &Stored<'_>) -> Verdict {
        if let (Some(old), None) = (event.old.and_then(|old| old.pod()), event.new)
            && may_run(old)
            && let Some(node) = old.spec.as_ref().and_then(|spec| spec.node_name.clone())
        {
            self.pending.insert(old.uid().to_owned(), (node, event.at));
        }
        Ok(())
    }

    fn running(&mut self, seen: &Seen, at: Duration, containers: &BTreeSet<Running>) -> Verdict {
        let living: BTreeSet<&str> = containers.iter().map(|one| one.uid.as_str()).collect();
        let mut late = None;
        self.pending.retain(|uid, (node, since)| {
            if !seen.nodes.get(node).is_some_and(|node| is_ready_node(node)) {
                *since = at;
                return true;
            }
            if !living.contains(uid.as_str()) {
                return at.saturating_sub(*since) < BOUND;
            }
            if at.saturating_sub(*since) < BOUND {
                return true;
            }
            late = Some(format!("the container of force-deleted pod {uid} still lives on {node} after {BOUND:?}"));
            false
        });
        late.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    const RUNNING: &str = r#"{"metadata":{"namespace":"d","name":"a","uid":"1"},"spec":{"nodeName":"w","containers":[]},
        "status":{"phase":"Running","containerStatuses":[{"name":"c","image":"","imageID":"","ready":true,"restartCount":0,
        "state":{"running":{}}}]}}"#;
    const READY: &str = r#"{"metadata":{"name":"w"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
    const LOST: &str = r#"{"metadata":{"name":"w"},"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}"#;

    #[test]
    fn fires() {
        let forced = |node: &'static str| {
            vec![("put", "core/nodes/w", 1, node), ("put", "core/pods/d/a", 2, RUNNING), ("delete", "core/pods/d/a", 3, "")]
        };
        let lives = |at| ("run", "d/a/1@w", at, "");
        check(&[forced(READY), vec![lives(10), ("run", "", 20, ""), ("run", "", 90, "")]].concat(), &[]);
        check(&[forced(READY), vec![lives(10), lives(90)]].concat(), &["force-deleted-containers-end"]);
        check(&[forced(LOST), vec![lives(10), lives(90)]].concat(), &[]);
    }
}
