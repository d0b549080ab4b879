//! Drills and simulations through the command line: bad files, the same day in both worlds, seeds, interruption and death.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use harness::{Cluster, Test, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const APP: &str = "kubernetes-bootcamp";

const TESTS: &[Test] = &[
    Test { needs_cluster: false, ..harness::test("bad_files_are_refused_with_their_place", bad_files) },
    Test { needs_cluster: false, ..harness::test("a_seed_gives_one_event_log", seeds) },
    Test { needs_cluster: false, ..harness::test("explore_finds_and_shortens_a_failure", explore) },
    Test { needs_cluster: false, ..harness::test("compare_prints_one_table", compare) },
    Test { needs_cluster: false, ..harness::test("a_simulated_cluster_answers_kubectl", simulated_cluster) },
    harness::test("both_worlds_show_the_same_story", both_worlds),
    harness::test("workloads_and_machines_are_hurt_alike_in_both_worlds", hurts),
    harness::test("an_interrupted_drill_is_undone", interrupted),
    harness::test("what_a_killed_drill_left_is_undone_by_the_next_command", killed),
];

fn main() {
    harness::main(TESTS);
}

/// A directory of this test's own.
fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("daruma-{name}-{}", std::process::id()));
    fs::create_dir_all(&path).expect("a directory");
    path
}

fn fixture(name: &str) -> String {
    format!("{}/tests/drills/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn daruma(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(harness::binary());
    command.current_dir(directory).env("DARUMA_ROOT", directory.join("root")).args(arguments);
    command.output().expect("daruma starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn bad_files() {
    let directory = scratch("bad-files");
    let head = "apiVersion: daruma.dev/v1\nkind: Drill\nmetadata: {name: bad}\nspec:\n";
    let cases = [
        (
            "  steps:\n  - {fault: power-of, target: {machine: worker-1}}\n",
            "bad.yaml:6:6: spec.steps[0].fault: there is no fault",
        ),
        (
            "  steps:\n  - {fault: power-off, target: {machine: worker-9}}\n",
            "bad.yaml:6:33: spec.steps[0].target.machine: there is no machine \"worker-9\"",
        ),
        (
            "  steps:\n  - {fault: power-off, target: {machine: worker-1}}\n  - {fault: power-off, target: {machine: worker-1}}\n",
            "bad.yaml:7:6: spec.steps[1].fault: power-off: worker-1 is off at this step",
        ),
        (
            "  cluster: {simulated: 2, zones: [a, b]}\n  steps:\n  - {fault: kube-proxy, target: {zone: b}, with: {how: kill}}\n",
            "bad.yaml:7:34: spec.steps[0].target.zone: kube-proxy does not run on simulated-1: it is simulated",
        ),
        (
            "  steps: []\n  checks:\n  - failedRequestsAtMost: {probe: wob, count: 0}\n",
            "bad.yaml:7:28: spec.checks[0].failedRequestsAtMost.probe: no probe \"wob\"",
        ),
        ("  colour: red\n  steps: []\n", "bad.yaml:5:3: spec.colour: unknown field"),
        ("  steps: [\n", "bad.yaml:"),
    ];
    for (body, words) in cases {
        fs::write(directory.join("bad.yaml"), format!("{head}{body}")).expect("a file");
        for world in ["sim", "real"] {
            let output = daruma(&directory, &["drill", "run", "bad.yaml", "--world", world]);
            assert_eq!(output.status.code(), Some(1), "{body}");
            assert!(text(&output).contains(words), "{body} is refused with {}", text(&output));
        }
    }
    let one_world = [
        (
            "real",
            "  steps:\n  - note: x\n  - {fault: clock-skew, target: {machine: worker-0}, with: {offsetMs: 5}}\n",
            "bad.yaml:7:6: spec.steps[1].fault: clock-skew is possible in the virtual world only",
        ),
        (
            "real",
            "  steps: []\n  cluster:\n    preload: [{deployment: web, replicas: 3}]\n",
            "bad.yaml:7:5: spec.cluster.preload: a ready-made state can be loaded in the virtual world only",
        ),
        (
            "real",
            "  steps: []\n  cluster: {simulated: 1}\n  probes:\n  - {name: a, from: simulated-0, http: {to: {service: web}}}\n",
            "bad.yaml:8:15: spec.probes[0].from: a simulated node has no sockets",
        ),
        (
            "sim",
            "  steps: []\n  settings:\n    set:\n      kubelet.max-podz: 5\n",
            "bad.yaml:8:7: spec.settings.set.kubelet.max-podz: kubelet has no such flag; it has",
        ),
    ];
    for (world, body, words) in one_world {
        fs::write(directory.join("bad.yaml"), format!("{head}{body}")).expect("a file");
        let output = daruma(&directory, &["drill", "run", "bad.yaml", "--world", world]);
        assert_eq!(output.status.code(), Some(1), "{body}");
        assert!(text(&output).contains(words), "{body} is refused with {}", text(&output));
    }
    assert!(!directory.join("root").exists(), "nothing was touched");
    let unknown = daruma(&directory, &["drill", "run", "no-such-drill"]);
    assert!(text(&unknown).contains("neither a file nor a built-in drill"), "{}", text(&unknown));
    let schema = daruma(&directory, &["drill", "schema"]);
    serde_json::from_slice::<Value>(&schema.stdout).expect("the schema is JSON");
    fs::remove_dir_all(directory).expect("it goes");
}

fn seeds() {
    let directory = scratch("seeds");
    let log = |seed: &str| {
        let arguments =
            ["drill", "run", "reset", "--world", "sim", "--quiet", "--seed", seed, "--event-log", "log", "--report", "r"];
        let output = daruma(&directory, &arguments);
        assert!(output.status.success(), "{}", text(&output));
        fs::read_to_string(directory.join("log")).expect("a log")
    };
    let first = log("5");
    assert!(first.lines().count() > 300, "{first}");
    assert!(first == log("5"), "the same seed gives the same log");
    assert!(first != log("6"), "another seed gives another one");
    for file in ["report.html", "report.json", "junit.xml"] {
        assert!(directory.join("r").join(file).exists(), "{file}");
    }
    fs::remove_dir_all(directory).expect("it goes");
}

fn explore() {
    let directory = scratch("explore");
    let drill = "apiVersion: daruma.dev/v1\nkind: Drill\nmetadata: {name: hopeless}\nspec:\n  steps:\n  - sleep: 1s\n  \
                 - {fault: power-off, target: {machine: worker-1}}\n  - sleep: 70s\n  - undo: power-off\n  checks:\n  \
                 - nodeDetectedWithin: {after: power-off, limit: 1s}\n  - nothingLeftBehind: {}\n";
    fs::write(directory.join("hopeless.yaml"), drill).expect("a file");
    let output = daruma(&directory, &["sim", "explore", "hopeless.yaml", "--seeds", "3", "--jobs", "1", "--write", "short.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("seed 1 breaks"), "{}", text(&output));
    let short = fs::read_to_string(directory.join("short.yaml")).expect("the shorter drill");
    let short: Value = serde_json::from_str(&short).expect("it is JSON");
    assert_eq!(short["spec"]["steps"].as_array().map(Vec::len), Some(1), "{short}");
    assert_eq!(short["spec"]["checks"].as_array().map(Vec::len), Some(1), "{short}");
    let logs = ["one.log", "two.log"].map(|log| {
        let command =
            ["drill", "run", "short.yaml", "--world", "sim", "--seed", "1", "--quiet", "--report", "r", "--event-log", log];
        let again = daruma(&directory, &command);
        assert_eq!(again.status.code(), Some(1), "it still fails: {}", text(&again));
        fs::read_to_string(directory.join(log)).expect("a log")
    });
    assert!(logs[0] == logs[1] && logs[0].lines().count() > 300, "a seed played again is the same run, byte for byte");
    let fine = daruma(&directory, &["sim", "explore", "force-delete", "--seeds", "4"]);
    assert!(fine.status.success() && text(&fine).contains("4 seeds"), "{}", text(&fine));
    fs::remove_dir_all(directory).expect("it goes");
}

fn compare() {
    let directory = scratch("compare");
    let output = daruma(&directory, &["drill", "compare", "power-off", "--vary", "grace=40s,50s", "--vary", "toleration=30"]);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", text(&output));
    assert!(printed.contains("toleration: 30"), "what is the same stands above: {printed}");
    let rows: Vec<&str> = printed.lines().filter(|line| line.starts_with("40s") || line.starts_with("50s")).collect();
    assert_eq!(rows.len(), 2, "{printed}");
    assert!(printed.contains("DETECTED") && printed.contains("FULL RECOVERY"), "{printed}");
    fs::remove_dir_all(directory).expect("it goes");
}

/// exec and port-forward through the front of a simulated cluster, over WebSockets and over SPDY, while its clock stands.
fn streams(kubeconfig: &Path) {
    for websockets in ["true", "false"] {
        let kubectl = |arguments: &[&str]| {
            let mut command = Command::new("kubectl");
            command.env("KUBECONFIG", kubeconfig).env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
            command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets).args(arguments);
            command
        };
        let output = kubectl(&["exec", "deployment/web", "--", "hostname"]).output().expect("kubectl starts");
        assert!(output.status.success() && text(&output).contains("hostname"), "{}", text(&output));
        let mut forward = kubectl(&["port-forward", "deployment/web", ":8080"]);
        let mut child = Guarded(forward.stdout(Stdio::piped()).spawn().expect("kubectl starts"));
        let mut line = String::new();
        BufReader::new(child.0.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it says where");
        let port = line.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split(' ').next()).and_then(|port| port.parse().ok());
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or_else(|| panic!("{line}"))));
        let mut stream = TcpStream::connect(at).expect("kubectl listens");
        stream.set_read_timeout(Some(30 * SECOND)).expect("set");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("Hello Kubernetes bootcamp!"), "{answer}");
    }
}

fn simulated_cluster() {
    let directory = scratch("sim-up");
    let root = directory.join("root");
    let mut command = Command::new(harness::binary());
    command.args(["sim", "up", "--nodes", "2", "--speed", "10"]).env("DARUMA_ROOT", &root).stdout(Stdio::null());
    let mut child = Guarded(command.spawn().expect("daruma starts"));
    let kubeconfig = root.join("sim/kubeconfig");
    wait("the simulation has written its kubeconfig", 60 * SECOND, || {
        if root.join("sim/sim.sock").exists() { Ok(()) } else { Err("not yet".into()) }
    });
    let kubectl = |arguments: &[&str]| {
        let output = Command::new("kubectl").env("KUBECONFIG", &kubeconfig).args(arguments).output().expect("kubectl starts");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let steer = |arguments: &[&str]| {
        let output = daruma(&directory, &[&["sim"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    };
    assert_eq!(kubectl(&["get", "nodes", "--no-headers"]).matches(" Ready ").count(), 3);
    kubectl(&["create", "deployment", "web", "--image=gcr.io/google-samples/kubernetes-bootcamp:v1", "--replicas=2"]);
    steer(&["step", "30s"]);
    assert_eq!(kubectl(&["get", "pods"]).matches("1/1     Running").count(), 2);
    streams(&kubeconfig);
    let before = steer(&["status"]);
    std::thread::sleep(SECOND);
    assert!(before.contains("the clock stands"), "{before}");
    assert_eq!(before, steer(&["status"]), "a clock that stands stands");
    steer(&["node", "off", "worker-1"]);
    steer(&["step", "60s"]);
    assert!(kubectl(&["get", "nodes"]).contains("NotReady"));
    steer(&["step", "6m"]);
    let pods = kubectl(&["get", "pods"]);
    assert!(pods.contains("Terminating") && pods.matches("1/1     Running").count() == 2, "{pods}");
    let refused = daruma(&directory, &["sim", "node", "off", "worker-1"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    kill(Pid::from_raw(child.0.id().cast_signed()), Signal::SIGINT).expect("it is there");
    assert!(child.0.wait().expect("it ends").success());
    assert!(!root.join("sim").exists(), "nothing is left");
    fs::remove_dir_all(directory).expect("it goes");
}

/// The record of one run of a drill whose checks hold.
fn played(directory: &Path, drill: &str, world: &str) -> Value {
    let report = directory.join(world);
    let name = format!("worlds{}", std::process::id() % 10_000);
    let file = fixture(drill);
    let arguments =
        ["drill", "run", &file, "--world", world, "--quiet", "--name", &name, "--report", report.to_str().expect("a path")];
    let output = daruma(directory, &arguments);
    assert!(output.status.success(), "{world}: {}", text(&output));
    let report = fs::read_to_string(report.join("report.json")).expect("a report");
    serde_json::from_str::<Value>(&report).expect("it is JSON")["record"].take()
}

/// What each pod of the application was called in STATUS, without the states that are over within a moment; how many pods
/// went that way.
fn ways(record: &Value) -> BTreeMap<String, usize> {
    let mut pods: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for state in record["pods"].as_array().expect("states") {
        if state["name"].as_str().is_some_and(|name| name.starts_with(APP)) {
            let status = state["status"].as_str().unwrap_or_default();
            let way = pods.entry(state["uid"].as_str().unwrap_or_default()).or_default();
            let passing = ["Pending", "ContainerCreating"].contains(&status);
            if !passing && way.last() != Some(&status) {
                // How a container ended shows only until its pod is gone.
                if status == "Deleted" && way.last().is_some_and(|last| ["Completed", "Error"].contains(last)) {
                    way.pop();
                }
                way.push(status);
            }
        }
    }
    let mut ways = BTreeMap::new();
    for way in pods.values() {
        *ways.entry(way.join(" → ")).or_default() += 1;
    }
    ways
}

/// When worker-1 was seen lost, its pods given up, and it was seen again, in milliseconds after the power cut.
fn moments(record: &Value) -> [i64; 3] {
    let at = |entry: &Value| entry["atMs"].as_i64().unwrap_or_default();
    let all = |list: &str| record[list].as_array().cloned().unwrap_or_default();
    let cut =
        all("timeline").iter().find(|entry| entry["step"] == "power-off" && entry["kind"] == "fault").map(at).expect("the cut");
    let nodes: Vec<Value> = all("nodes").into_iter().filter(|state| state["node"] == "worker-1" && at(state) > cut).collect();
    let lost = nodes.iter().find(|state| state["ready"] == "Unknown").map(at).expect("it is noticed");
    let back = nodes.iter().find(|state| state["ready"] == "True" && at(state) > lost).map(at).expect("it comes back");
    let pods = all("pods");
    let given_up = pods.iter().find(|pod| pod["status"] == "Terminating" && pod["node"] == "worker-1" && at(pod) > cut);
    [lost - cut, given_up.map(at).expect("pods are given up") - cut, back - cut]
}

fn both_worlds() {
    let directory = scratch("worlds");
    let [sim, real] = ["sim", "real"].map(|world| played(&directory, "short-story.yaml", world));
    assert_eq!(ways(&sim), ways(&real), "the pods' ways differ");
    let ready = |record: &Value| {
        let mut states: Vec<String> = Vec::new();
        for state in record["nodes"].as_array().into_iter().flatten().filter(|state| state["node"] == "worker-1") {
            let now = state["ready"].as_str().unwrap_or_default().to_owned();
            if states.last() != Some(&now) {
                states.push(now);
            }
        }
        states
    };
    // A kubelet that starts again asks its engine before it reports, and the file of its pod network has outlived the power cut: at no
    // moment it says that it is not Ready.
    assert_eq!(ready(&sim), ["True", "Unknown", "True"]);
    assert_eq!(ready(&sim), ready(&real));
    let (sim, real) = (moments(&sim), moments(&real));
    eprintln!("lost, given up, back (ms after the cut): virtual {sim:?}, real {real:?}");
    for (virtual_ms, real_ms) in sim.into_iter().zip(real) {
        // A heartbeat comes every 10 s at a phase of its own, the monitor looks every second.
        assert!((virtual_ms - real_ms).abs() <= 14_000, "virtual {sim:?}, real {real:?}");
    }
    fs::remove_dir_all(directory).expect("it goes");
}

/// What nodes were short of, one after the other.
fn shortages(record: &Value) -> Vec<(String, Value)> {
    let mut states: Vec<(String, Value)> = Vec::new();
    for state in record["nodes"].as_array().into_iter().flatten() {
        let node = state["node"].as_str().unwrap_or_default();
        let last = states.iter().rev().find(|(of, _)| of == node).map(|(_, pressure)| pressure);
        if *last.unwrap_or(&Value::Array(Vec::new())) != state["pressure"] {
            states.push((node.to_owned(), state["pressure"].clone()));
        }
    }
    states
}

/// The drill's own steps wait for what each fault of it shows.
fn hurts() {
    let directory = scratch("hurts");
    let [sim, real] = ["sim", "real"].map(|world| played(&directory, "hurts.yaml", world));
    let short: Vec<String> = shortages(&sim).iter().map(|(node, pressure)| format!("{node} {pressure}")).collect();
    assert_eq!(short, ["worker-1 [\"DiskPressure\"]", "worker-1 []", "worker-0 [\"PIDPressure\"]", "worker-0 []"]);
    assert_eq!(shortages(&sim), shortages(&real));
    fs::remove_dir_all(directory).expect("it goes");
}

/// A child process that does not outlive the test.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the drill that breaks things for ten minutes, and waits until they are broken.
fn break_things(directory: &Path, root: &Path, name: &str) -> Guarded {
    let mut command = Command::new(harness::binary());
    command.current_dir(directory).env("DARUMA_ROOT", root).env("DARUMA_NAME", name);
    command.args(["drill", "run", &fixture("broken.yaml"), "--world", "real", "--report", "report"]);
    command.stdout(fs::File::create(directory.join("out")).expect("a file"));
    let child = Guarded(command.spawn().expect("daruma starts"));
    wait("a worker hangs and another is cut off", 60 * SECOND, || {
        let out = fs::read_to_string(directory.join("out")).expect("its output");
        if out.contains("hang") && out.contains("cut") { Ok(()) } else { Err(out) }
    });
    child
}

fn interrupted() {
    let directory = scratch("interrupted");
    let root = directory.join("root");
    let name = format!("int{}", std::process::id() % 10_000);
    let mut child = break_things(&directory, &root, &name);
    kill(Pid::from_raw(child.0.id().cast_signed()), Signal::SIGINT).expect("it is there");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(1));
    let out = fs::read_to_string(directory.join("out")).expect("its output");
    assert!(out.contains("interrupted") && out.contains("worker-1 goes on"), "{out}");
    assert!(directory.join("report/report.json").exists(), "it reports what it saw");
    assert!(!root.join(&name).exists(), "its cluster is down");
    fs::remove_dir_all(directory).expect("it goes");
}

fn killed() {
    let directory = scratch("killed");
    let cluster = Cluster::up("killed", &["--boot-time=1s"]);
    let (root, name) = cluster.place();
    let mut child = break_things(&directory, root, name);
    child.0.kill().expect("it is there");
    child.0.wait().expect("it ends");
    let listed = cluster.daruma(&["node", "list"]);
    let line = |machine: &str| listed.lines().find(|line| line.starts_with(machine)).unwrap_or_default().to_owned();
    assert!(line("worker-1").contains("running"), "{listed}");
    let again = cluster.daruma(&["drill", "undo"]);
    assert!(again.contains("nothing is broken"), "{again}");
    wait("both workers are Ready again", 60 * SECOND, || {
        let nodes = cluster.kubectl(&["get", "nodes"]);
        if nodes.matches(" Ready ").count() == 3 { Ok(()) } else { Err(nodes) }
    });
    fs::remove_dir_all(directory).expect("it goes");
}
