//! Simulated nodes beside real ones.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]

mod harness;

use std::fs;
use std::process::Command;
use std::time::Duration;

use harness::{Cluster, Test, at, is_running, wait};
use serde_json::{Value, json};

const TESTS: &[Test] = &[
    Test { needs_cluster: false, ..harness::test("bad_input_is_refused", bad_input_is_refused) },
    harness::test("simulated_nodes_stand_beside_real_ones", simulated_nodes_stand_beside_real_ones),
    harness::test("simulated_nodes_come_and_go", simulated_nodes_come_and_go),
];

/// How soon a change of some nodes or pods must be there.
const SOON: Duration = Duration::from_secs(30);

fn main() {
    harness::main(TESTS);
}

fn bad_input_is_refused() {
    let root = std::env::temp_dir().join("daruma-no-cluster");
    let file = std::env::temp_dir().join(format!("daruma-behaviours-{}.yaml", std::process::id()));
    fs::write(&file, "images: {web: {memry: 1Mi}}\n").expect("written");
    let file = file.display().to_string();
    let check = |arguments: &[&str], code: i32, words: &str| {
        let output = Command::new(harness::binary()).args(arguments).env("DARUMA_ROOT", &root).output().expect("daruma starts");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), err.contains(words)), (Some(code), true), "{arguments:?}: {err}");
    };
    check(&["up", "--simulated", "2001"], 2, "2001 is not in 0..=2000");
    check(&["up", "--simulated", "many"], 2, "invalid digit");
    check(&["up", "--behaviours", &file], 1, "ask for some with --simulated");
    check(&["up", "--simulated", "1", "--behaviours", &file], 1, "memry");
    check(&["up", "--simulated", "1", "--behaviours", "/nowhere"], 1, "reading /nowhere");
    fs::remove_file(file).expect("removed");
    assert!(!root.exists(), "nothing is made");
}

/// What the containers of the test say.
const BEHAVIOURS: &str = r#"
images:
  registry.example/teller:v1:
    logs: ["I run on ${NODE_NAME}"]
    exec: [{command: "cat /answer", stdout: "42\n"}, {command: "false", code: 3, stderr: "no\n"}]
"#;

/// Heartbeats each second, so that their end is noticed within a few.
const LEASE: &str = "--set=kubelet.node-lease-duration-seconds=4";
const GRACE: &str = "--node-monitor-grace-period=6s";

fn simulated_nodes_stand_beside_real_ones() {
    let file = std::env::temp_dir().join(format!("daruma-teller-{}.yaml", std::process::id()));
    fs::write(&file, BEHAVIOURS).expect("written");
    let behaviours = format!("--behaviours={}", file.display());
    let cluster = Cluster::up("hollow", &["--workers=1", "--simulated=4", &behaviours, GRACE, LEASE, "--boot-time=1s"]);
    fs::remove_file(&file).expect("removed");
    let pid = process(&cluster);
    workloads(&cluster);
    streams(&cluster);

    // Its power switch works, and the controllers see what it does.
    cluster.daruma(&["node", "off", "simulated-1"]);
    wait("a node without power is not Ready", SOON, || match is_ready(&cluster, "simulated-1") {
        Ok(()) => Err("it is Ready".to_owned()),
        Err(_) => Ok(()),
    });
    let status = cluster.daruma(&["status"]);
    assert!(status.contains("3 running, 1 off (simulated-1)"), "{status}");
    cluster.daruma(&["node", "on", "simulated-1"]);
    let refused = cluster.try_daruma(&["node", "off", "simulated-4"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no machine \"simulated-4\""), "{refused:?}");

    // Their process is started again, and nothing of the cluster notices for long.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it runs");
    wait("another process", SOON, || match cluster.try_daruma(&["node", "list", "-o", "json"]) {
        output if output.status.success() && process(&cluster) != pid => Ok(()),
        output => Err(format!("{output:?}")),
    });
    wait("the pods run again", SOON, || running(&cluster, "app=teller", 8));

    cluster.daruma(&["down", "--keep-disks"]);
    cluster.daruma(&["up"]);
    wait("all are Ready", SOON, || {
        (0..4).find_map(|node| is_ready(&cluster, &format!("simulated-{node}")).err()).map_or(Ok(()), Err)
    });
    let last = process(&cluster);
    let directory = cluster.kubeconfig().parent().expect("a directory").to_owned();
    drop(cluster);
    assert!(!fs::exists(format!("/proc/{last}")).expect("a path") && !directory.exists(), "nothing is left");
}

fn simulated_nodes_come_and_go() {
    let cluster = Cluster::up("comers", &["--workers=0", GRACE, LEASE, "--boot-time=1s"]);
    let refused = |arguments: &[&str], words: &str| {
        let output = cluster.try_daruma(arguments);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && err.contains(words), "{arguments:?}: {err}");
    };
    refused(&["node", "add", "--simulated", "2001"], "2001 is not in 1..=2000");
    refused(&["node", "add", "--simulated", "2", "--count", "1"], "cannot be used with");
    refused(&["node", "add", "--simulated", "256"], "has addresses for 256 nodes, and these would be 257");
    refused(&["node", "remove", "simulated-0"], "there is no machine \"simulated-0\"");

    // The first ones bring their process with them.
    let added = cluster.daruma(&["node", "add", "--simulated", "2"]);
    assert!(added.contains("2 simulated nodes are Ready"), "{added}");
    let first = process(&cluster);
    assert_eq!(nodes(&cluster), ["controller-0", "simulated-0", "simulated-1"]);

    // What is broken of one that goes is forgotten with it.
    cluster.daruma(&["node", "cut", "simulated-0"]);
    let removed = cluster.daruma(&["node", "remove", "simulated-0"]);
    assert!(removed.contains("simulated-0 is removed"), "{removed}");
    assert_eq!(nodes(&cluster), ["controller-0", "simulated-1"]);
    let list = cluster.daruma(&["node", "list"]);
    assert!(list.contains("1 simulated nodes in process") && !list.contains("Broken"), "{list}");
    refused(&["node", "off", "simulated-0"], "there is no machine \"simulated-0\"");
    refused(&["node", "remove", "simulated-0"], "there is no machine \"simulated-0\"");

    // The number that is free is given again, to another node.
    let added = cluster.daruma(&["node", "add", "--simulated", "2"]);
    assert!(added.contains("2 simulated nodes are Ready"), "{added}");
    assert_eq!(nodes(&cluster), ["controller-0", "simulated-0", "simulated-1", "simulated-2"]);
    assert_eq!(process(&cluster), first, "nothing was started anew");
    cluster.kubectl(&["run", "one", "--image=registry.example/one:v1", "--overrides", &on("simulated-0")]);
    wait("a pod runs on a node that came", SOON, || running(&cluster, "run=one", 1));
    assert!(cluster.try_kubectl(&["exec", "one", "--", "true"]).status.success(), "its kubelet is asked");

    cluster.daruma(&["node", "remove", "simulated-1"]);
    cluster.daruma(&["down", "--keep-disks"]);
    cluster.daruma(&["up"]);
    assert_eq!(nodes(&cluster), ["controller-0", "simulated-0", "simulated-2"]);
    for node in ["simulated-0", "simulated-2"] {
        cluster.daruma(&["node", "remove", node]);
    }
    assert_eq!(nodes(&cluster), ["controller-0"]);
}

/// A pod's fields that bind it to a node.
fn on(node: &str) -> String {
    json!({"spec": {"nodeName": node, "tolerations": [{"operator": "Exists"}]}}).to_string()
}

/// Names of the nodes that are Ready, ordered.
fn nodes(cluster: &Cluster) -> Vec<String> {
    let list = cluster.json(&["get", "nodes"]);
    let names = list["items"].as_array().into_iter().flatten().map(|node| at(node, "/metadata/name").to_owned());
    names.filter(|name| is_ready(cluster, name).is_ok()).collect()
}

/// What asks for simulated nodes goes there, nothing else does.
fn workloads(cluster: &Cluster) {
    let template = json!({
        "metadata": {"labels": {"app": "teller"}},
        "spec": {
            "nodeSelector": {"type": "simulated"},
            "tolerations": [{"key": "daruma.dev/node", "operator": "Exists", "effect": "NoSchedule"}],
            "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "teller"}},
            }],
            "containers": [
                {"name": "teller", "image": "registry.example/teller:v1"},
                {"name": "unknown", "image": "registry.example/unknown:v1", "readinessProbe": {"exec": {"command": ["true"]}}},
            ],
        },
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "teller"},
        "spec": {"replicas": 8, "selector": {"matchLabels": {"app": "teller"}}, "template": template},
    });
    let file = std::env::temp_dir().join(format!("daruma-teller-{}.json", std::process::id()));
    fs::write(&file, deployment.to_string()).expect("written");
    cluster.kubectl(&["apply", "-f", &file.display().to_string()]);
    fs::remove_file(&file).expect("removed");
    cluster.kubectl(&["create", "deployment", "near", "--image=gcr.io/google-samples/kubernetes-bootcamp:v2", "--replicas=2"]);
    wait("the pods run", SOON, || running(cluster, "app=teller", 8));
    wait("the others run", SOON, || running(cluster, "app=near", 2));
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for pod in cluster.pods_of("app=teller") {
        *counts.entry(at(&pod, "/spec/nodeName").to_owned()).or_default() += 1;
    }
    let expected = (0..4).map(|node| (format!("simulated-{node}"), 2)).collect();
    assert_eq!(counts, expected);
    assert!(cluster.pods_of("app=near").iter().all(|pod| at(pod, "/spec/nodeName") == "worker-0"));
    for set in cluster.json(&["get", "daemonsets", "-A"])["items"].as_array().expect("a list") {
        assert_eq!((&set["status"]["desiredNumberScheduled"], &set["status"]["numberReady"]), (&json!(2), &json!(2)), "{set}");
    }
}

/// Logs and commands are answered as the behaviour says, and none waits.
fn streams(cluster: &Cluster) {
    let pod = &cluster.pods_of("app=teller")[0];
    let (name, node) = (at(pod, "/metadata/name"), at(pod, "/spec/nodeName"));
    assert_eq!(cluster.kubectl(&["logs", name, "-c", "teller"]), format!("I run on {node}\n"));
    assert_eq!(cluster.kubectl(&["exec", name, "-c", "teller", "--", "cat", "/answer"]), "42\n");
    let failed = cluster.try_kubectl(&["exec", "-i", name, "-c", "teller", "--", "false"]);
    assert_eq!(
        (failed.status.code(), String::from_utf8_lossy(&failed.stderr).starts_with("no\n")),
        (Some(3), true),
        "{failed:?}"
    );
}

fn process(cluster: &Cluster) -> i32 {
    let status: Value = serde_json::from_str(&cluster.daruma(&["node", "list", "-o", "json"])).expect("JSON");
    status["simulated"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid")
}

fn running(cluster: &Cluster, labels: &str, wanted: usize) -> Result<(), String> {
    let pods = cluster.pods_of(labels);
    let ready = pods.iter().filter(|pod| is_running(pod)).count();
    if (pods.len(), ready) == (wanted, wanted) { Ok(()) } else { Err(format!("{ready} of {} run", pods.len())) }
}

/// Whether the node is Ready: an error that says how it is otherwise.
fn is_ready(cluster: &Cluster, node: &str) -> Result<(), String> {
    let object = cluster.json(&["get", "node", node]);
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready =
        conditions.iter().find(|condition| condition["type"] == "Ready").map(|condition| at(condition, "/status").to_owned());
    if ready.as_deref() == Some("True") { Ok(()) } else { Err(format!("{node}: Ready is {ready:?}")) }
}
