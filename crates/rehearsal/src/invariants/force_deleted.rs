//! A force-deleted pod's container ends soon while its node lives.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Changed, Invariant, Seen, Stored, Verdict};

/// The engine gives such a container 2 s before SIGKILL; a kubelet that has just come back looks at once, one
/// whose watch broke off within its back-off.
const BOUND: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct ForceDeleted {
    /// How many containers live, by the UID of their pod.
    living: BTreeMap<String, usize>,
    /// Node and start of the time in which it could have ended, by UID.
    pending: BTreeMap<String, (String, Duration)>,
}

impl Invariant for ForceDeleted {
    fn name(&self) -> &'static str {
        "force-deleted-containers-end"
    }

    fn stored(&mut self, _: &Seen, event: &Stored<'_>) -> Verdict {
        if let (Some(old), None) = (event.old.and_then(|old| old.pod()), event.new)
            && old.may_run
            && let Some(node) = &old.node
        {
            self.pending.insert(old.uid.clone(), (node.clone(), event.at));
        }
        Ok(())
    }

    fn running(&mut self, seen: &Seen, at: Duration, changed: &Changed) -> Verdict {
        for one in &changed.began {
            *self.living.entry(one.uid.clone()).or_default() += 1;
        }
        for one in &changed.ended {
            if let Some(count) = self.living.get_mut(&one.uid) {
                *count -= 1;
                if *count == 0 {
                    self.living.remove(&one.uid);
                }
            }
        }
        let mut verdict = Ok(());
        let living = &self.living;
        self.pending.retain(|uid, (node, since)| {
            if !seen.nodes.get(node).is_some_and(|node| node.is_ready) {
                *since = at;
                return true;
            }
            if at.saturating_sub(*since) < BOUND {
                return true;
            }
            if living.contains_key(uid) {
                verdict = Err(format!("the container of force-deleted pod {uid} still lives on {node} after {BOUND:?}"));
            }
            false
        });
        verdict
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
