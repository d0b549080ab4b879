//! What each pod is to a ReplicaSet, remembered for as long as both are the same: of the hundreds of pods of a set most
//! times one has changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use daruma_api::apps::v1::ReplicaSet;
use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_api::selector::Selector;

use crate::adoption::{Claim, claim};
use crate::pods;

/// A pod as its ReplicaSet sees it.
#[derive(Debug, Clone)]
pub struct Replica {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Whose it is.
    pub claim: Claim,
    /// Neither ended nor being deleted.
    pub is_active: bool,
    /// Being deleted and not ended.
    pub is_terminating: bool,
    /// Condition Ready.
    pub is_ready: bool,
    /// It has all labels of the template.
    pub is_fully_labeled: bool,
}

/// What a ReplicaSet looks for in pods.
pub struct View<'a> {
    set: &'a ReplicaSet,
    selector: &'a Selector,
    template_labels: Selector,
}

impl<'a> View<'a> {
    /// `selector` is that of the set.
    pub fn new(set: &'a ReplicaSet, selector: &'a Selector) -> Self {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.as_ref());
        Self { set, selector, template_labels: template.map(Selector::from_map).unwrap_or_default() }
    }

    /// Looks at one pod.
    pub fn look(&self, pod: Arc<Pod>) -> Replica {
        Replica {
            claim: claim(self.set, self.selector, pod.as_ref()),
            is_active: pods::is_active(&pod),
            is_terminating: pods::is_terminating(&pod),
            is_ready: pods::is_ready(&pod),
            is_fully_labeled: self.template_labels.matches(pod.metadata.labels.as_ref()),
            pod,
        }
    }

    fn version(&self) -> Version {
        let metadata = &self.set.metadata;
        (self.set.uid().to_owned(), metadata.generation, self.set.is_being_deleted())
    }
}

/// All of a set that a look at a pod asks for: its specification changes with its generation.
type Version = (String, Option<i64>, bool);

/// The last look at the pods of each set.
#[derive(Default)]
pub(super) struct Census {
    sets: Mutex<BTreeMap<String, (Version, Vec<Replica>)>>,
}

impl Census {
    /// `pods` as the set under `key` sees them. Those that are the very objects of the last time are not looked at again.
    pub(super) fn count(&self, key: &str, view: &View<'_>, pods: Vec<Arc<Pod>>) -> Vec<Replica> {
        let version = view.version();
        let mut sets = self.sets.lock().expect("no panic while held");
        let known = sets.remove(key).filter(|(known, _)| *known == version).map(|(_, replicas)| replicas).unwrap_or_default();
        let mut known = known.into_iter().peekable();
        let replicas: Vec<Replica> = pods
            .into_iter()
            .map(|pod| {
                if let Some(same) = known.next_if(|replica| Arc::ptr_eq(&replica.pod, &pod)) {
                    return same;
                }
                // Both lists are in the order of names.
                while known.next_if(|replica| replica.pod.name() < pod.name()).is_some() {}
                match known.next_if(|replica| replica.pod.name() == pod.name()) {
                    Some(same) if Arc::ptr_eq(&same.pod, &pod) => same,
                    _ => view.look(pod),
                }
            })
            .collect();
        sets.insert(key.to_owned(), (version, replicas.clone()));
        replicas
    }

    /// The set is gone.
    pub(super) fn forget(&self, key: &str) {
        self.sets.lock().expect("no panic while held").remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;

    fn names(replicas: &[Replica]) -> Vec<(&str, bool)> {
        replicas.iter().map(|replica| (replica.pod.name(), replica.is_ready)).collect()
    }

    #[test]
    fn what_has_changed_is_looked_at_again() {
        let (census, mut set, selector) = (Census::default(), ReplicaSet::default(), Selector::default());
        (set.metadata.uid, set.metadata.namespace) = (Some("set".into()), pod("a", "n", None).metadata.namespace);
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| Arc::new(pod(name, "n", Some(1))));
        let first = census.count("k", &View::new(&set, &selector), vec![a.clone(), b.clone(), d.clone()]);
        assert_eq!(names(&first), [("a", true), ("b", true), ("d", true)]);
        let broken = Arc::new(pod("b", "n", None));
        let second = census.count("k", &View::new(&set, &selector), vec![broken.clone(), c.clone(), d.clone()]);
        assert_eq!(names(&second), [("b", false), ("c", true), ("d", true)]);
        // The same objects seen by a set that has changed.
        assert!(second[2].is_active && second[2].claim == Claim::Adopt);
        set.metadata.deletion_timestamp = Some(crate::pods::wire_time(jiff::Timestamp::UNIX_EPOCH));
        let third = census.count("k", &View::new(&set, &selector), vec![broken, c, d]);
        assert_eq!(third[2].claim, Claim::Ignore);
        census.forget("k");
        assert!(census.sets.lock().expect("no panic while held").is_empty());
    }
}
