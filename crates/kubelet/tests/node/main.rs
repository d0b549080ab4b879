//! A whole kubelet on a simulated machine: simulated containers, files in memory, a little API.

mod api;
mod idle;
mod objects;
mod pressure;
mod shutdown;
mod timing;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::Api;
use daruma_client::{Client, RateLimit};
use daruma_kubelet::{Kubelet, KubeletConfig};
use daruma_sim::containers::{Behaviour, SimRuntime};
use daruma_world::disk::WriteOptions;
use daruma_world::hardware::{Facts, Hardware, Load};
use daruma_world::{Task, Tasks, World};
use futures::future::{AbortHandle, BoxFuture, abortable};
use serde_json::json;

struct Machine {
    boot_id: &'static str,
    load: Arc<Mutex<Load>>,
}

impl Hardware for Machine {
    fn facts(&self) -> Facts {
        Facts {
            hostname: "w".into(),
            machine_id: "m".into(),
            system_uuid: "s".into(),
            boot_id: self.boot_id.into(),
            kernel_version: "6.1".into(),
            os_image: "daruma".into(),
            architecture: "amd64".into(),
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            addresses: vec!["10.88.0.20".parse().expect("an address")],
        }
    }
    fn load(&self) -> BoxFuture<'static, std::io::Result<Load>> {
        let load = *self.load.lock().expect("no panic");
        Box::pin(async move { Ok(load) })
    }
}

/// The tasks of one kubelet process, which end together.
struct Process {
    tasks: Arc<dyn Tasks>,
    handles: Mutex<Vec<AbortHandle>>,
}

impl Process {
    fn kill(&self) {
        for handle in self.handles.lock().expect("no panic").drain(..) {
            handle.abort();
        }
    }
}

impl Tasks for Process {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let (future, handle) = abortable(future);
        self.handles.lock().expect("no panic").push(handle.clone());
        self.tasks.spawn(
            name,
            Box::pin(async move {
                let _aborted = future.await;
            }),
        );
        Task::new(move || handle.abort())
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.tasks.blocking(work)
    }
}

struct Node {
    name: String,
    world: World,
    api: Api,
    runtime: SimRuntime,
    load: Arc<Mutex<Load>>,
}

/// A kubelet that runs.
struct Running {
    process: Arc<Process>,
    kubelet: Kubelet,
}

impl Running {
    fn kill(&self) {
        self.process.kill();
    }
}

impl Node {
    fn new(world: &World) -> Self {
        Self::named(world, &Api::default(), "w", 1)
    }

    /// One of several: `number` makes its pods' addresses.
    fn named(world: &World, api: &Api, name: &str, number: u8) -> Self {
        Self {
            name: name.into(),
            world: world.clone(),
            api: api.clone(),
            runtime: SimRuntime::new(world, 244, number),
            load: Arc::default(),
        }
    }

    /// Starts a kubelet.
    fn start(&self, boot_id: &'static str) -> Running {
        self.start_with(boot_id, |_| ())
    }

    fn start_with(&self, boot_id: &'static str, change: impl FnOnce(&mut KubeletConfig)) -> Running {
        let process = Arc::new(Process { tasks: self.world.tasks.clone(), handles: Mutex::default() });
        let world = World { tasks: process.clone(), ..self.world.clone() };
        let client = Client::new(&world, Arc::new(self.api.clone()), "kubelet", RateLimit::NONE);
        let mut config = KubeletConfig::new(&self.name);
        config.static_pod_path = Some("/etc/kubernetes/manifests".into());
        change(&mut config);
        let machine = Arc::new(Machine { boot_id, load: self.load.clone() });
        let kubelet = Kubelet::new(world.clone(), client, Arc::new(self.runtime.clone()), machine, config);
        let running = kubelet.clone();
        world.spawn("kubelet", async move { running.run().await });
        Running { process, kubelet }
    }

    async fn sleep(&self, millis: u64) {
        self.world.sleep(Duration::from_millis(millis)).await;
    }

    fn pod(&self, spec: serde_json::Value) {
        self.pod_named("p", spec);
    }

    /// Binds a pod; its UID is `u` with `p`, else its name.
    fn pod_named(&self, name: &str, mut spec: serde_json::Value) {
        spec["nodeName"] = self.name.clone().into();
        let uid = if name == "p" { "u" } else { name };
        self.api.put("pods", json!({"metadata": {"name": name, "namespace": "default", "uid": uid}, "spec": spec}));
    }

    /// Phase, reason and message of a pod.
    fn end_of(&self, name: &str) -> (String, String, String) {
        let pod = self.api.get("pods", &format!("default/{name}")).unwrap_or_default();
        let text = |field: &str| pod["status"][field].as_str().unwrap_or_default().to_owned();
        (text("phase"), text("reason"), text("message"))
    }

    /// Status and reason of a condition of an object: `True/Reason`.
    fn condition(&self, resource: &str, key: &str, kind: &str) -> String {
        let object = self.api.get(resource, key).unwrap_or_default();
        let list = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = list.iter().find(|condition| condition["type"] == kind);
        let text = |field: &str| found.and_then(|condition| condition[field].as_str()).unwrap_or("-").to_owned();
        format!("{}/{}", text("status"), text("reason"))
    }
}

#[test]
fn a_pod_from_its_start_to_its_end() {
    daruma_sim::run(1, |world| async move {
        let node = Node::new(&world);
        node.start("b1");
        node.pod(json!({"containers": [{"name": "a", "image": "web"}]}));
        node.sleep(300).await;
        let history = node.api.history();
        assert_eq!(history.last().map(String::as_str), Some("1/1 running 0 10.244.1.2 Running"), "{history:?}");
        let seen = node.api.get("nodes", "w").expect("registered");
        assert_eq!(
            seen["status"]["conditions"].as_array().and_then(|list| list.last()).map(|ready| ready["status"].clone()),
            Some("True".into())
        );
        assert!(node.api.get("leases", "kube-node-lease/w").is_some());

        node.runtime.exit("a", 1);
        node.sleep(300).await;
        assert_eq!(
            node.api.history().last().map(String::as_str),
            Some("1/1 running 1 10.244.1.2 Running"),
            "the first restart comes at once"
        );
        node.runtime.exit("a", 1);
        node.sleep(300).await;
        assert_eq!(node.api.history().last().map(String::as_str), Some("0/1 CrashLoopBackOff 1 10.244.1.2 Running"));
        node.sleep(10_000).await;
        assert_eq!(node.api.history().last().map(String::as_str), Some("1/1 running 2 10.244.1.2 Running"));

        node.api.delete_gracefully("default/p", 30);
        node.sleep(300).await;
        assert!(node.api.get("pods", "default/p").is_none(), "the object goes once everything has ended");
        let reasons = node.api.reasons();
        for reason in ["Starting", "NodeReady", "Pulling", "Pulled", "Created", "Started", "BackOff", "Killing"] {
            assert!(reasons.iter().any(|known| known == reason), "{reason} in {reasons:?}");
        }
    });
}

#[test]
fn a_reset_of_the_machine() {
    daruma_sim::run(2, |world| async move {
        let node = Node::new(&world);
        let first = node.start("b1");
        node.pod(json!({"containers": [{"name": "a", "image": "web"}]}));
        node.sleep(1000).await;
        first.kill();
        node.runtime.reset();
        node.start("b2");
        node.sleep(1000).await;
        let history = node.api.history();
        let error = history.iter().position(|line| line == "0/1 Error 0 <none> Running");
        assert!(error.is_some(), "{history:?}");
        assert_eq!(history.last().map(String::as_str), Some("1/1 running 1 10.244.1.3 Running"), "{history:?}");
        let reasons = node.api.reasons();
        assert!(reasons.iter().any(|reason| reason == "Rebooted"), "{reasons:?}");
        assert!(reasons.iter().any(|reason| reason == "SandboxChanged"), "{reasons:?}");
    });
}

#[test]
fn an_image_that_does_not_exist() {
    daruma_sim::run(3, |world| async move {
        let node = Node::new(&world);
        node.runtime.behave("nothing", Behaviour { pull_fails: Some("not found".into()), ..Behaviour::default() });
        node.start("b1");
        node.pod(json!({"containers": [{"name": "a", "image": "nothing"}]}));
        node.sleep(500).await;
        assert_eq!(node.api.history().last().map(String::as_str), Some("0/1 ErrImagePull 0 10.244.1.2 Pending"));
        node.sleep(4000).await;
        assert_eq!(node.api.history().last().map(String::as_str), Some("0/1 ImagePullBackOff 0 10.244.1.2 Pending"));
        node.runtime.behave("nothing", Behaviour::default());
        node.sleep(10_000).await;
        assert_eq!(node.api.history().last().map(String::as_str), Some("1/1 running 0 10.244.1.2 Running"));
    });
}

#[test]
fn static_pods_need_no_api() {
    daruma_sim::run(4, |world| async move {
        let node = Node::new(&world);
        node.api.set_down(true);
        let text =
            b"{metadata: {name: s, namespace: kube-system}, spec: {hostNetwork: true, containers: [{name: a, image: web}]}}";
        let directory = std::path::Path::new("/etc/kubernetes/manifests");
        world.disk.create_dir_all(directory, 0o755).await.expect("made");
        let file = directory.join("s.yaml");
        world.disk.write(&file, text.to_vec(), WriteOptions::default()).await.expect("written");
        node.start("b1");
        node.sleep(150).await;
        use daruma_world::containers::ContainerRuntime as _;
        let containers = node.runtime.list_containers().await.expect("listed");
        assert_eq!(containers.len(), 1, "it runs without an API server");
        node.api.set_down(false);
        node.sleep(5000).await;
        let mirror = node.api.get("pods", "kube-system/s-w").expect("a mirror pod");
        assert_eq!(mirror["status"]["phase"], "Running");
        assert_eq!(mirror["status"]["podIP"], "10.88.0.20");
        assert_eq!(mirror["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
        // A mirror pod that somebody deletes comes again.
        node.api.remove("pods", "kube-system/s-w");
        node.sleep(2000).await;
        assert!(node.api.get("pods", "kube-system/s-w").is_some());
        // The manifest goes, so does all of it.
        world.disk.remove_file(&file).await.expect("removed");
        node.sleep(3000).await;
        assert!(node.api.get("pods", "kube-system/s-w").is_none());
        assert!(node.runtime.list_sandboxes().await.expect("listed").is_empty());
    });
}

#[test]
fn probes_and_a_forced_deletion() {
    daruma_sim::run(5, |world| async move {
        let node = Node::new(&world);
        node.runtime.behave("web", Behaviour { ignores_stop: true, ..Behaviour::default() });
        node.start("b1");
        node.runtime.fail_exec("a", true);
        let probe = json!({"exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": 1});
        node.pod(json!({"containers": [{"name": "a", "image": "web", "readinessProbe": probe}]}));
        node.sleep(1500).await;
        assert_eq!(node.api.history().last().map(String::as_str), Some("0/1 running 0 10.244.1.2 Running"));
        node.runtime.fail_exec("a", false);
        node.sleep(1500).await;
        assert_eq!(node.api.history().last().map(String::as_str), Some("1/1 running 0 10.244.1.2 Running"));
        node.api.remove("pods", "default/p");
        use daruma_world::containers::ContainerRuntime as _;
        node.sleep(1500).await;
        assert_eq!(node.runtime.list_sandboxes().await.expect("listed").len(), 1, "it has two seconds");
        node.sleep(1000).await;
        assert!(node.runtime.list_sandboxes().await.expect("listed").is_empty());
    });
}
