//! The acceptance story, scene by scene: the built binary, real containers, the real kubectl.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Cluster, Test, at, is_running, wait};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// Shorter than the defaults: 15 s without a heartbeat, 10 s of toleration, a boot of 1 s. A short grace
/// period needs a short lease.
const EVERYDAY: &[&str] = &[
    "--node-monitor-grace-period=15s",
    "--default-toleration-seconds=10",
    "--boot-time=1s",
    "--set=kubelet.node-lease-duration-seconds=12",
    "--set=kube-controller-manager.node-monitor-period=1s",
];

const TESTS: &[Test] = &[
    harness::test("the_story_of_one_bad_day", the_story_of_one_bad_day),
    // Eight minutes: cargo nextest run --release --run-ignored only the_story_with_the_defaults
    Test { slow: true, ..harness::test("the_story_with_the_defaults", the_story_with_the_defaults) },
];

fn main() {
    harness::main(TESTS);
}

fn the_story_of_one_bad_day() {
    let cluster = Cluster::up("story", EVERYDAY);
    let day = Day { cluster, grace: 15 * SECOND, toleration: 10 * SECOND };
    day.start();
    day.health_checks();
    day.force_delete();
    day.hard_reset();
    day.power_off_for_good();
    day.rolling_restart();
    day.top();
}

/// The same day with the defaults of a real cluster: 50 s, 300 s, and a boot of 5 s.
fn the_story_with_the_defaults() {
    let cluster = Cluster::up("long", &[]);
    let day = Day { cluster, grace: 50 * SECOND, toleration: 300 * SECOND };
    day.start();
    day.hard_reset();
    day.power_off_for_good();
    day.rolling_restart();
}

struct Day {
    cluster: Cluster,
    grace: Duration,
    toleration: Duration,
}

impl Day {
    /// Scene 0: two pods on each worker.
    fn start(&self) {
        let cluster = &self.cluster;
        let nodes = cluster.kubectl(&["get", "nodes"]);
        assert_eq!(words(nodes.lines().next()), ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]);
        assert!(nodes.contains("controller-0") && nodes.contains("control-plane"), "{nodes}");
        let image = "--image=gcr.io/google-samples/kubernetes-bootcamp:v1";
        let created = cluster.kubectl(&["create", "deployment", "kubernetes-bootcamp", image, "--replicas=4"]);
        assert_eq!(created, "deployment.apps/kubernetes-bootcamp created\n");
        cluster.kubectl(&["expose", "deployment/kubernetes-bootcamp", "--type=NodePort", "--port=8080"]);
        let (_, took) = self.four_running();
        eprintln!("scene 0: four Running after {took:?}");
        assert_eq!(self.spread(), BTreeMap::from([("worker-0".into(), 2), ("worker-1".into(), 2)]));
        let wide = cluster.kubectl(&["get", "pod", "-o", "wide"]);
        let header = wide.lines().next().unwrap_or_default();
        let columns = ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"];
        assert_eq!(header.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>(), columns, "{wide}");
        // Every node owns a slice of the pod network.
        let mut slices = BTreeMap::<String, BTreeSet<String>>::new();
        for pod in cluster.pods() {
            let (slice, _) = at(&pod, "/status/podIP").rsplit_once('.').expect("an address");
            slices.entry(at(&pod, "/spec/nodeName").to_owned()).or_default().insert(slice.to_owned());
        }
        let all: BTreeSet<&String> = slices.values().flatten().collect();
        assert!(slices.values().all(|slice| slice.len() == 1) && all.len() == 2, "{slices:?}");
        for node in ["controller-0", "worker-0", "worker-1"] {
            let answer = self.ask(node).unwrap_or_else(|| panic!("{node}'s NodePort does not answer"));
            assert!(answer.starts_with("Hello Kubernetes bootcamp! | Running on: kubernetes-bootcamp-"), "{answer}");
            assert!(answer.trim_end().ends_with("| v=1"), "{answer}");
        }
    }

    /// What a load balancer sees of a service that keeps traffic on the node: kube-proxy tells it where pods are.
    fn health_checks(&self) {
        let cluster = &self.cluster;
        let manifest = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kept-local"},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app": "kubernetes-bootcamp"},
                "ports": [{"port": 80, "targetPort": 8080}]},
        });
        cluster.apply(&manifest);
        let service = cluster.json(&["get", "service", "kept-local"]);
        let port = service["spec"]["healthCheckNodePort"].as_u64().expect("a port");
        for (node, pods) in [("worker-0", 2), ("worker-1", 2), ("controller-0", 0)] {
            let url = format!("http://{}:{port}/healthz", cluster.address(node));
            let code = if pods > 0 { "200" } else { "503" };
            let (answer, _) = wait("the service's health check answers", 10 * SECOND, || {
                let format = "\n%{http_code} %{header_json}";
                let output = Command::new("curl").args(["--silent", "--max-time", "2", "--write-out", format, &url]).output();
                let answer = String::from_utf8_lossy(&output.expect("curl starts").stdout).into_owned();
                if answer.contains(&format!("\n{code} ")) { Ok(answer) } else { Err(answer) }
            });
            let (body, head) = answer.split_once(&format!("\n{code} ")).expect("seen above");
            let wanted = format!(
                "{{\n\t\"service\": {{\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"kept-local\"\n\t}},\n\t\"localEndpoints\": \
                 {pods},\n\t\"serviceProxyHealthy\": true\n}}"
            );
            assert_eq!(body, wanted, "{node}");
            let head: Value = serde_json::from_str(head).expect("curl prints JSON");
            assert_eq!(head["content-type"][0], "application/json", "{node}");
            assert_eq!(head["x-load-balancing-endpoint-weight"][0], pods.to_string(), "{node}");
        }
        cluster.kubectl(&["delete", "service", "kept-local"]);
    }

    /// Scene 1: force-deleting a pod.
    fn force_delete(&self) {
        let victim = at(&self.cluster.pods()[0], "/metadata/name").to_owned();
        let started = Instant::now();
        let output = self.cluster.try_kubectl(&["delete", "pod", &victim, "--grace-period=0", "--force"]);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(out.starts_with(&format!("pod \"{victim}\" force deleted")), "{out}{err}");
        assert!(err.contains("Immediate deletion does not wait for confirmation"), "{err}");
        self.four_running();
        eprintln!("scene 1: four Running {:?} after the deletion", started.elapsed());
        assert!(self.cluster.pods().iter().all(|pod| at(pod, "/metadata/name") != victim));
    }

    /// Scene 2: a hard reset of worker-1.
    fn hard_reset(&self) {
        let before = self.on_node("worker-1");
        let boot_id = self.boot_id("worker-1");
        let watch = self.cluster.watch(&["get", "pods", "-l", "app=kubernetes-bootcamp", "-o", "wide", "--no-headers"]);
        self.cluster.daruma(&["node", "reset", "worker-1"]);
        let (after, took) = wait("the pods of worker-1 run again", 60 * SECOND, || {
            assert_eq!(self.ready("worker-1"), "True", "a time as short as a reboot is not detected");
            let pods = self.on_node("worker-1");
            let restarted =
                pods.iter().all(|(name, pod)| is_running(pod) && restarts(pod) == before.get(name).map_or(0, restarts) + 1);
            if restarted && pods.len() == before.len() { Ok(pods) } else { Err(format!("{:?}", self.printed("worker-1"))) }
        });
        eprintln!("scene 2: running again after {took:?}");
        let shown = watch.end();
        for name in before.keys() {
            let rows: Vec<Vec<&str>> =
                shown.lines().map(|line| words(Some(line))).filter(|row| row.first() == Some(&name.as_str())).collect();
            let died = ["0/1", "Error", "0"];
            assert!(rows.iter().any(|row| row[1..4] == died && row[5] == "<none>"), "{name} dies without an address: {shown}");
        }
        assert!(before.keys().eq(after.keys()), "the same names: {before:?} {after:?}");
        for (name, pod) in &after {
            assert_ne!(at(pod, "/status/podIP"), at(&before[name], "/status/podIP"), "{name} has a new address");
            let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
            assert_eq!((&last["exitCode"], &last["reason"]), (&Value::from(255), &Value::from("Error")), "{name}");
        }
        let printed = self.cluster.kubectl(&["get", "pods", "-l", "app=kubernetes-bootcamp", "--no-headers"]);
        assert!(
            printed.lines().filter(|line| line.contains("1/1") && line.contains("1 (") && line.contains("ago)")).count() == 2,
            "{printed}"
        );
        assert_ne!(boot_id, self.boot_id("worker-1"));
        let events = self.cluster.kubectl(&["get", "events", "--field-selector=reason=Rebooted"]);
        assert!(events.contains("Node worker-1 has been rebooted, boot id: "), "{events}");
    }

    /// Scene 3: powering worker-1 off, for good.
    fn power_off_for_good(&self) {
        let lost = self.on_node("worker-1");
        let off = Instant::now();
        self.cluster.daruma(&["node", "off", "worker-1"]);
        wait("worker-1 is NotReady", self.grace + 15 * SECOND, || match self.ready("worker-1").as_str() {
            "Unknown" => Ok(()),
            other => Err(other.to_owned()),
        });
        eprintln!("scene 3: NotReady {:?} after the power cut", off.elapsed());
        let nodes = self.cluster.kubectl(&["get", "node"]);
        assert!(nodes.lines().any(|line| words(Some(line)).starts_with(&["worker-1", "NotReady"])), "{nodes}");
        let printed = self.printed("worker-1");
        assert_eq!(printed, BTreeSet::from(["1/1 Running".to_owned()]), "the pods do not change yet");
        // The endpoints of the dead node leave the service, so the living node's port always answers.
        wait("worker-0's NodePort answers every time", 10 * SECOND, || {
            (0..10).all(|_| self.ask("worker-0").is_some()).then_some(()).ok_or_else(|| "a request failed".to_owned())
        });
        assert_eq!(self.ask("worker-1"), None, "nobody answers at the dead node's NodePort");
        wait("two new pods run on worker-0", self.toleration + 30 * SECOND, || {
            let living = self.on_node("worker-0").values().filter(|pod| is_running(pod)).count();
            if living == 4 { Ok(()) } else { Err(format!("{living} run on worker-0")) }
        });
        eprintln!("scene 3: replaced {:?} after the power cut", off.elapsed());
        assert_eq!(self.printed("worker-1"), BTreeSet::from(["1/1 Terminating".to_owned()]));
        let dying = self.on_node("worker-1");
        assert!(dying.keys().eq(lost.keys()), "they stay for as long as the node is away");
        for (name, pod) in &dying {
            assert_eq!(at(pod, "/status/podIP"), at(&lost[name], "/status/podIP"), "still with the old address");
        }
        self.cluster.daruma(&["node", "on", "worker-1"]);
        let ((), took) = wait("the Terminating pods vanish", 30 * SECOND, || match self.on_node("worker-1").len() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        });
        eprintln!("scene 3: gone {took:?} after the return");
        wait("worker-1 is Ready", 30 * SECOND, || match self.ready("worker-1").as_str() {
            "True" => Ok(()),
            other => Err(other.to_owned()),
        });
        self.four_running();
        assert_eq!(self.spread(), BTreeMap::from([("worker-0".into(), 4)]), "the imbalance does not mend itself");
    }

    /// Scene 4: a rolling restart, to spread again.
    fn rolling_restart(&self) {
        let old: BTreeSet<String> = self.cluster.pods().iter().map(|pod| at(pod, "/metadata/name").to_owned()).collect();
        let printed = self.cluster.kubectl(&["rollout", "restart", "deployments/kubernetes-bootcamp"]);
        assert_eq!(printed, "deployment.apps/kubernetes-bootcamp restarted\n");
        wait("the rollout ends", 60 * SECOND, || {
            let pods: Vec<Value> =
                self.cluster.pods().into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
            let running = pods.iter().filter(|pod| is_running(pod)).count();
            assert!(pods.len() <= 5, "never more than five: {}", pods.len());
            assert!(running >= 3, "never fewer than three: {running}");
            let new = pods.iter().filter(|pod| is_running(pod) && !old.contains(at(pod, "/metadata/name"))).count();
            let all = self.cluster.pods().len();
            if new == 4 && all == 4 { Ok(()) } else { Err(format!("{new} new ones of {all}")) }
        });
        let status = self.cluster.kubectl(&["rollout", "status", "deployments/kubernetes-bootcamp"]);
        // The old pod may go before its ReplicaSet's status says so: then kubectl first prints that it waits.
        assert_eq!(status.lines().last(), Some("deployment \"kubernetes-bootcamp\" successfully rolled out"), "{status}");
        assert_eq!(self.spread(), BTreeMap::from([("worker-0".into(), 2), ("worker-1".into(), 2)]));
    }

    /// Scene 5: kubectl top.
    fn top(&self) {
        let (nodes, _) = wait("kubectl top node shows every node", 90 * SECOND, || {
            let output = self.cluster.try_kubectl(&["top", "node"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let all = ["controller-0", "worker-0", "worker-1"].iter().all(|node| text.contains(node));
            if all && !text.contains("<unknown>") { Ok(text) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
        });
        eprintln!("{nodes}");
        assert_eq!(words(nodes.lines().next()), ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]);
        let (pods, _) = wait("kubectl top pod -A shows every pod", 60 * SECOND, || {
            let text = String::from_utf8_lossy(&self.cluster.try_kubectl(&["top", "pod", "-A"]).stdout).into_owned();
            let list = self.cluster.json(&["get", "pods", "-A"]);
            let missing: Vec<&str> = list["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|pod| at(pod, "/metadata/name"))
                .filter(|name| !text.contains(name))
                .collect();
            if missing.is_empty() { Ok(text) } else { Err(format!("missing: {missing:?}")) }
        });
        eprintln!("{pods}");
        assert_eq!(words(pods.lines().next()), ["NAMESPACE", "NAME", "CPU(cores)", "MEMORY(bytes)"]);
    }

    /// Waits until four pods run and no other is there.
    fn four_running(&self) -> (Vec<Value>, Duration) {
        wait("four pods run", 30 * SECOND, || {
            let pods: Vec<Value> = self.cluster.pods();
            let running = pods.iter().filter(|pod| is_running(pod)).count();
            if running == 4 && pods.len() == 4 { Ok(pods) } else { Err(format!("{running} of {} run", pods.len())) }
        })
    }

    /// Pods by node.
    fn spread(&self) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for pod in self.cluster.pods() {
            *spread.entry(at(&pod, "/spec/nodeName").to_owned()).or_default() += 1;
        }
        spread
    }

    /// The pods of one node by name.
    fn on_node(&self, node: &str) -> BTreeMap<String, Value> {
        let pods = self.cluster.pods().into_iter().filter(|pod| at(pod, "/spec/nodeName") == node);
        pods.map(|pod| (at(&pod, "/metadata/name").to_owned(), pod)).collect()
    }

    /// READY and STATUS of the pods of one node as kubectl prints them.
    fn printed(&self, node: &str) -> BTreeSet<String> {
        let selector = format!("--field-selector=spec.nodeName={node}");
        let text = self.cluster.kubectl(&["get", "pods", "-l", "app=kubernetes-bootcamp", &selector, "--no-headers"]);
        text.lines().map(|line| words(Some(line))[1..3].join(" ")).collect()
    }

    fn ready(&self, node: &str) -> String {
        let node = self.cluster.json(&["get", "node", node]);
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        ready.map(|condition| at(condition, "/status").to_owned()).unwrap_or_default()
    }

    fn boot_id(&self, node: &str) -> String {
        at(&self.cluster.json(&["get", "node", node]), "/status/nodeInfo/bootID").to_owned()
    }

    fn ask(&self, node: &str) -> Option<String> {
        let service = self.cluster.json(&["get", "service", "kubernetes-bootcamp"]);
        let port = service["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port");
        Cluster::fetch(&self.cluster.address(node), port)
    }
}

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default()
}

fn words(line: Option<&str>) -> Vec<&str> {
    line.unwrap_or_default().split_whitespace().collect()
}
