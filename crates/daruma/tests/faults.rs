//! What breaks on real machines shows in the cluster, and what is taken back heals: the built binary, the real kubectl.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]

mod harness;

use std::collections::BTreeSet;
use std::time::Duration;

use daruma_host::machines::SupervisedMachines;
use daruma_world::machines::{MachineError, Machines, Pressure, Program, Signal};
use harness::{Cluster, Test, at, wait};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(15);

/// A short grace period, with the short lease that it needs; conditions of pressure are held for 5 s only.
const FLAGS: &[&str] = &[
    "--node-monitor-grace-period=15s",
    "--default-toleration-seconds=120",
    "--boot-time=1s",
    "--set=kubelet.node-lease-duration-seconds=12",
    "--set=kubelet.eviction-pressure-transition-period=5s",
    "--set=kube-controller-manager.node-monitor-period=1s",
];

const TESTS: &[Test] = &[harness::test("faults_show_and_heal", faults_show_and_heal)];

fn main() {
    harness::main(TESTS);
}

fn faults_show_and_heal() {
    let faults = Faults { cluster: Cluster::up("faults", FLAGS) };
    faults.nodes_are_lost_and_found();
    faults.pressure_shows();
    faults.memory_runs_out();
    faults.programs_are_stopped_and_started();
    faults.machines_come_and_go();
    faults.refusals_are_clear();
}

struct Faults {
    cluster: Cluster,
}

impl Faults {
    /// One worker hangs, the other one is cut off.
    fn nodes_are_lost_and_found(&self) {
        let cluster = &self.cluster;
        assert_eq!(cluster.daruma(&["node", "hang", "worker-0"]), "worker-0 is hung\n");
        assert_eq!(cluster.daruma(&["node", "cut", "worker-1"]), "worker-1 is cut off from everybody\n");
        let listed = cluster.daruma(&["node", "list"]);
        assert!(listed.contains("Broken on purpose:\n  worker-1 to everybody: cut\n  everybody to worker-1: cut\n"), "{listed}");
        for node in ["worker-0", "worker-1"] {
            self.until_condition(node, "Ready", "Unknown", GRACE + 15 * SECOND);
        }
        assert_eq!(cluster.daruma(&["node", "resume", "worker-0"]), "worker-0 is running\n");
        assert_eq!(cluster.daruma(&["node", "mend", "worker-1"]), "the links of worker-1 are well\n");
        for node in ["worker-0", "worker-1"] {
            // Until the next try of connections whose packets were lost.
            self.until_condition(node, "Ready", "True", 40 * SECOND);
        }
        assert!(!cluster.daruma(&["node", "list"]).contains("Broken"), "all is well");
    }

    /// One worker runs out of disk, the other one out of memory.
    fn pressure_shows(&self) {
        let cluster = &self.cluster;
        let image = "--image=gcr.io/google-samples/kubernetes-bootcamp:v1";
        cluster.kubectl(&["create", "deployment", "web", image, "--replicas=4"]);
        cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        let disk = self.work(|machines| machines.press("worker-0", Pressure::Disk { leave_bytes: 100 << 20 }));
        // Below the threshold of 100Mi, but not so low that the kernel ends what is left.
        let summary = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/worker-1/proxy/stats/summary"]);
        let summary: Value = serde_json::from_str(&summary).expect("it is JSON");
        let available = summary["node"]["memory"]["availableBytes"].as_u64().expect("a figure");
        let bytes = available - (60 << 20);
        let memory = self.work(|machines| machines.press("worker-1", Pressure::Memory { bytes }));
        let listed = cluster.daruma(&["node", "list"]);
        assert!(listed.contains("worker-0: the disk is full but for 104857600 bytes\n"), "{listed}");
        self.until_condition("worker-0", "DiskPressure", "True", 30 * SECOND);
        self.until_condition("worker-1", "MemoryPressure", "True", 30 * SECOND);
        self.until_tainted("worker-0", "node.kubernetes.io/disk-pressure", true);
        self.until_tainted("worker-1", "node.kubernetes.io/memory-pressure", true);
        wait("a pod is evicted", 20 * SECOND, || {
            let list = cluster.json(&["get", "pods", "-A"]);
            let pods = list["items"].as_array().cloned().unwrap_or_default();
            let found = pods.iter().find(|pod| at(pod, "/status/reason") == "Evicted");
            found.map(|pod| eprintln!("evicted: {}", at(pod, "/status/message"))).ok_or_else(|| "none".to_owned())
        });
        self.work(|machines| machines.release("worker-0", disk));
        self.work(|machines| machines.release("worker-1", memory));
        self.until_condition("worker-0", "DiskPressure", "False", 40 * SECOND);
        self.until_condition("worker-1", "MemoryPressure", "False", 40 * SECOND);
        self.until_tainted("worker-0", "node.kubernetes.io/disk-pressure", false);
        self.until_tainted("worker-1", "node.kubernetes.io/memory-pressure", false);
        cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    }

    /// A greedy container, then something outside of all pods: containers go, PID 1 and the kubelet stay the same.
    fn memory_runs_out(&self) {
        let (cluster, node) = (&self.cluster, "worker-1");
        let programs = self.first_programs(node);
        // No requests and no limits; a mode of the program that writes to as much memory as it is told.
        let image = "gcr.io/google-samples/kubernetes-bootcamp:v1";
        let command = ["/usr/local/bin/daruma", "ballast", "0", "piece", "4294967296"];
        let container = serde_json::json!({"name": "hog", "image": image, "command": command});
        let overrides = serde_json::json!({"spec": {"nodeName": node, "containers": [container]}}).to_string();
        cluster.kubectl(&["run", "hog", &format!("--image={image}"), &format!("--overrides={overrides}")]);
        wait("the hog is killed for its memory", 30 * SECOND, || {
            let status = cluster.json(&["get", "pod", "hog"])["status"]["containerStatuses"][0].clone();
            let killed = ["state", "lastState"].iter().any(|state| status[state]["terminated"]["reason"] == "OOMKilled");
            if killed { Ok(()) } else { Err(status.to_string()) }
        });
        cluster.kubectl(&["delete", "pod", "hog", "--now"]);
        assert_eq!(self.first_programs(node), programs, "a greedy container ends alone");
        let memory = self.work(|machines| machines.press(node, Pressure::Memory { bytes: 4 << 30 }));
        wait("a container is killed or a pod evicted", 30 * SECOND, || {
            let list = cluster.json(&["get", "pods", "-A"]);
            let lost = list["items"].as_array().into_iter().flatten().find(|pod| {
                let status = &pod["status"]["containerStatuses"][0];
                let killed = ["state", "lastState"].iter().any(|state| status[state]["terminated"]["reason"] == "OOMKilled");
                at(pod, "/spec/nodeName") == node && (killed || at(pod, "/status/reason") == "Evicted")
            });
            lost.map(drop).ok_or_else(|| "none".to_owned())
        });
        self.until_condition(node, "MemoryPressure", "True", 30 * SECOND);
        assert_eq!(self.first_programs(node), programs, "the machine goes on");
        self.work(|machines| machines.release(node, memory));
        self.until_condition(node, "MemoryPressure", "False", 40 * SECOND);
        self.until_condition(node, "Ready", "True", 20 * SECOND);
        assert_eq!(self.first_programs(node), programs, "the machine has gone on");
        cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    }

    /// PID 1 of a machine and its kubelet, as the host numbers them.
    fn first_programs(&self, node: &str) -> [u32; 2] {
        let status = self.work(SupervisedMachines::status);
        let init = status.machine(node).and_then(|machine| machine.pid).expect("it is on").cast_unsigned();
        let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).expect("it lives");
        let is_kubelet = |pid: &u32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"kubelet")
        };
        let kubelet = children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_kubelet);
        [init, kubelet.expect("init keeps a kubelet")]
    }

    /// The kubelet of one worker, a container of another.
    fn programs_are_stopped_and_started(&self) {
        let cluster = &self.cluster;
        let kubelet = Program::Service("kubelet".to_owned());
        self.work(|machines| machines.signal("worker-0", &kubelet, Signal::Stop));
        assert!(cluster.daruma(&["node", "list"]).contains("worker-0: kubelet is stopped\n"));
        let living = self.work(|machines| machines.living_containers("worker-0"));
        assert!(!living.is_empty(), "containers go on without the kubelet");
        assert_eq!(self.work(SupervisedMachines::undo).len(), 1, "somebody else takes it back");
        // Those that were evicted are still there, and have ended.
        let mut running: Vec<Value> = cluster.pods_of("app=web");
        running.retain(|pod| at(pod, "/status/phase") == "Running" && pod["metadata"]["deletionTimestamp"].is_null());
        running.sort_by_key(|pod| at(pod, "/spec/nodeName") != "worker-1");
        let pod = running.first().expect("the rollout is complete");
        let node = at(pod, "/spec/nodeName");
        let (name, restarts) = (at(pod, "/metadata/name"), &pod["status"]["containerStatuses"][0]["restartCount"]);
        let id = at(pod, "/status/containerStatuses/0/containerID").rsplit('/').next().expect("an id").to_owned();
        assert!(self.work(|machines| machines.living_containers(node)).contains(&id), "{id} lives");
        self.work(|machines| machines.signal(node, &Program::Container(id.clone()), Signal::Kill));
        wait("the killed container is started again", 20 * SECOND, || {
            let status = cluster.json(&["get", "pod", name])["status"]["containerStatuses"][0].clone();
            let again = status["ready"] == true && status["restartCount"].as_u64() == restarts.as_u64().map(|count| count + 1);
            if again { Ok(()) } else { Err(status.to_string()) }
        });
        assert!(!self.work(|machines| machines.living_containers(node)).contains(&id), "{id} is dead");
        self.until_condition("worker-0", "Ready", "True", 20 * SECOND);
    }

    fn machines_come_and_go(&self) {
        let cluster = &self.cluster;
        let names = || -> BTreeSet<String> {
            let list = cluster.json(&["get", "nodes"]);
            list["items"].as_array().into_iter().flatten().map(|node| at(node, "/metadata/name").to_owned()).collect()
        };
        let added = cluster.daruma(&["node", "add", "--count=2"]);
        assert!(added.starts_with("worker-2 is Ready (10.88.") && added.contains("worker-3 is Ready"), "{added}");
        assert!(names().contains("worker-2") && names().contains("worker-3"), "{:?}", names());
        // A new machine serves as the others do.
        let pod = r#"{"spec":{"nodeName":"worker-3"}}"#;
        let image = "--image=gcr.io/google-samples/kubernetes-bootcamp:v1";
        cluster.kubectl(&["run", "guest", image, &format!("--overrides={pod}")]);
        cluster.kubectl(&["wait", "pod/guest", "--for=condition=Ready", "--timeout=60s"]);
        let removed = cluster.try_daruma(&["node", "remove", "worker-3"]);
        let warned = String::from_utf8_lossy(&removed.stderr).into_owned();
        assert!(removed.status.success() && warned.contains("pods are lost with worker-3: default/guest"), "{warned}");
        assert_eq!(cluster.daruma(&["node", "shutdown", "worker-2"]), "worker-2 is off\n");
        assert!(names().contains("worker-2") && !names().contains("worker-3"), "{:?}", names());
        assert_eq!(cluster.daruma(&["node", "remove", "worker-2"]), "worker-2 is removed\n");
        assert_eq!(names().len(), 3, "{:?}", names());
        assert_eq!(cluster.daruma(&["node", "reboot", "worker-0"]), "worker-0 is running\n");
        self.until_condition("worker-0", "Ready", "True", 20 * SECOND);
    }

    fn refusals_are_clear(&self) {
        let check = |arguments: &[&str], expected: &str| {
            let output = self.cluster.try_daruma(&[&["node"], arguments].concat());
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && told.contains(expected), "{arguments:?}: {told}");
        };
        let known = "there is no machine \"worker-7\"; there are controller-0, worker-0, worker-1";
        for verb in ["off", "on", "reset", "reboot", "shutdown", "hang", "resume", "cut", "mend", "remove"] {
            check(&[verb, "worker-7"], known);
        }
        check(&["cut", "worker-0", "--to=worker-7"], known);
        check(&["on", "worker-0"], "worker-0 is on already");
        check(&["resume", "worker-0"], "worker-0 is running, not hung");
        check(&["remove", "controller-0"], "controller-0 runs the control plane and cannot be removed");
        self.cluster.daruma(&["node", "off", "worker-1"]);
        check(&["hang", "worker-1"], "worker-1 is off");
        check(&["shutdown", "worker-1"], "worker-1 is off");
        check(&["off", "worker-1"], "worker-1 is off already");
    }

    /// Works on the machines as `daruma drill` does.
    #[track_caller]
    fn work<T, F: Future<Output = Result<T, MachineError>>>(&self, work: impl FnOnce(&SupervisedMachines) -> F) -> T {
        let (root, name) = self.cluster.place();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let machines = SupervisedMachines::connect(root, name).expect("the cluster is up");
        runtime.block_on(async { work(&machines).await }).expect("it is done")
    }

    #[track_caller]
    fn until_condition(&self, node: &str, kind: &str, status: &str, limit: Duration) {
        let what = format!("{kind} of {node} is {status}");
        let ((), took) = wait(&what, limit, || {
            let object = self.cluster.json(&["get", "node", node]);
            let found = object["status"]["conditions"].as_array().into_iter().flatten().find(|it| it["type"] == kind);
            let found = found.map(|it| at(it, "/status").to_owned()).unwrap_or_default();
            if found == status { Ok(()) } else { Err(found) }
        });
        eprintln!("{what} after {took:?}");
    }

    #[track_caller]
    fn until_tainted(&self, node: &str, taint: &str, wanted: bool) {
        wait(&format!("{taint} on {node}: {wanted}"), 10 * SECOND, || {
            let object = self.cluster.json(&["get", "node", node]);
            let taints: Vec<Value> = object["spec"]["taints"].as_array().cloned().unwrap_or_default();
            if taints.iter().any(|it| it["key"] == taint) == wanted { Ok(()) } else { Err(format!("{taints:?}")) }
        });
    }
}
