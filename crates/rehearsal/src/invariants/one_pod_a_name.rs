//! Never do two pods of one name run: the second begins when the first has ended.
//!
//! A pod whose object was taken away while its node still said that it runs (a force delete, the object of a
//! dead node) is no longer known to anybody; for such a name nothing is promised (kubernetes StatefulSet
//! concepts, "Force deletion").

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;

use super::seen::has_ended;
use super::{Invariant, Running, Seen, Stored, Verdict};

#[derive(Default)]
pub(super) struct OnePodAName {
    given_up: BTreeSet<String>,
    told: BTreeSet<(String, String)>,
}

impl Invariant for OnePodAName {
    fn name(&self) -> &'static str {
        "one-pod-of-a-name"
    }

    fn stored(&mut self, _: &Seen, event: &Stored<'_>) -> Verdict {
        if let (Some(old), None) = (event.old.and_then(|old| old.pod()), event.new)
            && may_run(old)
        {
            self.given_up.insert(old.uid().to_owned());
        }
        Ok(())
    }

    fn running(&mut self, _: &Seen, _: Duration, containers: &BTreeSet<Running>) -> Verdict {
        let mut by_name: BTreeMap<(&str, &str), BTreeMap<&str, &str>> = BTreeMap::new();
        for one in containers.iter().filter(|one| !self.given_up.contains(&one.uid)) {
            by_name.entry((&one.namespace, &one.pod)).or_default().insert(&one.uid, &one.machine);
        }
        for ((namespace, pod), uids) in by_name {
            if uids.len() > 1 && self.told.insert((namespace.to_owned(), pod.to_owned())) {
                return Err(format!("pod {namespace}/{pod} runs {} times: {uids:?}", uids.len()));
            }
        }
        Ok(())
    }
}

/// Whether a container of the pod may live by what its node has last said.
pub(super) fn may_run(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let says_running = |state: Option<&daruma_api::core::v1::ContainerState>| state.is_some_and(|state| state.running.is_some());
    !has_ended(pod) && statuses.into_iter().flatten().any(|status| says_running(status.state.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    const RUNNING: &str = r#"{"metadata":{"namespace":"d","name":"db-0","uid":"1"},"spec":{"containers":[]},
        "status":{"phase":"Running","containerStatuses":[{"name":"c","image":"","imageID":"","ready":true,"restartCount":0,
        "state":{"running":{}}}]}}"#;
    const ENDED: &str = r#"{"metadata":{"namespace":"d","name":"db-0","uid":"1"},"spec":{"containers":[]},
        "status":{"phase":"Failed"}}"#;

    #[test]
    fn fires() {
        let twice = ("run", "d/db-0/1@worker-0 d/db-0/2@worker-1", 0, "");
        check(&[("run", "d/db-0/1@worker-0 d/db-1/2@worker-1", 0, "")], &[]);
        check(&[twice], &["one-pod-of-a-name"]);
        // The kubelet said that it had ended, and yet it runs.
        let broken = [("put", "core/pods/d/db-0", 1, ENDED), ("delete", "core/pods/d/db-0", 2, ""), twice];
        check(&broken, &["one-pod-of-a-name"]);
        let forced = [("put", "core/pods/d/db-0", 1, RUNNING), ("delete", "core/pods/d/db-0", 2, ""), twice];
        check(&forced, &[]);
    }
}
