//! What node, pods and containers use: samples, and the rates between them.
//!
//! Source: kubernetes pkg/kubelet/server/stats, staging/src/k8s.io/kubelet/pkg/apis/stats/v1alpha1/types.go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_world::containers::{Container, ContainerStats, Sandbox, SandboxStats};
use daruma_world::disk::Usage as DiskUsage;
use daruma_world::hardware::Load;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::backoff::between;
use crate::shared::Shared;

/// Samples further apart than this give no rate: then two are taken, this much apart.
const STALE: Duration = Duration::from_secs(60);
const APART: Duration = Duration::from_millis(200);

/// The newest samples and the rates since those before.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    counters: BTreeMap<String, (Timestamp, u64)>,
    rates: BTreeMap<String, u64>,
    /// When the last sample was taken.
    sampled_at: Option<Timestamp>,
}

impl Usage {
    /// Takes a counter of CPU nanoseconds; the rate is kept where time passed since the one before.
    pub fn observe(&mut self, key: &str, at: Timestamp, cpu_ns: u64) {
        if let Some((before, count)) = self.counters.get(key) {
            let passed = between(*before, at);
            if passed.is_zero() {
                return;
            }
            let used = cpu_ns.saturating_sub(*count);
            self.rates.insert(key.to_owned(), (used as f64 / passed.as_secs_f64()) as u64);
        }
        self.counters.insert(key.to_owned(), (at, cpu_ns));
    }

    /// Billionths of a core in use.
    pub fn nano_cores(&self, key: &str) -> Option<u64> {
        self.rates.get(key).copied()
    }

    /// Forgets all but these.
    pub fn keep(&mut self, keys: &std::collections::BTreeSet<String>) {
        self.counters.retain(|key, _| keys.contains(key));
        self.rates.retain(|key, _| keys.contains(key));
    }
}

/// Key of the node itself.
const NODE: &str = "";

/// Takes a sample of everything that runs. Nothing is sampled while nobody asks.
async fn sample(shared: &Shared) {
    let recent = {
        let usage = shared.usage.lock().expect("no panic while held");
        usage.sampled_at.is_some_and(|at| between(at, shared.now()) < STALE)
    };
    if !recent {
        observe(shared).await;
        shared.world.sleep(APART).await;
    }
    observe(shared).await;
}

async fn observe(shared: &Shared) {
    let stats = shared.runtime.stats().await.unwrap_or_default();
    let load = shared.hardware.load().await.ok();
    let now = shared.now();
    let mut usage = shared.usage.lock().expect("no panic while held");
    usage.sampled_at = Some(now);
    let mut keys = std::collections::BTreeSet::from([NODE.to_owned()]);
    if let Some(load) = load {
        usage.observe(NODE, now, load.cpu_ns);
    }
    for one in stats.iter().flat_map(|sandbox| &sandbox.containers) {
        usage.observe(&one.container_id, one.at, one.cpu_ns);
        keys.insert(one.container_id.clone());
    }
    usage.keep(&keys);
}

/// One pod that runs, with what it uses.
pub struct PodUsage {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its sandbox.
    pub sandbox: Sandbox,
    /// What the sandbox uses.
    pub stats: SandboxStats,
    /// Its running containers with what each uses.
    pub containers: Vec<(Container, ContainerStats)>,
}

/// Everything at once.
pub struct Snapshot {
    /// When.
    pub at: Timestamp,
    /// The node.
    pub load: Load,
    /// Its file system.
    pub disk: DiskUsage,
    /// Its pods.
    pub pods: Vec<PodUsage>,
    /// Rates.
    pub usage: Usage,
}

/// Measures now; rates are those of the last [`sample`].
pub async fn snapshot(shared: &Shared) -> Snapshot {
    let stats = shared.runtime.stats().await.unwrap_or_default();
    let sandboxes = shared.runtime.list_sandboxes().await.unwrap_or_default();
    let containers = shared.runtime.list_containers().await.unwrap_or_default();
    let load = shared.hardware.load().await.unwrap_or_default();
    let disk = shared.space().await;
    let mut pods = Vec::new();
    for one in stats {
        let Some(sandbox) = sandboxes.iter().find(|sandbox| sandbox.id == one.sandbox_id) else { continue };
        let Some(cell) = shared.pods.get(&sandbox.config.uid) else { continue };
        let own = one.containers.iter().filter_map(|used| {
            let container = containers.iter().find(|container| container.id == used.container_id)?;
            crate::view::is_running(container).then(|| (container.clone(), used.clone()))
        });
        let mut own: Vec<_> = own.collect();
        own.sort_by(|a, b| a.0.config.name.cmp(&b.0.config.name));
        pods.push(PodUsage { pod: cell.pod(), sandbox: sandbox.clone(), containers: own, stats: one });
    }
    pods.sort_by_key(|pod| pod.pod.key());
    let usage = shared.usage.lock().expect("no panic while held").clone();
    Snapshot { at: shared.now(), load, disk, pods, usage }
}

/// The time as the API writes it.
fn time(at: Timestamp) -> String {
    crate::status::to_seconds(at).to_string()
}

fn cpu(at: Timestamp, nano_cores: Option<u64>, total: u64) -> Value {
    match nano_cores {
        Some(rate) => json!({"time": time(at), "usageNanoCores": rate, "usageCoreNanoSeconds": total}),
        None => json!({"time": time(at), "usageCoreNanoSeconds": total}),
    }
}

fn network(at: Timestamp, rx: u64, tx: u64) -> Value {
    let interface = json!({"name": "eth0", "rxBytes": rx, "rxErrors": 0, "txBytes": tx, "txErrors": 0});
    json!({"time": time(at), "name": "eth0", "rxBytes": rx, "rxErrors": 0, "txBytes": tx, "txErrors": 0, "interfaces": [interface]})
}

fn file_system(at: Timestamp, disk: DiskUsage, used: u64, inodes_used: u64) -> Value {
    json!({
        "time": time(at), "availableBytes": disk.available_bytes, "capacityBytes": disk.capacity_bytes, "usedBytes": used,
        "inodesFree": disk.inodes_free, "inodes": disk.inodes, "inodesUsed": inodes_used,
    })
}

/// The document of `/stats/summary`.
pub async fn summary(shared: &Shared) -> Value {
    sample(shared).await;
    let snapshot = snapshot(shared).await;
    let (load, disk, at) = (snapshot.load, snapshot.disk, snapshot.at);
    let used = disk.capacity_bytes.saturating_sub(disk.available_bytes);
    let inodes_used = disk.inodes.saturating_sub(disk.inodes_free);
    let node = json!({
        "nodeName": shared.config.node_name,
        "startTime": time(shared.started_at),
        "cpu": cpu(at, snapshot.usage.nano_cores(NODE), load.cpu_ns),
        "memory": {
            "time": time(at), "availableBytes": shared.facts.memory_bytes.saturating_sub(load.memory_working_set_bytes),
            "usageBytes": load.memory_usage_bytes, "workingSetBytes": load.memory_working_set_bytes, "rssBytes": load.memory_rss_bytes,
            "pageFaults": load.page_faults, "majorPageFaults": load.major_page_faults,
        },
        "network": network(at, load.network_rx_bytes, load.network_tx_bytes),
        "fs": file_system(at, disk, used, inodes_used),
        "runtime": {"imageFs": file_system(at, disk, used, inodes_used), "containerFs": file_system(at, disk, used, inodes_used)},
        "rlimit": {"time": time(at), "maxpid": load.tasks_max, "curproc": load.tasks},
    });
    let mut pods = Vec::new();
    for pod in &snapshot.pods {
        pods.push(pod_summary(shared, &snapshot, pod).await);
    }
    json!({"node": node, "pods": pods})
}

async fn pod_summary(shared: &Shared, snapshot: &Snapshot, pod: &PodUsage) -> Value {
    let at = snapshot.at;
    let disk = snapshot.disk;
    let (mut total, mut rate, mut known) = (0, 0, false);
    let (mut usage, mut working, mut rss, mut faults, mut major) = (0, 0, 0, 0, 0);
    let mut containers = Vec::new();
    for (container, used) in &pod.containers {
        let own = snapshot.usage.nano_cores(&used.container_id);
        total += used.cpu_ns;
        rate += own.unwrap_or_default();
        known |= own.is_some();
        usage += used.memory_usage_bytes;
        working += used.memory_working_set_bytes;
        rss += used.memory_rss_bytes;
        faults += used.page_faults;
        major += used.major_page_faults;
        let log_bytes = shared.world.disk.metadata(&container.log_path).await.map(|facts| facts.len).unwrap_or_default();
        let mut memory = json!({
            "time": time(used.at), "usageBytes": used.memory_usage_bytes, "workingSetBytes": used.memory_working_set_bytes,
            "rssBytes": used.memory_rss_bytes, "pageFaults": used.page_faults, "majorPageFaults": used.major_page_faults,
        });
        if let Some(limit) = container.config.resources.memory_limit_bytes {
            memory["availableBytes"] = limit.saturating_sub(used.memory_working_set_bytes).into();
        }
        containers.push(json!({
            "name": container.config.name,
            "startTime": time(started_at(container)),
            "cpu": cpu(used.at, own, used.cpu_ns),
            "memory": memory,
            "rootfs": file_system(used.at, disk, used.root_fs_used_bytes, used.root_fs_inodes_used),
            "logs": file_system(used.at, disk, log_bytes, 1),
        }));
    }
    let mut volumes = Vec::new();
    let directory = shared.config.pod_dir(pod.pod.uid()).join("volumes");
    let mut ephemeral = 0;
    for volume in pod.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let kind = if volume.empty_dir.is_some() {
            "kubernetes.io~empty-dir"
        } else if volume.projected.is_some() {
            "kubernetes.io~projected"
        } else {
            continue;
        };
        let (bytes, inodes) = shared.world.disk.tree_usage(&directory.join(kind).join(&volume.name)).await.unwrap_or_default();
        ephemeral += bytes;
        let mut value = file_system(at, disk, bytes, inodes);
        value["name"] = volume.name.clone().into();
        volumes.push(value);
    }
    ephemeral += pod.containers.iter().map(|(_, used)| used.root_fs_used_bytes).sum::<u64>();
    json!({
        "podRef": {"name": pod.pod.name(), "namespace": pod.pod.namespace(), "uid": pod.pod.uid()},
        "startTime": time(pod.sandbox.created_at),
        "containers": containers,
        "cpu": cpu(at, known.then_some(rate), total),
        "memory": {"time": time(at), "usageBytes": usage, "workingSetBytes": working, "rssBytes": rss, "pageFaults": faults, "majorPageFaults": major},
        "network": network(at, pod.stats.network_rx_bytes, pod.stats.network_tx_bytes),
        "volume": volumes,
        "ephemeral-storage": file_system(at, disk, ephemeral, 0),
        "process_stats": {"process_count": pod.stats.tasks},
    })
}

fn started_at(container: &Container) -> Timestamp {
    match container.state {
        daruma_world::containers::ContainerState::Running { started_at } => started_at,
        _ => container.created_at,
    }
}

/// The text of `/metrics/resource` (kubernetes pkg/kubelet/metrics/collectors/resource_metrics.go).
pub async fn resource_metrics(shared: &Shared) -> String {
    let snapshot = snapshot(shared).await;
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, f64, Timestamp)>| {
        let _ = writeln!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for (labels, value, at) in samples {
            let _ = writeln!(text, "{name}{labels} {value} {}", at.as_millisecond());
        }
    };
    let of_containers = |value: &dyn Fn(&Container, &ContainerStats) -> f64| -> Vec<(String, f64, Timestamp)> {
        let each = snapshot.pods.iter().flat_map(|pod| pod.containers.iter().map(move |one| (pod, one)));
        each.map(|(pod, (container, used))| {
            let labels = format!(
                "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
                container.config.name,
                pod.pod.namespace(),
                pod.pod.name()
            );
            (labels, value(container, used), used.at)
        })
        .collect()
    };
    let of_pods = |value: &dyn Fn(&PodUsage) -> f64| -> Vec<(String, f64, Timestamp)> {
        let labels = |pod: &PodUsage| format!("{{namespace=\"{}\",pod=\"{}\"}}", pod.pod.namespace(), pod.pod.name());
        snapshot.pods.iter().map(|pod| (labels(pod), value(pod), snapshot.at)).collect()
    };
    let seconds = |ns: u64| ns as f64 / 1e9;
    let help = "Cumulative cpu time consumed by the container in core-seconds";
    family("container_cpu_usage_seconds_total", "counter", help, of_containers(&|_, used| seconds(used.cpu_ns)));
    let help = "Current working set of the container in bytes";
    family("container_memory_working_set_bytes", "gauge", help, of_containers(&|_, used| used.memory_working_set_bytes as f64));
    let help = "Start time of the container since unix epoch in seconds";
    let start = |container: &Container, _: &ContainerStats| started_at(container).as_millisecond() as f64 / 1e3;
    family("container_start_time_seconds", "gauge", help, of_containers(&start));
    let help = "Cumulative cpu time consumed by the node in core-seconds";
    family("node_cpu_usage_seconds_total", "counter", help, vec![(String::new(), seconds(snapshot.load.cpu_ns), snapshot.at)]);
    let help = "Current working set of the node in bytes";
    let node = snapshot.load.memory_working_set_bytes as f64;
    family("node_memory_working_set_bytes", "gauge", help, vec![(String::new(), node, snapshot.at)]);
    let help = "Cumulative cpu time consumed by the pod in core-seconds";
    let pod_cpu = |pod: &PodUsage| seconds(pod.containers.iter().map(|(_, used)| used.cpu_ns).sum());
    family("pod_cpu_usage_seconds_total", "counter", help, of_pods(&pod_cpu));
    let help = "Current working set of the pod in bytes";
    let pod_memory = |pod: &PodUsage| pod.containers.iter().map(|(_, used)| used.memory_working_set_bytes).sum::<u64>() as f64;
    family("pod_memory_working_set_bytes", "gauge", help, of_pods(&pod_memory));
    text.push_str("# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise\n");
    text.push_str("# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn rates() {
        let mut usage = Usage::default();
        usage.observe("a", at(0), 0);
        assert_eq!(usage.nano_cores("a"), None);
        usage.observe("a", at(10), 5_000_000_000);
        assert_eq!(usage.nano_cores("a"), Some(500_000_000));
        usage.observe("a", at(10), 9_000_000_000);
        assert_eq!(usage.nano_cores("a"), Some(500_000_000), "no time passed");
        usage.keep(&std::collections::BTreeSet::new());
        assert_eq!(usage.nano_cores("a"), None);
    }
}
