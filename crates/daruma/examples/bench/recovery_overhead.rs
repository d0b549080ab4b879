//! What the programs add to the timers of a node's loss, on real machines, pod by pod.
//!
//! A watcher outside of the cluster notes when it sees what: the last heartbeat of the node, the node as Unknown, its taint,
//! the end of each of its pods, each replacement as Running. So what is measured includes the way to the watcher.
//!
//! The controller manager's rate (20 calls a second, 30 at once, by default) is raised: an eviction is three calls, so with it
//! the last of 20 pods would wait 1.8 s for its turn, as it does in a real cluster.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Deserializer, Value};

use crate::cluster::Cluster;
use crate::{Bench, Benchmark, figures};

pub const BENCHMARK: Benchmark = Benchmark {
    name: "recovery-overhead",
    about: "20 pods, 6 times a worker's power is cut, client limits raised: heartbeat overdue to noticed, eviction due to deleted, \
            deleted to replaced",
    run,
};

const ROUNDS: usize = 6;
const REPLICAS: usize = 20;
/// After the last heartbeat a node counts as lost.
const GRACE: Duration = Duration::from_secs(15);
/// For how long pods tolerate a node that is not there.
const TOLERATION: Duration = Duration::from_secs(5);
/// The monitor looks so often; part of the timers.
const MONITOR_PERIOD: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);
const APP: &str = "recovery";

fn run(bench: &mut Bench) -> Result<(), String> {
    let flags = [
        format!("--node-monitor-grace-period={}s", GRACE.as_secs()),
        format!("--default-toleration-seconds={}", TOLERATION.as_secs()),
        // A short grace period needs a short lease.
        "--set=kubelet.node-lease-duration-seconds=12".to_owned(),
        "--set=kube-controller-manager.kube-api-qps=200".to_owned(),
        "--set=kube-controller-manager.kube-api-burst=400".to_owned(),
        format!("--set=kube-controller-manager.node-monitor-period={}ms", MONITOR_PERIOD.as_millis()),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (cluster, _) = Cluster::up_with(&bench.binary, "recovery", &flags)?;
    cluster.kubectl(&[
        "create",
        "deployment",
        APP,
        "--image=gcr.io/google-samples/kubernetes-bootcamp:v1",
        &format!("--replicas={REPLICAS}"),
    ])?;
    cluster.wait(LIMIT, |cluster| Ok(cluster.running(APP)?.len() == REPLICAS))?;
    let watcher = Watcher::start(&cluster)?;
    let mut measured = Measured::default();
    for round in 0..ROUNDS {
        // By turns, so that all pods are lost but for the first time.
        let node = if round % 2 == 0 { "worker-1" } else { "worker-0" };
        lose(&cluster, &watcher, node, &mut measured).map_err(|why| format!("round {round}: {why}"))?;
    }
    let parts = [
        ("heartbeat overdue to the node Unknown", &mut measured.noticed),
        ("eviction due to the pod deleted", &mut measured.deleted),
        ("pod deleted to the replacement Running", &mut measured.replaced),
    ];
    for (what, times) in parts {
        let (count, median) = (times.len(), figures::median(times));
        figures::print(&format!("{what}, median"), &figures::time(median), "");
        figures::print(&format!("{what}, p99 of {count}"), &figures::time(figures::percentile(times, 99)), "1 s");
    }
    Ok(())
}

#[derive(Default)]
struct Measured {
    noticed: Vec<Duration>,
    deleted: Vec<Duration>,
    replaced: Vec<Duration>,
}

/// One loss of a node, from its power cut to everything being in order again.
fn lose(cluster: &Cluster, watcher: &Watcher, node: &str, measured: &mut Measured) -> Result<(), String> {
    let lost = watcher.look(|seen| seen.pods_on(node));
    cluster.daruma(&["node", "off", node])?;
    let last_beat = watcher.look(|seen| seen.beats.get(node).copied()).ok_or("no heartbeat was seen")?;
    let unknown = watcher.until("the node is Unknown", |seen| seen.unknown.get(node).copied())?;
    let tainted = watcher.until("the node is tainted", |seen| seen.tainted.get(node).copied())?;
    measured.noticed.push(unknown.saturating_duration_since(last_beat + GRACE + MONITOR_PERIOD));
    let mut ends = watcher.until("all of its pods are deleted", |seen| {
        lost.iter().map(|uid| seen.pods.get(uid)?.deleted).collect::<Option<Vec<Instant>>>()
    })?;
    let born_after = ends.iter().min().copied().ok_or("it had no pods")?;
    let mut starts = watcher.until("as many replacements run", |seen| {
        let new = seen.pods.iter().filter(|(uid, pod)| !lost.contains(uid) && pod.first + STEP >= born_after);
        let running: Vec<Instant> = new.filter_map(|(_, pod)| pod.running).collect();
        (running.len() >= lost.len()).then_some(running)
    })?;
    ends.sort_unstable();
    starts.sort_unstable();
    measured.deleted.extend(ends.iter().map(|end| end.saturating_duration_since(tainted + TOLERATION)));
    // The first pod that is deleted is the first one that is replaced, and so on.
    measured.replaced.extend(ends.iter().zip(&starts).map(|(end, start)| start.saturating_duration_since(*end)));
    cluster.daruma(&["node", "on", node])?;
    watcher
        .until("the node is back", |seen| (!seen.unknown.contains_key(node) && !seen.tainted.contains_key(node)).then_some(()))?;
    watcher.until("its old pods are gone", |seen| lost.iter().all(|uid| !seen.pods.contains_key(uid)).then_some(()))
}

/// What a watcher has seen, and when.
#[derive(Default)]
struct Seen {
    /// The last heartbeat of each node.
    beats: BTreeMap<String, Instant>,
    /// Nodes whose condition Ready is not True, and since when.
    unknown: BTreeMap<String, Instant>,
    /// Nodes that evict, and since when.
    tainted: BTreeMap<String, Instant>,
    /// Pods by uid.
    pods: BTreeMap<String, Pod>,
}

struct Pod {
    node: String,
    first: Instant,
    running: Option<Instant>,
    deleted: Option<Instant>,
}

impl Seen {
    fn pods_on(&self, node: &str) -> Vec<String> {
        let on = self.pods.iter().filter(|(_, pod)| pod.node == node && pod.deleted.is_none());
        on.map(|(uid, _)| uid.clone()).collect()
    }

    fn hear(&mut self, event: &Value) {
        let (now, object) = (Instant::now(), &event["object"]);
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = text("/metadata/name");
        let note = |known: &mut BTreeMap<String, Instant>, is_so: bool| {
            if is_so {
                known.entry(name.clone()).or_insert(now);
            } else {
                known.remove(&name);
            }
        };
        let any = |list: &Value, holds: &dyn Fn(&Value) -> bool| list.as_array().into_iter().flatten().any(holds);
        match object["kind"].as_str() {
            Some("Lease") => drop(self.beats.insert(name, now)),
            Some("Node") => {
                let ready = any(&object["status"]["conditions"], &|it| it["type"] == "Ready" && it["status"] == "True");
                note(&mut self.unknown, !ready);
                note(&mut self.tainted, any(&object["spec"]["taints"], &|it| it["effect"] == "NoExecute"));
            }
            Some("Pod") if event["type"] == "DELETED" => drop(self.pods.remove(&text("/metadata/uid"))),
            Some("Pod") => {
                let fresh = || Pod { node: String::new(), first: now, running: None, deleted: None };
                let pod = self.pods.entry(text("/metadata/uid")).or_insert_with(fresh);
                pod.node = text("/spec/nodeName");
                if text("/status/phase") == "Running" {
                    pod.running.get_or_insert(now);
                }
                if !object["metadata"]["deletionTimestamp"].is_null() {
                    pod.deleted.get_or_insert(now);
                }
            }
            _ => {}
        }
    }
}

/// Three kubectls that watch.
struct Watcher {
    seen: Arc<Mutex<Seen>>,
    children: Vec<Child>,
}

impl Watcher {
    fn start(cluster: &Cluster) -> Result<Self, String> {
        let mut watcher = Self { seen: Arc::default(), children: Vec::new() };
        for what in [&["nodes"][..], &["leases", "-n", "kube-node-lease"], &["pods", "-l", "app=recovery"]] {
            let mut command = Command::new("kubectl");
            command.env("KUBECONFIG", cluster.kubeconfig()).arg("get").args(what);
            command.args(["--watch", "--output-watch-events", "-o", "json"]).stdout(Stdio::piped());
            let mut child = command.spawn().map_err(|error| format!("kubectl: {error}"))?;
            let output = child.stdout.take().ok_or("kubectl has no output")?;
            watcher.children.push(child);
            let seen = watcher.seen.clone();
            std::thread::spawn(move || hear(output, &seen));
        }
        watcher.until("what is there is seen", |seen| (seen.beats.len() >= 3 && seen.pods.len() >= REPLICAS).then_some(()))?;
        Ok(watcher)
    }

    fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().expect("no panic while held"))
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut(&Seen) -> Option<T>) -> Result<T, String> {
        let started = Instant::now();
        loop {
            if let Some(found) = self.look(&mut look) {
                return Ok(found);
            }
            if started.elapsed() > LIMIT {
                return Err(format!("not within {LIMIT:?}: {what}"));
            }
            std::thread::sleep(STEP);
        }
    }
}

/// Until kubectl ends.
fn hear(output: impl Read, seen: &Mutex<Seen>) {
    for event in Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>() {
        let Ok(event) = event else { return };
        seen.lock().expect("no panic while held").hear(&event);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
