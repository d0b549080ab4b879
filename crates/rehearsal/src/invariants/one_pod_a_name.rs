//! Never do two pods of one name run: the second begins when the first has ended.
//!
//! A pod whose object was taken away while its node still said that it runs (a force delete, the object of a
//! dead node) is no longer known to anybody; for such a name nothing is promised (kubernetes StatefulSet
//! concepts, "Force deletion").

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Changed, Invariant, Running, Seen, Stored, Verdict};

#[derive(Default)]
pub(super) struct OnePodAName {
    /// Living containers by pod, each with its machine, by namespace and name.
    living: BTreeMap<(String, String), BTreeSet<(String, String, String)>>,
    given_up: BTreeSet<String>,
    told: BTreeSet<(String, String)>,
}

impl Invariant for OnePodAName {
    fn name(&self) -> &'static str {
        "one-pod-of-a-name"
    }

    fn stored(&mut self, _: &Seen, event: &Stored<'_>) -> Verdict {
        if let (Some(old), None) = (event.old.and_then(|old| old.pod()), event.new)
            && old.may_run
        {
            self.given_up.insert(old.uid.clone());
        }
        Ok(())
    }

    fn running(&mut self, _: &Seen, _: Duration, changed: &Changed) -> Verdict {
        for one in &changed.ended {
            let name = name(one);
            if let Some(living) = self.living.get_mut(&name) {
                living.remove(&process(one));
                if living.is_empty() {
                    self.living.remove(&name);
                }
            }
        }
        for one in &changed.began {
            self.living.entry(name(one)).or_default().insert(process(one));
        }
        let mut verdict = Ok(());
        for name in changed.began.iter().map(name) {
            let known = self.living[&name].iter().filter(|(uid, ..)| !self.given_up.contains(uid));
            let pods: BTreeMap<&str, &str> = known.map(|(uid, machine, _)| (&**uid, &**machine)).collect();
            if pods.len() > 1 && self.told.insert(name.clone()) {
                verdict = Err(format!("pod {}/{} runs {} times: {pods:?}", name.0, name.1, pods.len()));
            }
        }
        verdict
    }
}

fn name(one: &Running) -> (String, String) {
    (one.namespace.clone(), one.pod.clone())
}

/// UID, machine, container.
fn process(one: &Running) -> (String, String, String) {
    (one.uid.clone(), one.machine.clone(), one.container.clone())
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
