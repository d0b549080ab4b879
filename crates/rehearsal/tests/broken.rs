//! Each standing invariant is broken in a run, by a component that does its work wrongly: a disk, a store or an API server that is
//! wrapped, or a client that does what a scheduler, a controller or a kubelet would do, but not as it should.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use daruma_api::apps::v1::{Deployment, ReplicaSet};
use daruma_api::core::v1::{ConfigMap, Node, Pod};
use daruma_api::meta::{ObjectExt, controller_reference};
use daruma_client::connection::Handler;
use daruma_client::{Body, BodyError, Client, DeleteOptions, ListOptions, Patch, stream_body};
use daruma_drill::file;
use daruma_rehearsal::{Interposer, Options, Rehearsal, VirtualCluster};
use daruma_store::embedded::{Backend, BackendError, Batch, Loaded};
use daruma_world::machines::{Program, Signal};
use futures::{FutureExt, StreamExt};
use http_body_util::BodyExt;
use serde_json::{Value, json};

const IMAGE: &str = "gcr.io/google-samples/kubernetes-bootcamp:v1";

/// A cluster that is ready and has broken nothing yet.
fn cluster(options: Options) -> VirtualCluster {
    let cluster = VirtualCluster::start(Options { seed: 3, ..options }).expect("a cluster");
    cluster.run(cluster.wait_ready()).expect("every node is Ready");
    assert_eq!(cluster.guard().expect("invariants are checked").violations(), []);
    cluster
}

/// Ends it after so much time, and demands that these invariants were broken and no other.
#[track_caller]
fn check(cluster: VirtualCluster, after: Duration, broken: &[&str]) {
    cluster.run_for(after);
    let violations = cluster.stop();
    let names: BTreeSet<&str> = violations.iter().map(|violation| violation.invariant).collect();
    assert_eq!(names, broken.iter().copied().collect(), "{violations:#?}");
}

async fn create(client: &Client, path: &str, object: Value) {
    let body = Some(object.to_string().into());
    let made = client.json(http::Method::POST, path, "application/json", body).await;
    made.unwrap_or_else(|error| panic!("{path}: {error}"));
}

async fn wait<T>(client: &Client, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(seen) = look().await {
            return seen;
        }
        client.world().sleep(Duration::from_millis(100)).await;
    }
    panic!("not within a minute");
}

fn template(cpu: &str) -> Value {
    let container = json!({"name": "c", "image": IMAGE, "resources": {"requests": {"cpu": cpu}}});
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}})
}

/// A pod that nobody's scheduler looks at.
fn pod(name: &str, cpu: &str) -> Value {
    let mut pod = template(cpu);
    pod["metadata"]["name"] = name.into();
    pod["spec"]["schedulerName"] = "broken".into();
    pod
}

/// Creates a workload of pods named web and waits until all of them are available.
async fn web(client: &Client, resource: &str, kind: &str, replicas: i32) {
    let object = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("10m")}});
    create(client, &format!("/apis/apps/v1/namespaces/default/{resource}"), object).await;
    let path = format!("/apis/apps/v1/namespaces/default/{resource}/web");
    wait(client, async || {
        let found = client.json(http::Method::GET, &path, "", None).await.ok()?;
        let found: Value = serde_json::from_slice(&found).ok()?;
        (found["status"]["availableReplicas"] == replicas).then_some(())
    })
    .await;
}

async fn the_set(client: &Client) -> ReplicaSet {
    let sets = client.namespaced::<ReplicaSet>("default").list(&ListOptions::default()).await.expect("a list").items;
    sets.into_iter().next().expect("the Deployment controller made it")
}

// Disks, stores and API servers.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    LosesAWrite,
    CountsBackwards,
    TellsTwice,
    TellsNever,
}

/// Breaks one thing, once, when it is armed.
#[derive(Debug, Clone)]
struct Breaker {
    what: Break,
    armed: Arc<AtomicBool>,
}

impl Breaker {
    fn fires(&self, what: Break) -> bool {
        self.what == what && self.armed.swap(false, Ordering::SeqCst)
    }

    /// What a client is told of one event.
    fn told(&self, event: Bytes) -> Vec<Result<Bytes, BodyError>> {
        let times = match self.what {
            Break::TellsTwice if self.fires(Break::TellsTwice) => 2,
            Break::TellsNever if self.fires(Break::TellsNever) => 0,
            _ => 1,
        };
        vec![event; times].into_iter().map(Ok).collect()
    }
}

impl Interposer for Breaker {
    fn disk(&self, disk: Arc<dyn Backend>) -> Arc<dyn Backend> {
        if self.what == Break::LosesAWrite { Arc::new(BrokenBackend { inner: disk, breaker: self.clone() }) } else { disk }
    }

    fn store(&self, store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        if self.what == Break::CountsBackwards { Arc::new(BrokenBackend { inner: store, breaker: self.clone() }) } else { store }
    }

    fn api_server(&self, handler: Handler) -> Handler {
        let breaker = self.clone();
        Arc::new(move |request, peer| {
            let agent = request.headers().get(http::header::USER_AGENT).map(|agent| agent.as_bytes() == b"daruma");
            let query = request.uri().query().unwrap_or_default();
            let is_ours = agent == Some(true) && request.uri().path() == "/api/v1/pods" && query.contains("watch=true");
            let answer = handler(request, peer);
            if !is_ours {
                return answer;
            }
            let breaker = breaker.clone();
            let broken = move |body: Body| {
                let chunks = body.into_data_stream().flat_map(move |chunk| {
                    futures::stream::iter(chunk.map_or_else(|error| vec![Err(error)], |event| breaker.told(event)))
                });
                stream_body(chunks)
            };
            async move { answer.await.map(broken) }.boxed()
        })
    }
}

struct BrokenBackend {
    inner: Arc<dyn Backend>,
    breaker: Breaker,
}

impl Backend for BrokenBackend {
    fn load(&self) -> Result<Loaded, BackendError> {
        self.inner.load()
    }

    fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        let mut batch = batch.clone();
        if let Some(place) = batch.changes.iter().position(|change| change.key.ends_with("configmaps/default/victim"))
            && self.breaker.armed.swap(false, Ordering::SeqCst)
        {
            match self.breaker.what {
                Break::CountsBackwards => batch.changes[place].revision -= 1,
                _ => drop(batch.changes.remove(place)),
            }
        }
        if batch.changes.is_empty() { Ok(()) } else { self.inner.commit(&batch) }
    }

    fn revision(&self) -> Result<u64, BackendError> {
        self.inner.revision()
    }
}

/// Breaks it while a `ConfigMap` and a pod are written; then the controller is reset.
#[track_caller]
fn broken_part(what: Break, broken: &[&str]) {
    let armed = Arc::new(AtomicBool::new(false));
    let breaker = Breaker { what, armed: armed.clone() };
    let cluster = cluster(Options { interposer: Some(Arc::new(breaker)), ..Options::default() });
    armed.store(true, Ordering::SeqCst);
    cluster.run(async {
        let client = cluster.client();
        let victim: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "victim"}})).expect("a ConfigMap");
        client.namespaced::<ConfigMap>("default").create(&victim).await.expect("acknowledged");
        create(&client, "/api/v1/namespaces/default/pods", pod("one", "10m")).await;
        create(&client, "/api/v1/namespaces/default/pods", pod("two", "10m")).await;
    });
    cluster.run_for(Duration::from_secs(2));
    assert!(!armed.load(Ordering::SeqCst), "it was broken");
    if what == Break::LosesAWrite {
        cluster.run(cluster.machines().reset("controller-0")).expect("it is on");
    }
    check(cluster, Duration::from_secs(20), broken);
}

#[test]
fn a_disk_that_loses_a_write() {
    broken_part(Break::LosesAWrite, &["acknowledged-writes-stay"]);
}

#[test]
fn a_store_that_counts_backwards() {
    broken_part(Break::CountsBackwards, &["resource-versions-grow"]);
}

#[test]
fn a_watch_that_tells_twice_or_never() {
    broken_part(Break::TellsTwice, &["watches-are-complete"]);
    broken_part(Break::TellsNever, &["watches-are-complete"]);
}

// Schedulers and controllers.

#[test]
fn a_scheduler_that_does_not_count() {
    let cluster = cluster(Options::default());
    cluster.run(async {
        let client = cluster.client();
        for number in 0..3 {
            let name = format!("heavy-{number}");
            create(&client, "/api/v1/namespaces/default/pods", pod(&name, "900m")).await;
            let target = json!({"apiVersion": "v1", "kind": "Node", "name": "worker-0"});
            let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target});
            create(&client, &format!("/api/v1/namespaces/default/pods/{name}/binding"), binding).await;
        }
    });
    check(cluster, Duration::from_secs(5), &["pods-fit-their-nodes"]);
}

#[test]
fn a_replica_set_controller_that_makes_too_many() {
    let cluster = cluster(Options::default());
    cluster.run(async {
        let client = cluster.client();
        web(&client, "deployments", "Deployment", 1).await;
        let set = the_set(&client).await;
        let mut surplus: Pod = serde_json::from_value(pod("surplus", "10m")).expect("a pod");
        let hash = set.label("pod-template-hash").expect("the Deployment controller sets it").to_owned();
        surplus.metadata.labels.get_or_insert_default().insert("pod-template-hash".into(), hash);
        surplus.metadata.owner_references = Some(vec![controller_reference(&set)]);
        client.namespaced::<Pod>("default").create(&surplus).await.expect("created");
    });
    check(cluster, Duration::from_secs(5), &["replicas-within-bounds"]);
}

/// Sets the Deployment's only `ReplicaSet` to a size that its strategy does not allow.
#[track_caller]
fn broken_rollout(size: i32) {
    let cluster = cluster(Options::default());
    cluster.run(async {
        let client = cluster.client();
        web(&client, "deployments", "Deployment", 4).await;
        let set = the_set(&client).await;
        let patch = Patch::Merge(json!({"spec": {"replicas": size}}));
        // The Deployment's controller sets it right at once; now and then the ReplicaSet's is quicker. What is lost to the slower one
        // excuses a rollout for five seconds.
        for _ in 0..12 {
            client.namespaced::<ReplicaSet>("default").patch(set.name(), &patch).await.expect("patched");
            client.world().sleep(Duration::from_secs(7)).await;
        }
    });
    check(cluster, Duration::from_secs(20), &["replicas-within-bounds"]);
}

#[test]
fn a_rollout_that_adds_too_many_or_takes_too_many() {
    broken_rollout(6);
    broken_rollout(0);
}

#[test]
fn a_deployment_controller_may_do_that() {
    let cluster = cluster(Options::default());
    cluster.run(async {
        let client = cluster.client();
        web(&client, "deployments", "Deployment", 4).await;
        let patch = Patch::Merge(json!({"spec": {"template": {"metadata": {"annotations": {"round": "2"}}}}}));
        client.namespaced::<Deployment>("default").patch("web", &patch).await.expect("patched");
        client.world().sleep(Duration::from_secs(1)).await;
        let patch = Patch::Merge(json!({"spec": {"replicas": 1}}));
        client.namespaced::<Deployment>("default").patch("web", &patch).await.expect("patched");
    });
    check(cluster, Duration::from_secs(20), &[]);
}

// Kubelets. One that has stopped ends nothing; somebody says in its place what is not true.

/// The one pod of the workload, and its node, whose kubelet stands still from now on.
async fn abandoned(cluster: &VirtualCluster, client: &Client) -> (Pod, String) {
    let pods = client.namespaced::<Pod>("default").list(&ListOptions::default()).await.expect("a list").items;
    let pod = pods.into_iter().next().expect("it runs");
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).expect("it is bound");
    let patch = Patch::Merge(json!({"spec": {"unschedulable": true}}));
    client.cluster::<Node>().patch(&node, &patch).await.expect("patched");
    cluster.machines().signal(&node, &Program::Service("kubelet".into()), Signal::Stop).await.expect("it runs");
    (pod, node)
}

fn at_once() -> DeleteOptions {
    DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() }
}

#[test]
fn a_kubelet_that_says_that_a_pod_has_ended() {
    let cluster = cluster(Options::default());
    cluster.run(async {
        let client = cluster.client();
        web(&client, "statefulsets", "StatefulSet", 1).await;
        let (pod, node) = abandoned(&cluster, &client).await;
        let api = client.namespaced::<Pod>("default");
        api.patch_status(pod.name(), &Patch::Merge(json!({"status": {"phase": "Failed"}}))).await.expect("patched");
        // The controller deletes what has failed, and waits for its kubelet.
        let _ = api.delete(pod.name(), &at_once()).await;
        wait(&client, async || {
            let other = api.get("web-0").await.ok().filter(|other| other.uid() != pod.uid())?;
            let status = other.status.as_ref()?;
            assert_ne!(other.spec.as_ref()?.node_name.as_deref(), Some(&*node));
            (status.phase.as_deref() == Some("Running")).then_some(())
        })
        .await;
    });
    check(cluster, Duration::from_secs(2), &["one-pod-of-a-name"]);
}

#[test]
fn a_kubelet_that_lets_a_force_deleted_pod_run() {
    let cluster = cluster(Options { node_monitor_grace_period: "600s".into(), ..Options::default() });
    cluster.run(async {
        let client = cluster.client();
        web(&client, "deployments", "Deployment", 1).await;
        let (pod, _) = abandoned(&cluster, &client).await;
        client.namespaced::<Pod>("default").delete(pod.name(), &at_once()).await.expect("deleted");
    });
    check(cluster, Duration::from_secs(65), &["force-deleted-containers-end"]);
}

// What comes after the faults.

const LOST_AND_FOUND: &str = "
apiVersion: daruma.dev/v1
kind: Drill
metadata: {name: lost-and-found}
spec:
  steps:
  - {fault: power-off, target: {machine: worker-1}}
  - waitFor: {nodeNotReady: worker-1, limit: 2m}
  - {fault: controller-manager, with: {how: kill}}
  - undo: power-off
  convergeWithin: 90s
";

#[test]
fn a_controller_manager_that_does_nothing_any_more() {
    let drill = file::parse("drill", LOST_AND_FOUND, &BTreeMap::new(), &|_| Err("no files".into())).expect("a drill");
    let play = |does_nothing: bool| {
        let prepared = Rehearsal { seed: 3, invariants: true, keeps_log: true }.prepare(&drill).expect("every node is Ready");
        if does_nothing {
            // It holds back the one that is started next.
            prepared.cluster().hold("kube-controller-manager");
        }
        let played = prepared.play(&drill, &mut (), &|| false);
        (played.violations, played.log.text())
    };
    let (violations, log) = play(true);
    let names: Vec<&str> = violations.iter().map(|violation| violation.invariant).collect();
    assert_eq!(names, ["faults-heal"], "{violations:?}");
    assert!(violations[0].what.contains("node worker-1 still carries node.kubernetes.io/"), "{violations:?}");
    // The same seed breaks the same at the same time.
    assert!((violations, log) == play(true), "a seed played twice is one and the same run");
    assert_eq!(play(false).0, []);
}
