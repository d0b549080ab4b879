//! Bad input gets a clear error and an exit code; a cluster that goes down leaves nothing behind.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use harness::{Cluster, Test};

const TESTS: &[Test] = &[
    Test { needs_cluster: false, ..harness::test("wrong_usage", wrong_usage) },
    Test { needs_cluster: false, ..harness::test("help_on_everything", help_on_everything) },
    harness::test("settings_are_checked_before_anything_starts", settings_are_checked_before_anything_starts),
    harness::test("down_leaves_nothing_behind", down_leaves_nothing_behind),
    harness::test("comes_back_from_its_disks", comes_back_from_its_disks),
];

fn main() {
    harness::main(TESTS);
}

fn daruma(arguments: &[&str]) -> Output {
    let root = std::env::temp_dir().join("daruma-no-cluster");
    Command::new(harness::binary()).args(arguments).env("DARUMA_ROOT", root).output().expect("daruma starts")
}

#[track_caller]
fn check_refused(arguments: &[&str], code: i32, words: &str) {
    let output = daruma(arguments);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
    assert!(err.contains(words), "{arguments:?} says: {err}");
}

fn wrong_usage() {
    check_refused(&["up", "--memory", "much"], 2, "write it like 512Mi");
    check_refused(&["up", "--cpus", "0"], 2, "write it like 2, 0.5 or 500m");
    check_refused(&["up", "--boot-time", "5"], 2, "write it like 50s");
    check_refused(&["up", "--set", "kubelet"], 2, "COMPONENT.FLAG=VALUE");
    check_refused(&["frobnicate"], 2, "unrecognized subcommand");
    check_refused(&["kubeconfig"], 1, "there is no cluster");
    check_refused(&["status"], 1, "there is no cluster");
    check_refused(&["node", "off", "worker-0"], 1, "is not up");
}

fn help_on_everything() {
    let help = String::from_utf8(daruma(&["--help"]).stdout).expect("a text");
    for verb in ["up", "down", "status", "kubeconfig", "kubectl", "node", "image", "logs", "doctor"] {
        assert!(help.contains(verb), "{help}");
        assert!(daruma(&[verb, "--help"]).status.success(), "{verb}");
    }
}

fn settings_are_checked_before_anything_starts() {
    let before = traces();
    check_refused(&["up", "--set", "kube-thing.flag=1"], 1, "no such component");
    check_refused(&["up", "--set", "kubelet.flag=1"], 1, "has no such flag");
    check_refused(&["up", "--memory", "16Mi"], 1, "needs 128Mi or more");
    let left: Vec<String> = traces().difference(&before).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
}

/// Everything that a cluster makes on a host.
fn traces() -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    let mut add = |what: &str, text: String| traces.extend(text.lines().map(|line| format!("{what} {line}")));
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    add("mount", read("/proc/self/mounts"));
    add(
        "route",
        read("/proc/net/route").lines().map(|line| line.split('\t').take(3).collect::<Vec<_>>().join(" ") + "\n").collect(),
    );
    let names = |path: &str| -> String {
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| format!("{}\n", entry.path().display())).collect()
    };
    add("link", names("/sys/class/net"));
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        add(
            "cgroup",
            names(&hierarchy.path().to_string_lossy())
                .lines()
                .filter(|path| path.contains("daruma"))
                .map(|path| format!("{path}\n"))
                .collect(),
        );
    }
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(command) = fs::read(process.path().join("cmdline")) else { continue };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains("machine-init") || command.contains("daruma kube") || command.contains(" shim ") {
            add("process", command);
        }
    }
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        add("loop", read(&device.path().join("loop/backing_file").to_string_lossy()));
    }
    traces
}

fn down_leaves_nothing_behind() {
    let before = traces();
    let cluster = Cluster::up("trace", &["--workers=1"]);
    let second = cluster.try_daruma(&["up"]);
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("is up already"));
    let unknown = cluster.try_daruma(&["node", "off", "worker-7"]);
    let words = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && words.contains("worker-7") && words.contains("worker-0"), "{words}");
    let on = cluster.try_daruma(&["node", "on", "worker-0"]);
    assert!(!on.status.success() && String::from_utf8_lossy(&on.stderr).contains("already"));
    // A pod with volumes, and a worker without power: all of it goes.
    cluster.kubectl(&["create", "deployment", "web", "--image=gcr.io/google-samples/kubernetes-bootcamp:v2"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    cluster.daruma(&["node", "off", "worker-0"]);
    drop(cluster);
    let left: Vec<String> = traces().difference(&before).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
}

fn comes_back_from_its_disks() {
    let cluster = Cluster::up("again", &["--workers=1"]);
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=answer=42"]);
    let uid = cluster.json(&["get", "node", "worker-0"])["metadata"]["uid"].clone();
    let status: serde_json::Value = serde_json::from_str(&cluster.daruma(&["node", "list", "-o", "json"])).expect("JSON");
    let supervisor = status["supervisor_pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    // The worst that can happen to it, and so to all machines.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGKILL).expect("killed");
    harness::wait("the supervisor is gone", std::time::Duration::from_secs(10), || {
        let output = cluster.try_daruma(&["node", "list"]);
        if output.status.success() { Err("it still answers".to_owned()) } else { Ok(()) }
    });
    cluster.daruma(&["up"]);
    let kept = cluster.json(&["get", "configmap", "kept"]);
    assert_eq!(kept["data"]["answer"], "42", "an acknowledged write survives");
    assert_eq!(cluster.json(&["get", "node", "worker-0"])["metadata"]["uid"], uid, "the same node");
}
