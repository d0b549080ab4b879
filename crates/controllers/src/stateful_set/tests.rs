//! StatefulSets' plans applied to a model until none is left.

use std::sync::Arc;

use daruma_api::apps::v1::{
    ControllerRevision, RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetOrdinals, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use daruma_api::core::v1::{Container, PersistentVolumeClaim, Pod, PodSpec, PodStatus, PodTemplateSpec};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use proptest::prelude::*;

use super::history::{Update, new_revision, next_number, surplus, update};
use super::identity::{POD_INDEX, POD_NAME, is_member, matches, new_pod, revision};
use super::plan::{Action, Revision, Seen, plan, says};
use crate::pods;
use crate::pods::tests::{at, pod};

fn template(image: &str) -> PodTemplateSpec {
    let container = Container { name: "c".into(), image: Some(image.into()), ..Container::default() };
    PodTemplateSpec { metadata: None, spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }) }
}

fn set(replicas: i32, policy: &str) -> StatefulSet {
    StatefulSet {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("uid-web".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            pod_management_policy: Some(policy.into()),
            service_name: Some("web".into()),
            template: template("i:1"),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy { partition: Some(0), max_unavailable: None }),
            }),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn spec(set: &mut StatefulSet) -> &mut StatefulSetSpec {
    set.spec.as_mut().expect("built")
}

struct Model {
    set: StatefulSet,
    pods: Vec<Arc<Pod>>,
    current: Revision,
    update: Revision,
    second: i64,
}

impl Model {
    fn new(set: StatefulSet) -> Self {
        let revision = Revision { name: "web-1".into(), template: template("i:1") };
        Self { set, pods: Vec::new(), current: revision.clone(), update: revision, second: 100 }
    }

    fn roll(&mut self, partition: i32) {
        self.update = Revision { name: "web-2".into(), template: template("i:2") };
        let strategy = spec(&mut self.set).update_strategy.as_mut().expect("built");
        strategy.rolling_update = Some(RollingUpdateStatefulSetStrategy { partition: Some(partition), max_unavailable: None });
    }

    /// One plan; what it did, as `+name`, `-name`, `~name`.
    fn step(&mut self) -> Vec<String> {
        self.second += 1;
        let seen = Seen {
            set: &self.set,
            pods: &self.pods,
            current: &self.current,
            update: &self.update,
            collisions: 0,
            now: at(self.second),
        };
        let mut plan = plan(&seen);
        let mut done = Vec::new();
        for action in plan.steps.into_iter().flatten() {
            match action {
                Action::Create(new) => {
                    done.push(format!("+{}", new.name()));
                    let mut new = *new;
                    new.metadata.uid = Some(format!("uid-{}-{}", new.name(), self.second));
                    new.status = Some(PodStatus { phase: Some("Pending".into()), ..PodStatus::default() });
                    self.pods.push(Arc::new(new));
                }
                Action::Delete(gone) => {
                    done.push(format!("-{}", gone.name()));
                    self.pods.retain(|pod| pod.uid() != gone.uid());
                }
                Action::Update(new) => {
                    done.push(format!("~{}", new.name()));
                    let place = self.pods.iter_mut().find(|pod| pod.name() == new.name()).expect("it was seen");
                    *place = Arc::new(*new);
                }
            }
        }
        plan.status.current_replicas = plan.status.current_replicas.map(|count| count - plan.leaving);
        if plan.status.current_revision.as_deref() == Some(self.update.name.as_str()) {
            self.current = self.update.clone();
        }
        self.set.status = Some(plan.status);
        done
    }

    fn ready(&mut self, name: &str) {
        let place = self.pods.iter_mut().find(|pod| pod.name() == name).expect("it is there");
        let mut ready = pod(name, "n", Some(self.second));
        ready.metadata = place.metadata.clone();
        *place = Arc::new(ready);
    }

    fn all_ready(&mut self) {
        let names: Vec<String> = self.pods.iter().filter(|pod| !pods::is_ready(pod)).map(|pod| pod.name().to_owned()).collect();
        for name in names {
            self.ready(&name);
        }
    }

    /// Steps until nothing is left to do; everything that was done.
    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..200 {
            let done = self.step();
            if done.is_empty() && self.pods.iter().all(|pod| pods::is_ready(pod)) {
                return all;
            }
            all.extend(done);
            self.all_ready();
        }
        panic!("does not settle: {all:?}");
    }

    fn counts(&self) -> [i32; 5] {
        let status = self.set.status.as_ref().expect("a step was made");
        let count = |count: Option<i32>| count.unwrap_or_default();
        [
            status.replicas,
            count(status.ready_replicas),
            count(status.available_replicas),
            count(status.current_replicas),
            count(status.updated_replicas),
        ]
    }
}

#[test]
fn pods_come_in_order_and_go_in_reverse() {
    let mut model = Model::new(set(3, "OrderedReady"));
    assert_eq!(model.step(), ["+web-0"]);
    assert!(model.step().is_empty(), "web-0 is not ready");
    model.ready("web-0");
    assert_eq!(model.step(), ["+web-1"]);
    model.ready("web-1");
    assert_eq!(model.step(), ["+web-2"]);
    model.settle();
    assert_eq!(model.counts(), [3, 3, 3, 3, 3]);
    spec(&mut model.set).replicas = Some(1);
    assert_eq!(model.step(), ["-web-2"]);
    assert_eq!(model.step(), ["-web-1"]);
    assert!(model.step().is_empty());
    assert_eq!(model.counts(), [1, 1, 1, 1, 1]);
}

#[test]
fn parallel_pods_do_not_wait() {
    let mut model = Model::new(set(3, "Parallel"));
    spec(&mut model.set).ordinals = Some(StatefulSetOrdinals { start: Some(5) });
    assert_eq!(model.step(), ["+web-5", "+web-6", "+web-7"]);
    spec(&mut model.set).replicas = Some(1);
    assert_eq!(model.step(), ["-web-7", "-web-6"]);
}

#[test]
fn an_ended_pod_is_replaced_under_its_name() {
    let mut model = Model::new(set(2, "OrderedReady"));
    model.settle();
    let mut ended = model.pods[0].as_ref().clone();
    ended.status.as_mut().expect("built").phase = Some("Failed".into());
    model.pods[0] = Arc::new(ended);
    assert_eq!(model.step(), ["-web-0"]);
    assert_eq!(model.step(), ["+web-0"]);
    // A pod that is still terminating, on a dead node say, is not replaced.
    model.settle();
    let place = model.pods.iter_mut().find(|pod| pod.name() == "web-0").expect("it is there");
    let mut leaving = place.as_ref().clone();
    leaving.metadata.deletion_timestamp = Some(pods::wire_time(at(1)));
    *place = Arc::new(leaving);
    assert!(model.step().is_empty());
}

#[test]
fn updates_go_from_the_highest_down_to_the_partition() {
    let mut model = Model::new(set(3, "OrderedReady"));
    model.settle();
    model.roll(1);
    assert_eq!(model.step(), ["-web-2"]);
    assert_eq!(model.counts()[3..], [2, 0]);
    assert_eq!(model.step(), ["+web-2"]);
    assert!(model.step().is_empty(), "web-2 is not ready");
    assert_eq!(model.settle(), ["-web-1", "+web-1"]);
    assert_eq!(model.counts(), [3, 3, 3, 1, 2]);
    assert_eq!(model.set.status.as_ref().and_then(|status| status.current_revision.as_deref()), Some("web-1"));
    // Below the partition a lost pod comes back as it was.
    model.pods.retain(|pod| pod.name() != "web-0");
    model.settle();
    let old = model.pods.iter().find(|pod| pod.name() == "web-0").expect("it is there");
    assert_eq!(revision(old), "web-1");
    model.roll(0);
    assert_eq!(model.settle(), ["-web-0", "+web-0"]);
    assert_eq!(model.counts(), [3, 3, 3, 3, 3]);
    assert_eq!(model.set.status.as_ref().and_then(|status| status.current_revision.as_deref()), Some("web-2"));
}

#[test]
fn on_delete_waits_for_somebody_to_delete() {
    let mut model = Model::new(set(2, "OrderedReady"));
    model.settle();
    model.roll(0);
    spec(&mut model.set).update_strategy =
        Some(StatefulSetUpdateStrategy { type_: Some("OnDelete".into()), rolling_update: None });
    assert!(model.settle().is_empty());
    model.pods.retain(|pod| pod.name() != "web-1");
    assert_eq!(model.settle(), ["+web-1"]);
    assert_eq!(model.counts(), [2, 2, 2, 1, 1]);
}

#[test]
fn min_ready_seconds_hold_the_next_pod_back() {
    let mut model = Model::new(set(2, "OrderedReady"));
    spec(&mut model.set).min_ready_seconds = Some(10);
    model.step();
    model.ready("web-0");
    assert!(model.step().is_empty());
    assert_eq!(model.counts()[..3], [1, 1, 0]);
    model.second += 10;
    assert_eq!(model.step(), ["+web-1"]);
}

#[test]
fn identity() {
    let mut owner = set(1, "OrderedReady");
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some("data".into()), ..ObjectMeta::default() },
        ..PersistentVolumeClaim::default()
    };
    spec(&mut owner).volume_claim_templates = Some(vec![claim]);
    let new = new_pod(&owner, &template("i:1"), "web-abc", 3);
    assert_eq!((new.label(POD_NAME), new.label(POD_INDEX), revision(&new)), (Some("web-3"), Some("3"), "web-abc"));
    let made = new.spec.as_ref().expect("set");
    assert_eq!((made.hostname.as_deref(), made.subdomain.as_deref()), (Some("web-3"), Some("web")));
    let volumes = made.volumes.as_ref().expect("set");
    assert_eq!(volumes[0].persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str()), Some("data-web-3"));
    assert!(is_member(&owner, &new) && matches(&owner, &new));
    assert!(!is_member(&owner, &pod("web-x", "n", None)) && !is_member(&owner, &pod("other-1", "n", None)));
    let mut model = Model::new(set(1, "OrderedReady"));
    model.settle();
    let mut bare = model.pods[0].as_ref().clone();
    bare.metadata.labels.as_mut().expect("built").remove(POD_NAME);
    model.pods[0] = Arc::new(bare);
    assert_eq!(model.step(), ["~web-0"]);
    assert_eq!(model.pods[0].label(POD_NAME), Some("web-0"));
}

#[test]
fn revisions() {
    let mut owner = set(1, "OrderedReady");
    assert_eq!(update(&owner, &[]), Update::New);
    let first = new_revision(&owner, next_number(&[]), 0);
    let mut all: Vec<ControllerRevision> = vec![first.clone()];
    assert_eq!(update(&owner, &all), Update::Newest(first.clone()));
    spec(&mut owner).template = template("i:2");
    assert_eq!(update(&owner, &all), Update::New);
    let second = new_revision(&owner, next_number(&all), 0);
    assert_eq!(second.revision, 2);
    assert_ne!(second.name(), new_revision(&owner, 2, 1).name());
    all.push(second.clone());
    spec(&mut owner).template = template("i:1");
    assert_eq!(update(&owner, &all), Update::Older(first.clone()));
    spec(&mut owner).revision_history_limit = Some(0);
    assert_eq!(surplus(&owner, &all, &[], [second.name(), second.name()]), [first.name()]);
    assert!(surplus(&owner, &all, &[], [first.name(), second.name()]).is_empty());
}

#[test]
fn a_status_is_written_when_it_says_something_new() {
    let mut model = Model::new(set(1, "OrderedReady"));
    model.settle();
    let status = model.set.status.clone().expect("set");
    assert!(says(&model.set, &status));
    let mut later = status;
    later.observed_generation = Some(2);
    assert!(!says(&model.set, &later));
}

proptest! {
    /// From any pods to any size, in either order, through an update: everything ends ready and new, and in order never more
    /// than one pod is missing in an update.
    #[test]
    fn converges(before in 0i32..8, after in 0i32..8, parallel in any::<bool>(), partition in 0i32..4) {
        let mut model = Model::new(set(before, if parallel { "Parallel" } else { "OrderedReady" }));
        model.settle();
        spec(&mut model.set).replicas = Some(after);
        model.roll(partition);
        model.settle();
        let mut names: Vec<&str> = model.pods.iter().map(|pod| pod.name()).collect();
        names.sort_unstable();
        let wanted: Vec<String> = (0..after).map(|number| format!("web-{number}")).collect();
        prop_assert_eq!(names, wanted);
        for pod in &model.pods {
            let number = super::identity::ordinal(pod).expect("a member");
            prop_assert_eq!(revision(pod) == "web-2", number >= partition, "{}", pod.name());
        }
    }
}
