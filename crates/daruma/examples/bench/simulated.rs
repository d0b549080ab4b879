//! Bodies of pods, and nodes whose kubelets are played over the real API.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daruma_host::https::HttpsTransport;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::calls::{self, Lines};

/// A namespace with the service account that pods need.
pub async fn namespace(server: &ApiServer, name: &str) -> Result<(), String> {
    let transport = server.transport();
    calls::ensure(&transport, "/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
    let account = json!({"metadata": {"name": "default"}});
    calls::ensure(&transport, &format!("/api/v1/namespaces/{name}/serviceaccounts"), &account).await
}

/// A pod as a user writes it.
pub fn pod(name: &str, annotation: usize) -> Vec<u8> {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"containers": [{
            "name": "app", "image": "registry.example/app:v1", "ports": [{"containerPort": 8080}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        }]},
    });
    if annotation > 0 {
        pod["metadata"]["annotations"] = json!({"example.com/padding": "x".repeat(annotation)});
    }
    pod.to_string().into_bytes()
}

/// Creates `count` pods over `connections` connections; how long each took.
pub async fn create_pods(
    server: &ApiServer,
    namespace: &str,
    count: usize,
    connections: usize,
    annotation: usize,
) -> Result<Vec<Duration>, String> {
    let path: Arc<str> = format!("/api/v1/namespaces/{namespace}/pods").into();
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let (transport, path) = (server.transport(), path.clone());
        // Prepared before the clock starts for anyone.
        let bodies: Vec<Vec<u8>> =
            (connection..count).step_by(connections).map(|index| pod(&format!("pod-{index:05}"), annotation)).collect();
        // The handshake is not part of the rate.
        calls::call(&transport, Method::GET, "/readyz", b"").await?;
        tasks.push((transport, path, bodies));
    }
    let tasks: Vec<_> = tasks
        .into_iter()
        .map(|(transport, path, bodies)| {
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(bodies.len());
                for body in bodies {
                    let started = std::time::Instant::now();
                    let (status, answer) = calls::call(&transport, Method::POST, &path, &body).await?;
                    if status != StatusCode::CREATED {
                        return Err(format!("{status}: {}", String::from_utf8_lossy(&answer)));
                    }
                    times.push(started.elapsed());
                }
                Ok(times)
            })
        })
        .collect();
    let mut times = Vec::with_capacity(count);
    for task in tasks {
        times.extend(task.await.map_err(|error| error.to_string())??);
    }
    Ok(times)
}

/// Kubelets of `count` nodes: they register, heartbeat, and say Running of every pod that is bound to them.
pub struct Kubelets {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Kubelets {
    /// Registers the nodes and starts the heartbeats and one watch for all pods.
    pub async fn start(server: &ApiServer, count: usize) -> Result<Self, String> {
        let transport = server.transport();
        calls::ensure(&transport, "/api/v1/namespaces", &json!({"metadata": {"name": "kube-node-lease"}})).await?;
        for index in 0..count {
            let name = format!("node-{index:03}");
            calls::ensure(&transport, "/api/v1/nodes", &node(&name)).await?;
            let lease =
                json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": lease()});
            calls::ensure(&transport, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", &lease).await?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = vec![tokio::spawn(heartbeat(server.transport(), count, stop.clone()))];
        let (send, receive) = async_queue();
        tasks.push(tokio::spawn(watch_bound(server.transport(), send)));
        let receive = Arc::new(tokio::sync::Mutex::new(receive));
        for _ in 0..16 {
            tasks.push(tokio::spawn(set_running(server.transport(), receive.clone())));
        }
        Ok(Self { stop, tasks })
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in &self.tasks {
            task.abort();
        }
    }
}

type Bound = (String, String);

fn async_queue() -> (tokio::sync::mpsc::UnboundedSender<Bound>, tokio::sync::mpsc::UnboundedReceiver<Bound>) {
    tokio::sync::mpsc::unbounded_channel()
}

fn now() -> String {
    daruma_host::world::real().now().to_string()
}

fn lease() -> Value {
    json!({"holderIdentity": "bench", "leaseDurationSeconds": 40, "renewTime": format!("{:.6}", daruma_host::world::real().now())})
}

fn node(name: &str) -> Value {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Simulated", "message": "simulated", "lastHeartbeatTime": second(), "lastTransitionTime": second()});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {
            "capacity": {"cpu": "32", "memory": "64Gi", "pods": "110"},
            "allocatable": {"cpu": "32", "memory": "64Gi", "pods": "110"},
            "conditions": [condition("Ready", "True"), condition("MemoryPressure", "False"), condition("DiskPressure", "False"), condition("PIDPressure", "False")],
        },
    })
}

fn second() -> String {
    let now = now();
    now.split('.').next().map_or(now.clone(), |text| if text.ends_with('Z') { text.into() } else { format!("{text}Z") })
}

async fn heartbeat(transport: HttpsTransport, count: usize, stop: Arc<AtomicBool>) {
    let pause = Duration::from_millis(10_000 / count.max(1) as u64);
    for index in (0..count).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-{index:03}");
        let body = json!({"spec": lease()}).to_string();
        let _ = calls::call(&transport, Method::PATCH, &path, body.as_bytes()).await;
        tokio::time::sleep(pause).await;
    }
}

/// Tells of every pod once, when it is first seen with a node.
async fn watch_bound(transport: HttpsTransport, send: tokio::sync::mpsc::UnboundedSender<Bound>) {
    let mut told = std::collections::BTreeSet::new();
    loop {
        // Not assigned pods are not a kubelet's business.
        let Ok(mut lines) = Lines::open(&transport, "/api/v1/pods?watch=1&fieldSelector=spec.nodeName!%3D").await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while let Some(line) = lines.next().await {
            let Ok(event) = serde_json::from_slice::<Value>(&line) else { break };
            let metadata = &event["object"]["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
            let bound = (text("namespace"), text("name"));
            if event["type"] != "DELETED" && told.insert(bound.clone()) && send.send(bound).is_err() {
                return;
            }
        }
    }
}

async fn set_running(transport: HttpsTransport, bound: Arc<tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<Bound>>>) {
    loop {
        let next = bound.lock().await.recv().await;
        let Some((namespace, name)) = next else { return };
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": second()});
        let body = json!({"status": {
            "phase": "Running", "hostIP": "10.88.0.20", "podIP": "10.244.1.9", "podIPs": [{"ip": "10.244.1.9"}], "startTime": second(),
            "conditions": [condition("PodScheduled"), condition("Initialized"), condition("ContainersReady"), condition("Ready")],
            "containerStatuses": [{"name": "app", "ready": true, "started": true, "restartCount": 0, "image": "registry.example/app:v1", "imageID": "sha256:0", "state": {"running": {"startedAt": second()}}}],
        }});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        let _ = calls::call(&transport, Method::PATCH, &path, body.to_string().as_bytes()).await;
    }
}
