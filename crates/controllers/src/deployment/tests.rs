//! Deployments' plans applied to a model of ReplicaSets until none is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::IntOrString;
use daruma_api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetStatus, RollingUpdateDeployment,
};
use daruma_api::core::v1::{Container, PodSpec, PodTemplateSpec};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::{LabelSelector, ObjectMeta};
use proptest::prelude::*;

use super::plan::{Action, plan};
use super::{sets, status};
use crate::pods::tests::at;
use crate::pods::wire_time;

fn template(image: &str) -> PodTemplateSpec {
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let container = Container { name: "c".to_owned(), image: Some(image.to_owned()), ..Container::default() };
    PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
    }
}

fn deployment(replicas: i32, surge: IntOrString, unavailable: IntOrString) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some("uid-web".to_owned()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector {
                match_labels: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
                ..LabelSelector::default()
            },
            template: template("a:1"),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment { max_surge: Some(surge), max_unavailable: Some(unavailable) }),
            }),
            revision_history_limit: Some(2),
            progress_deadline_seconds: Some(600),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn percent(number: i32) -> IntOrString {
    IntOrString::String(format!("{number}%"))
}

/// A cluster with one Deployment: ReplicaSets get their pods at once, the pods become available one by one.
struct Model {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    second: i64,
    messages: Vec<String>,
    /// Pods of this image never become available.
    broken: Option<String>,
}

impl Model {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), second: 1000, messages: Vec::new(), broken: None }
    }

    /// Carries one plan out; gives whether it had any actions.
    fn step(&mut self) -> bool {
        self.second += 1;
        let sets = &self.sets;
        let old_pods_run = |new: Option<&str>| sets.iter().any(|set| Some(set.uid()) != new && sets::actual(set) > 0);
        let shared: Vec<Arc<ReplicaSet>> = sets.iter().cloned().map(Arc::new).collect();
        let plan = plan(&Arc::new(self.deployment.clone()), &shared, &old_pods_run, at(self.second));
        let busy = !plan.actions.is_empty();
        for action in plan.actions {
            match action {
                Action::Create(mut set) => {
                    set.metadata.uid = Some(format!("uid-{}", set.name()));
                    set.metadata.creation_timestamp = Some(wire_time(at(self.second)));
                    set.metadata.generation = Some(1);
                    let size = sets::replicas(&set);
                    self.messages.push(format!("Scaled up replica set {} from 0 to {size}", set.name()));
                    self.sets.push(*set);
                }
                Action::Update(mut set, message) => {
                    self.messages.extend(message);
                    let place = self.sets.iter_mut().find(|one| one.uid() == set.uid()).expect("exists");
                    if place.spec != set.spec {
                        set.metadata.generation = set.metadata.generation.map(|generation| generation + 1);
                    }
                    *place = *set;
                }
                Action::Delete(name) => self.sets.retain(|set| set.name() != name),
                Action::Status(deployment) => self.deployment = Arc::unwrap_or_clone(deployment),
                Action::SelectsAll => panic!("has a selector"),
            }
        }
        busy
    }

    /// The ReplicaSet controller, and one pod of the set number `lucky` becomes available.
    fn pods(&mut self, lucky: usize) {
        let count = self.sets.len().max(1);
        for (number, set) in self.sets.iter_mut().enumerate() {
            let size = sets::replicas(set);
            let image = set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.spec.as_ref()?.containers[0].image.clone());
            let works = image != self.broken;
            let available = (sets::available(set) + i32::from(works && number == lucky % count)).min(size);
            set.status = Some(ReplicaSetStatus {
                replicas: size,
                available_replicas: Some(available),
                ready_replicas: Some(available),
                observed_generation: set.metadata.generation,
                terminating_replicas: Some(0),
                ..ReplicaSetStatus::default()
            });
        }
    }

    fn settle(&mut self) {
        let mut quiet = 0;
        for round in 0.. {
            assert!(round < 3000, "does not settle: {:?}", self.messages);
            let before: Vec<_> = self.sets.iter().map(|set| set.status.clone()).collect();
            self.pods(round);
            let after: Vec<_> = self.sets.iter().map(|set| set.status.clone()).collect();
            quiet = if self.step() || before != after { 0 } else { quiet + 1 };
            if quiet > self.sets.len() + 1 {
                return;
            }
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut DeploymentSpec)) {
        change(self.deployment.spec.as_mut().expect("built"));
        self.deployment.metadata.generation = self.deployment.metadata.generation.map(|generation| generation + 1);
    }

    fn total(&self) -> i32 {
        sets::total(&self.sets)
    }

    fn available(&self) -> i32 {
        self.sets.iter().map(|set| sets::available(set).min(sets::replicas(set))).sum()
    }

    fn reason(&self) -> Option<String> {
        status::find(self.deployment.status.as_ref(), status::PROGRESSING).and_then(|condition| condition.reason.clone())
    }
}

#[test]
fn the_first_rollout_tells_its_story() {
    let mut model = Model::new(deployment(4, percent(25), percent(25)));
    assert!(model.step());
    assert_eq!(model.sets.len(), 1);
    let name = model.sets[0].name().to_owned();
    assert_eq!(model.messages, [format!("Scaled up replica set {name} from 0 to 4")]);
    assert_eq!(model.reason().as_deref(), Some("NewReplicaSetCreated"));
    assert_eq!(model.sets[0].annotation(super::revision::MAX_REPLICAS), Some("5"));
    model.settle();
    assert_eq!(model.reason().as_deref(), Some("NewReplicaSetAvailable"));
    assert_eq!(model.deployment.annotation(super::revision::REVISION), Some("1"));
}

#[test]
fn a_restart_of_four_goes_as_the_story_says() {
    let mut model = Model::new(deployment(4, percent(25), percent(25)));
    model.settle();
    model.messages.clear();
    model.change(|spec| {
        let annotation = ("kubectl.kubernetes.io/restartedAt".to_owned(), "now".to_owned());
        spec.template.metadata.as_mut().expect("built").annotations = Some([annotation].into());
    });
    model.step();
    let sizes = |model: &Model| model.sets.iter().map(sets::replicas).collect::<Vec<_>>();
    assert_eq!(sizes(&model), [3, 1], "one more and one fewer, in one sync");
    model.pods(0);
    model.step();
    assert_eq!(sizes(&model), [3, 2]);
    model.settle();
    assert_eq!(sizes(&model), [0, 4]);
    assert_eq!(model.deployment.annotation(super::revision::REVISION), Some("2"));
}

#[test]
fn a_stuck_rollout_times_out_and_a_fix_recovers() {
    let mut model = Model::new(deployment(4, percent(25), percent(25)));
    model.settle();
    model.broken = Some("a:bad".to_owned());
    model.change(|spec| spec.template = template("a:bad"));
    model.settle();
    assert_eq!(model.available(), 3);
    model.second += 601;
    model.step();
    assert_eq!(model.reason().as_deref(), Some("ProgressDeadlineExceeded"));
    model.change(|spec| spec.template = template("a:1"));
    model.settle();
    assert_eq!(model.reason().as_deref(), Some("NewReplicaSetAvailable"));
    assert_eq!(model.available(), 4);
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let mut spec = deployment(3, percent(25), percent(25));
    spec.spec.as_mut().expect("built").strategy =
        Some(DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None });
    let mut model = Model::new(spec);
    model.settle();
    model.change(|spec| spec.template = template("a:2"));
    model.step();
    assert_eq!((model.sets.len(), model.total()), (1, 0));
    model.step();
    assert_eq!(model.sets.len(), 1, "old pods are still there");
    model.settle();
    assert_eq!((model.sets.len(), model.total(), model.available()), (2, 3, 3));
}

#[test]
fn history_is_limited() {
    let mut model = Model::new(deployment(1, IntOrString::Int(1), IntOrString::Int(0)));
    for number in 0..6 {
        model.change(|spec| spec.template = template(&format!("a:{number}")));
        model.settle();
    }
    assert_eq!(model.sets.len(), 3);
}

#[test]
fn pausing_and_scaling_in_proportion() {
    let mut model = Model::new(deployment(10, IntOrString::Int(3), IntOrString::Int(2)));
    model.settle();
    model.broken = Some("a:2".to_owned());
    model.change(|spec| spec.template = template("a:2"));
    model.settle();
    let sizes = |model: &Model| model.sets.iter().map(sets::replicas).collect::<Vec<_>>();
    assert_eq!(sizes(&model), [8, 5]);
    model.change(|spec| spec.replicas = Some(15));
    model.step();
    assert_eq!(sizes(&model), [11, 7]);
    model.change(|spec| spec.paused = Some(true));
    model.step();
    assert_eq!(model.reason().as_deref(), Some("DeploymentPaused"));
}

/// Its ReplicaSet's controller has not counted since it was made smaller: what it said then is not there any more, and
/// the real controller takes nothing away by it ("got invalid request to scale down").
#[test]
fn an_old_count_takes_no_pod_away() {
    let mut model = Model::new(deployment(10, IntOrString::Int(3), IntOrString::Int(2)));
    model.settle();
    model.change(|spec| spec.template = template("a:2"));
    let sizes = |model: &Model| model.sets.iter().map(sets::replicas).collect::<Vec<_>>();
    while sizes(&model) != [8, 5] {
        assert!(model.step());
    }
    let available = |set: &mut ReplicaSet, count| set.status.get_or_insert_default().available_replicas = Some(count);
    available(&mut model.sets[0], 10);
    available(&mut model.sets[1], 2);
    model.step();
    assert_eq!(sizes(&model), [8, 5]);
    available(&mut model.sets[0], 8);
    model.step();
    assert_eq!(sizes(&model), [6, 5], "eight and two are there, eight must be");
}

proptest! {
    /// Rollouts and scalings in any order settle; while only the template changes, there are never more
    /// pods than the surge allows and never fewer available than promised.
    #[test]
    fn converges(
        replicas in 1i32..12,
        surge in 0i32..4,
        unavailable in 0i32..4,
        changes in proptest::collection::vec((0u8..3, 0i32..12), 1..4),
    ) {
        let mut model = Model::new(deployment(replicas, IntOrString::Int(surge), IntOrString::Int(unavailable)));
        model.settle();
        for (number, (kind, value)) in changes.into_iter().enumerate() {
            if kind == 0 {
                model.change(|spec| spec.replicas = Some(value));
                model.settle();
            } else {
                model.change(|spec| spec.template = template(&format!("a:{number}-{kind}")));
                let most = sets::wanted(&model.deployment) + sets::max_surge(&model.deployment);
                let least = sets::wanted(&model.deployment) - sets::max_unavailable(&model.deployment);
                let mut quiet = 0;
                for round in 0.. {
                    prop_assert!(round < 3000, "does not settle");
                    model.pods(round);
                    quiet = if model.step() { 0 } else { quiet + 1 };
                    prop_assert!(model.total() <= most, "{} above {most}", model.total());
                    prop_assert!(model.available() >= least, "{} below {least}", model.available());
                    if quiet > 3 * model.sets.len() + 12 {
                        break;
                    }
                }
            }
            prop_assert_eq!(model.total(), sets::wanted(&model.deployment));
            prop_assert_eq!(model.available(), sets::wanted(&model.deployment));
        }
    }
}
