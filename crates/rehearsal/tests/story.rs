//! The acceptance story in virtual time, with the defaults of a real cluster: 50 s of grace, 300 s of toleration.
//!
//! Checks what `crates/daruma/tests/story.rs` checks on real machines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::apps::v1::Deployment;
use daruma_api::core::v1::{ContainerStatus, Event, Node, Pod, Service};
use daruma_api::meta::ObjectExt;
use daruma_client::{Client, DeleteOptions, ListOptions, Patch, WatchEvent};
use daruma_rehearsal::{Options, VirtualCluster};
use daruma_world::machines::Machines;
use daruma_world::{Task, World};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_secs(50);
const TOLERATION: Duration = Duration::from_secs(300);
const APP: &str = "app=kubernetes-bootcamp";

#[test]
fn the_story_with_the_defaults() {
    let cluster = VirtualCluster::start(Options::default()).expect("a cluster");
    let day = Day::of(&cluster);
    cluster.run(async {
        cluster.wait_ready().await.expect("every node is Ready");
        day.say("every node is Ready");
        day.start().await;
        day.force_delete().await;
        day.hard_reset().await;
        day.power_off_for_good().await;
        day.rolling_restart().await;
        day.top().await;
    });
    let guard = cluster.guard().expect("invariants are checked").clone();
    cluster.run_for(10 * SECOND);
    assert_eq!(guard.converged(), Ok(()));
    let violations = cluster.stop();
    assert!(violations.is_empty(), "{violations:#?}");
}

/// Scenes 0 to 3, run twice with one seed and once with another.
#[test]
fn a_seed_run_twice_gives_one_and_the_same_log() {
    let log = |seed| {
        let cluster = VirtualCluster::start(Options { seed, ..Options::default() }).expect("a cluster");
        let day = Day::of(&cluster);
        cluster.run(async {
            cluster.wait_ready().await.expect("every node is Ready");
            day.start().await;
            day.force_delete().await;
            day.hard_reset().await;
            day.power_off_for_good().await;
        });
        cluster.log().text()
    };
    let (first, again, other) = (log(7), log(7), log(8));
    let differs = first.lines().zip(again.lines()).enumerate().find(|(_, (one, two))| one != two);
    assert!(first == again, "line {differs:?}");
    assert!(first != other, "another seed, another run");
}

struct Day {
    client: Client,
    world: World,
    machines: Arc<dyn Machines>,
    addresses: BTreeMap<String, String>,
}

impl Day {
    fn of(cluster: &VirtualCluster) -> Self {
        let machines = cluster.shape().machines.iter();
        Self {
            client: cluster.client(),
            world: cluster.world(),
            machines: cluster.machines(),
            addresses: machines.map(|machine| (machine.name.clone(), machine.address.to_string())).collect(),
        }
    }

    fn say(&self, what: &str) {
        eprintln!("{:>9.3} s  {what}", self.world.monotonic().as_secs_f64());
    }

    async fn create(&self, path: &str, object: Value) {
        let body = Some(object.to_string().into());
        let made = self.client.json(http::Method::POST, path, "application/json", body).await;
        made.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Scene 0: two pods on each worker.
    async fn start(&self) {
        let labels = json!({"app": "kubernetes-bootcamp"});
        let container = json!({"name": "kubernetes-bootcamp", "image": "gcr.io/google-samples/kubernetes-bootcamp:v1"});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
        let metadata = json!({"name": "kubernetes-bootcamp", "labels": labels});
        let spec = json!({"replicas": 4, "selector": {"matchLabels": labels}, "template": template});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
        self.create("/apis/apps/v1/namespaces/default/deployments", deployment).await;
        let spec = json!({"type": "NodePort", "selector": labels, "ports": [{"port": 8080, "targetPort": 8080}]});
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
        self.create("/api/v1/namespaces/default/services", service).await;
        self.four_running().await;
        self.say("scene 0: four Running");
        assert_eq!(self.spread().await, spread(&[("worker-0", 2), ("worker-1", 2)]));
        // Every node owns a slice of the pod network.
        let mut slices = BTreeMap::<String, BTreeSet<String>>::new();
        for pod in self.pods().await {
            let (slice, _) = ip(&pod).rsplit_once('.').expect("an address");
            slices.entry(node(&pod).to_owned()).or_default().insert(slice.to_owned());
        }
        let all: BTreeSet<&String> = slices.values().flatten().collect();
        assert!(slices.values().all(|slice| slice.len() == 1) && all.len() == 2, "{slices:?}");
        for node in ["controller-0", "worker-0", "worker-1"] {
            let answer = self.ask(node).await.unwrap_or_else(|why| panic!("{node}'s NodePort does not answer: {why}"));
            assert!(answer.starts_with("Hello Kubernetes bootcamp! | Running on: kubernetes-bootcamp-"), "{answer}");
            assert!(answer.trim_end().ends_with("| v=1"), "{answer}");
        }
    }

    /// Scene 1: force-deleting a pod.
    async fn force_delete(&self) {
        let victim = self.pods().await[0].name().to_owned();
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        self.client.namespaced::<Pod>("default").delete(&victim, &options).await.expect("deleted");
        self.four_running().await;
        self.say("scene 1: four Running again");
        assert!(self.pods().await.iter().all(|pod| pod.name() != victim));
    }

    /// Scene 2: a hard reset of worker-1.
    async fn hard_reset(&self) {
        let before = self.on_node("worker-1").await;
        let boot_id = self.boot_id("worker-1").await;
        let (machines, world) = (self.machines.clone(), self.world.clone());
        world.spawn("reset", async move {
            machines.reset("worker-1").await.expect("it is on");
        });
        let printed = Arc::new(Mutex::new(BTreeSet::new()));
        let watching = self.watch(&printed).await;
        let after = self
            .wait("the pods of worker-1 run again", 60 * SECOND, async || {
                assert_eq!(self.ready("worker-1").await, "True", "a time as short as a reboot is not detected");
                let pods = self.on_node("worker-1").await;
                let of = |name: &String| before.get(name).map_or(0, restarts);
                let restarted = pods.iter().all(|(name, pod)| is_running(pod) && restarts(pod) == of(name) + 1);
                (restarted && pods.len() == before.len()).then_some(pods)
            })
            .await;
        self.say("scene 2: running again after the reset");
        watching.abort();
        let printed = printed.lock().expect("no panic while held").clone();
        for name in before.keys() {
            let died = (name.clone(), "0/1 Error 0".to_owned(), true);
            assert!(printed.contains(&died), "{name} dies without an address: {printed:?}");
        }
        assert!(before.keys().eq(after.keys()), "the same names");
        for (name, pod) in &after {
            assert_ne!(ip(pod), ip(&before[name]), "{name} has a new address");
            let last = status(pod).last_state.clone().and_then(|state| state.terminated).expect("it has ended before");
            assert_eq!((last.exit_code, last.reason.as_deref()), (255, Some("Error")), "{name}");
            assert!(self.printed(pod).starts_with("1/1 Running 1 ("), "{}", self.printed(pod));
        }
        assert_ne!(boot_id, self.boot_id("worker-1").await);
        let events = self.client.all::<Event>().list(&ListOptions::default()).await.expect("a list").items;
        let rebooted = events.iter().find(|event| event.reason.as_deref() == Some("Rebooted")).expect("an event");
        let message = rebooted.message.clone().unwrap_or_default();
        assert!(message.starts_with("Node worker-1 has been rebooted, boot id: "), "{message}");
    }

    /// Scene 3: powering worker-1 off, for good.
    async fn power_off_for_good(&self) {
        let lost = self.on_node("worker-1").await;
        let off = self.world.monotonic();
        self.machines.power_off("worker-1", false).await.expect("it is on");
        self.wait("worker-1 is NotReady", GRACE + 15 * SECOND, async || {
            (self.ready("worker-1").await == "Unknown").then_some(())
        })
        .await;
        let took = self.world.monotonic().saturating_sub(off);
        self.say("scene 3: NotReady");
        assert!(took >= GRACE.saturating_sub(10 * SECOND), "no earlier than the last heartbeat and the grace: {took:?}");
        let printed: Vec<String> = self.on_node("worker-1").await.values().map(|pod| self.printed(pod)).collect();
        assert!(printed.iter().all(|text| text.starts_with("1/1 Running ")), "the pods do not change yet: {printed:?}");
        // The endpoints of the dead node leave the service, so the living node's port always answers.
        self.wait("worker-0's NodePort answers every time", 10 * SECOND, async || {
            for _ in 0..10 {
                self.ask("worker-0").await.ok()?;
            }
            Some(())
        })
        .await;
        assert!(self.ask("worker-1").await.is_err(), "nobody answers at the dead node's NodePort");
        self.wait("two new pods run on worker-0", TOLERATION + 30 * SECOND, async || {
            let living = self.on_node("worker-0").await.values().filter(|pod| is_running(pod)).count();
            (living == 4).then_some(())
        })
        .await;
        let took = self.world.monotonic().saturating_sub(off);
        self.say("scene 3: replaced");
        assert!(took + 10 * SECOND >= GRACE + TOLERATION && took <= GRACE + TOLERATION + 20 * SECOND, "{took:?}");
        let dying = self.on_node("worker-1").await;
        assert!(dying.keys().eq(lost.keys()), "they stay for as long as the node is away");
        for (name, pod) in &dying {
            assert!(self.printed(pod).starts_with("1/1 Terminating "), "{}", self.printed(pod));
            assert_eq!(ip(pod), ip(&lost[name]), "still with the old address");
        }
        self.machines.power_on("worker-1").await.expect("it is off");
        self.wait("the Terminating pods vanish", 30 * SECOND, async || self.on_node("worker-1").await.is_empty().then_some(()))
            .await;
        self.say("scene 3: the Terminating pods are gone");
        self.wait("worker-1 is Ready", 30 * SECOND, async || (self.ready("worker-1").await == "True").then_some(())).await;
        self.four_running().await;
        assert_eq!(self.spread().await, spread(&[("worker-0", 4)]), "the imbalance does not mend itself");
    }

    /// Scene 4: a rolling restart, to spread again.
    async fn rolling_restart(&self) {
        let old: BTreeSet<String> = self.pods().await.iter().map(|pod| pod.name().to_owned()).collect();
        let annotation = json!({"kubectl.kubernetes.io/restartedAt": self.world.now().to_string()});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotation}}}});
        let deployments = self.client.namespaced::<Deployment>("default");
        deployments.patch("kubernetes-bootcamp", &Patch::Merge(patch)).await.expect("patched");
        self.wait("the rollout ends", 60 * SECOND, async || {
            let all = self.pods().await;
            let pods: Vec<&Pod> = all.iter().filter(|pod| !pod.is_being_deleted()).collect();
            let running = pods.iter().filter(|pod| is_running(pod)).count();
            assert!(pods.len() <= 5, "never more than five: {}", pods.len());
            assert!(running >= 3, "never fewer than three: {running}");
            let new = pods.iter().filter(|pod| is_running(pod) && !old.contains(pod.name())).count();
            (new == 4 && all.len() == 4).then_some(())
        })
        .await;
        self.say("scene 4: rolled out");
        assert_eq!(self.spread().await, spread(&[("worker-0", 2), ("worker-1", 2)]));
    }

    /// Scene 5: kubectl top.
    async fn top(&self) {
        let nodes = "/apis/metrics.k8s.io/v1beta1/nodes";
        self.wait("metrics of every node", 90 * SECOND, async || {
            let list = self.json(nodes).await?;
            let items = list["items"].as_array()?;
            let used = |item: &Value| item["usage"]["memory"].as_str().is_some_and(|memory| memory != "0");
            (items.len() == 3 && items.iter().all(used)).then_some(())
        })
        .await;
        self.wait("metrics of every pod", 60 * SECOND, async || {
            let list = self.json("/apis/metrics.k8s.io/v1beta1/pods").await?;
            let named = |item: &Value| item["metadata"]["name"].as_str().map(str::to_owned);
            let known: BTreeSet<String> = list["items"].as_array()?.iter().filter_map(named).collect();
            let pods = self.client.all::<Pod>().list(&ListOptions::default()).await.ok()?.items;
            pods.iter().all(|pod| known.contains(pod.name())).then_some(())
        })
        .await;
        self.say("scene 5: metrics of all nodes and pods");
    }

    async fn json(&self, path: &str) -> Option<Value> {
        let answer = self.client.json(http::Method::GET, path, "", None).await.ok()?;
        serde_json::from_slice(&answer).ok()
    }

    async fn wait<T>(&self, what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let until = self.world.monotonic() + limit;
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            if self.world.monotonic() > until {
                let pods = self.client.all::<Pod>().list(&ListOptions::default()).await.expect("a list").items;
                let lines = pods.iter().map(|pod| format!("{} {} {}\n", pod.key(), node(pod), self.printed(pod)));
                panic!("{what}: not within {limit:?}\n{}", lines.collect::<String>());
            }
            self.world.sleep(STEP).await;
        }
    }

    async fn pods(&self) -> Vec<Pod> {
        let options = ListOptions { label_selector: APP.into(), ..ListOptions::default() };
        self.client.namespaced::<Pod>("default").list(&options).await.expect("a list").items
    }

    /// Waits until four pods run and no other is there.
    async fn four_running(&self) {
        self.wait("four pods run", 30 * SECOND, async || {
            let pods = self.pods().await;
            (pods.len() == 4 && pods.iter().all(is_running)).then_some(())
        })
        .await;
    }

    async fn spread(&self) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for pod in self.pods().await {
            *spread.entry(node(&pod).to_owned()).or_default() += 1;
        }
        spread
    }

    async fn on_node(&self, name: &str) -> BTreeMap<String, Pod> {
        let pods = self.pods().await.into_iter().filter(|pod| node(pod) == name);
        pods.map(|pod| (pod.name().to_owned(), pod)).collect()
    }

    /// Notes what `kubectl get pods --watch` prints of the application, and whether the pod has no address.
    async fn watch(&self, printed: &Arc<Mutex<BTreeSet<(String, String, bool)>>>) -> Task {
        let options = ListOptions { label_selector: APP.into(), ..ListOptions::default() };
        let pods = self.client.namespaced::<Pod>("default");
        let version = pods.list(&options).await.expect("a list").resource_version;
        let events = pods.watch(&options, &version).await.expect("a watch");
        let (printed, world) = (printed.clone(), self.world.clone());
        self.world.spawn("watch", async move {
            let mut events = std::pin::pin!(events);
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event {
                    let line = (pod.name().to_owned(), shown(&pod, &world), ip(&pod).is_empty());
                    printed.lock().expect("no panic while held").insert(line);
                }
            }
        })
    }

    /// READY, STATUS and RESTARTS as kubectl prints them.
    fn printed(&self, pod: &Pod) -> String {
        shown(pod, &self.world)
    }

    async fn node(&self, name: &str) -> Node {
        self.client.cluster::<Node>().get(name).await.expect("a node")
    }

    async fn ready(&self, name: &str) -> String {
        let conditions = self.node(name).await.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "Ready").map(|ready| ready.status).unwrap_or_default()
    }

    async fn boot_id(&self, name: &str) -> String {
        self.node(name).await.status.and_then(|status| status.node_info).map(|info| info.boot_id).unwrap_or_default()
    }

    /// Asks the application by a node's port, as somebody outside.
    async fn ask(&self, node: &str) -> Result<String, String> {
        let service = self.client.namespaced::<Service>("default").get("kubernetes-bootcamp").await.expect("a service");
        let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let port = ports[0].node_port.expect("a node port");
        let to: SocketAddr = format!("{}:{port}", self.addresses[node]).parse().expect("an address");
        let asked = async {
            let mut stream = self.world.net.connect(to).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = self.world.timeout(2 * SECOND, Box::pin(asked)).await.map_err(|elapsed| elapsed.to_string())?;
        let answer = answer.map_err(|error| error.to_string())?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or(answer)
    }
}

/// READY, STATUS and RESTARTS as kubectl prints them.
fn shown(pod: &Pod, world: &World) -> String {
    let kind = daruma_kinds::ALL.iter().find(|kind| kind.names().kind == "Pod").expect("pods are a kind");
    let cells = kind.cells(&serde_json::to_value(pod).expect("a pod is JSON"), world.now());
    let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    cells[1..4].iter().map(text).collect::<Vec<_>>().join(" ")
}

fn spread(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(node, count)| ((*node).to_owned(), *count)).collect()
}

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn ip(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or_default()
}

fn status(pod: &Pod) -> &ContainerStatus {
    &pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).expect("statuses")[0]
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).map_or(0, |all| all[0].restart_count)
}

/// Running and ready, as `kubectl` counts it.
fn is_running(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let runs = |status: &ContainerStatus| status.ready && status.state.as_ref().is_some_and(|state| state.running.is_some());
    !pod.is_being_deleted() && statuses.is_some_and(|all| !all.is_empty() && all.iter().all(runs))
}
