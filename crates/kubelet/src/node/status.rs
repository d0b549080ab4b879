//! The node's status as a document.
//!
//! Source: kubernetes pkg/kubelet/nodestatus/setters.go.
//!
//! Invariant: [`make`] is pure.

use std::collections::BTreeMap;

use daruma_api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use daruma_api::metav1::Time;
use daruma_api::quantity::Quantity;
use daruma_api::resources::ResourceList;
use daruma_api::{KUBERNETES_VERSION, RawQuantity};
use daruma_world::containers::Image;
use daruma_world::disk::Usage;
use daruma_world::hardware::Facts;
use jiff::Timestamp;

use crate::config::KubeletConfig;
use crate::eviction::threshold::Signal;
use crate::eviction::{Condition, Pressure};
use crate::shared::Shared;

/// Most images reported, and most names of one (kubernetes pkg/kubelet/apis/config/v1beta1/defaults.go).
const MOST_IMAGES: usize = 50;
const MOST_NAMES: usize = 5;

/// All that the status is made from.
pub struct Inputs<'a> {
    /// The machine.
    pub facts: &'a Facts,
    /// Settings.
    pub config: &'a KubeletConfig,
    /// Addresses.
    pub host_ips: &'a [std::net::IpAddr],
    /// `name://version` of the engine.
    pub runtime_version: &'a str,
    /// Space of the kubelet's file system.
    pub disk: Usage,
    /// Images here.
    pub images: &'a [Image],
    /// Why the node cannot take pods.
    pub problems: &'a [String],
    /// Pressure.
    pub pressure: &'a Pressure,
    /// Now.
    pub now: Timestamp,
}

/// Capacity of the node.
pub fn capacity(facts: &Facts, config: &KubeletConfig, disk: Usage) -> ResourceList {
    BTreeMap::from([
        ("cpu".to_owned(), whole_cpu(facts.cpu_millis)),
        ("memory".to_owned(), Quantity::bytes((facts.memory_bytes & !1023) as i64)),
        ("pods".to_owned(), Quantity::units(i64::from(config.max_pods))),
        ("ephemeral-storage".to_owned(), Quantity::bytes((disk.capacity_bytes & !1023) as i64)),
        ("hugepages-1Gi".to_owned(), Quantity::ZERO),
        ("hugepages-2Mi".to_owned(), Quantity::ZERO),
    ])
}

fn whole_cpu(millis: u64) -> Quantity {
    Quantity::millis(millis as i64)
}

/// What of the capacity pods may use: less the eviction thresholds.
pub fn allocatable_of(facts: &Facts, config: &KubeletConfig, disk: Usage) -> ResourceList {
    let mut list = capacity(facts, config, disk);
    let left = |all: Quantity, signal: Signal| {
        let reserve = config.reserved(signal, all.value());
        if all > reserve { all - reserve } else { Quantity::ZERO }
    };
    if let Some(memory) = list.get_mut("memory") {
        *memory = left(*memory, Signal::MemoryAvailable);
    }
    if let Some(storage) = list.get_mut("ephemeral-storage") {
        // Printed in plain bytes, as the real kubelet does after its subtraction.
        *storage = Quantity::units(left(*storage, Signal::NodefsAvailable).value());
    }
    list
}

/// What pods may use, with a disk of unknown size.
pub fn allocatable(shared: &Shared) -> ResourceList {
    let mut list = allocatable_of(&shared.facts, &shared.config, Usage::default());
    list.remove("ephemeral-storage");
    list
}

fn raw(list: ResourceList) -> BTreeMap<String, RawQuantity> {
    list.into_iter().map(|(name, quantity)| (name, quantity.to_raw())).collect()
}

/// Labels that every node carries.
pub fn labels(facts: &Facts, config: &KubeletConfig) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), config.node_name.to_lowercase()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), facts.architecture.clone()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), facts.architecture.clone()),
    ]);
    labels.extend(config.node_labels.clone());
    labels
}

/// Makes the status, given the one that the API has.
pub fn make(inputs: &Inputs<'_>, old: &NodeStatus) -> NodeStatus {
    let (facts, config) = (inputs.facts, inputs.config);
    let mut addresses: Vec<NodeAddress> =
        inputs.host_ips.iter().map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.to_string() }).collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: config.node_name.to_lowercase() });
    NodeStatus {
        addresses: Some(addresses),
        capacity: Some(raw(capacity(facts, config, inputs.disk))),
        allocatable: Some(raw(allocatable_of(facts, config, inputs.disk))),
        conditions: Some(conditions(inputs, old)),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.port) }) }),
        images: Some(images(inputs.images)),
        node_info: Some(NodeSystemInfo {
            architecture: facts.architecture.clone(),
            boot_id: facts.boot_id.clone(),
            container_runtime_version: inputs.runtime_version.to_owned(),
            kernel_version: facts.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBERNETES_VERSION.to_owned(),
            machine_id: facts.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: facts.os_image.clone(),
            system_uuid: facts.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        // What others write is kept.
        config: old.config.clone(),
        declared_features: old.declared_features.clone(),
        features: old.features.clone(),
        phase: old.phase.clone(),
        runtime_handlers: old.runtime_handlers.clone(),
        volumes_attached: old.volumes_attached.clone(),
        volumes_in_use: old.volumes_in_use.clone(),
    }
}

fn images(images: &[Image]) -> Vec<ContainerImage> {
    let mut list: Vec<&Image> = images.iter().collect();
    list.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    let names = |image: &Image| -> Vec<String> { image.digests.iter().chain(&image.tags).take(MOST_NAMES).cloned().collect() };
    list.into_iter()
        .take(MOST_IMAGES)
        .map(|image| ContainerImage { names: Some(names(image)), size_bytes: Some(image.size_bytes as i64) })
        .collect()
}

fn conditions(inputs: &Inputs<'_>, old: &NodeStatus) -> Vec<NodeCondition> {
    let known = old.conditions.as_deref().unwrap_or_default();
    let pressure = inputs.pressure;
    let of = |kind: &str, status: bool, reason: &str, message: String| {
        let status = if status { "True" } else { "False" };
        let before = known.iter().find(|condition| condition.type_ == kind).filter(|condition| condition.status == status);
        NodeCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_heartbeat_time: Some(Time(inputs.now)),
            last_transition_time: before.and_then(|before| before.last_transition_time.clone()).or(Some(Time(inputs.now))),
        }
    };
    let mut list: Vec<NodeCondition> = known
        .iter()
        .filter(|condition| !["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"].contains(&condition.type_.as_str()))
        .cloned()
        .collect();
    let (reason, message) = if pressure.has(Condition::Memory) {
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available")
    } else {
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available")
    };
    list.push(of("MemoryPressure", pressure.has(Condition::Memory), reason, message.into()));
    let (reason, message) = if pressure.has(Condition::Disk) {
        ("KubeletHasDiskPressure", "kubelet has disk pressure")
    } else {
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure")
    };
    list.push(of("DiskPressure", pressure.has(Condition::Disk), reason, message.into()));
    let (reason, message) = if pressure.has(Condition::Pid) {
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available")
    } else {
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available")
    };
    list.push(of("PIDPressure", pressure.has(Condition::Pid), reason, message.into()));
    list.push(match inputs.problems {
        [] => of("Ready", true, "KubeletReady", "kubelet is posting ready status".into()),
        [one] => of("Ready", false, "KubeletNotReady", one.clone()),
        many => of("Ready", false, "KubeletNotReady", format!("[{}]", many.join(", "))),
    });
    list
}

/// Events that a change of conditions calls for.
pub fn events(old: Option<&NodeStatus>, new: &NodeStatus) -> Vec<&'static str> {
    let status = |status: &NodeStatus, kind: &str| {
        status.conditions.iter().flatten().find(|condition| condition.type_ == kind).map(|condition| condition.status.clone())
    };
    let table = [
        ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
        ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
        ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ("Ready", "NodeReady", "NodeNotReady"),
    ];
    let mut events = Vec::new();
    for (kind, when_true, when_false) in table {
        let (before, now) = (old.and_then(|old| status(old, kind)), status(new, kind));
        // A new node that is not ready yet is no news.
        let quiet = kind == "Ready" && before.is_none() && now.as_deref() == Some("False");
        if before != now && !quiet {
            events.push(if now.as_deref() == Some("True") { when_true } else { when_false });
        }
    }
    events
}

/// Whether two statuses differ in more than heartbeat times. What the kubelet does not write is left out.
pub fn differs(old: &NodeStatus, new: &NodeStatus) -> bool {
    fn still(condition: &NodeCondition) -> impl PartialEq + '_ {
        let NodeCondition { last_heartbeat_time: _, last_transition_time, message, reason, status, type_ } = condition;
        (last_transition_time, message, reason, status, type_)
    }
    let (before, after) = (old.conditions.as_deref().unwrap_or_default(), new.conditions.as_deref().unwrap_or_default());
    // Others write conditions too, so the order may differ.
    let same = |after: &NodeCondition| before.iter().any(|before| still(before) == still(after));
    before.len() != after.len()
        || !after.iter().all(same)
        || (&old.addresses, &old.capacity, &old.allocatable) != (&new.addresses, &new.capacity, &new.allocatable)
        || (&old.daemon_endpoints, &old.node_info) != (&new.daemon_endpoints, &new.node_info)
        || old.images.as_deref().unwrap_or_default() != new.images.as_deref().unwrap_or_default()
}

/// The Node object to be made.
pub fn new_node(facts: &Facts, config: &KubeletConfig, status: NodeStatus) -> Node {
    Node {
        metadata: daruma_api::metav1::ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(facts, config)),
            ..Default::default()
        },
        spec: Some(daruma_api::core::v1::NodeSpec {
            taints: (!config.register_with_taints.is_empty()).then(|| config.register_with_taints.clone()),
            ..Default::default()
        }),
        status: Some(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn facts() -> Facts {
        Facts {
            hostname: "w".into(),
            machine_id: "m".into(),
            system_uuid: "s".into(),
            boot_id: "b".into(),
            kernel_version: "6.1".into(),
            os_image: "daruma".into(),
            architecture: "amd64".into(),
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            addresses: vec![],
        }
    }

    fn status(problems: &[String], pressure: &Pressure, old: &NodeStatus, second: i64) -> NodeStatus {
        let (facts, config) = (facts(), KubeletConfig::new("w"));
        make(
            &Inputs {
                facts: &facts,
                config: &config,
                host_ips: &["10.88.0.20".parse().expect("an address")],
                runtime_version: "daruma://0.1.0",
                disk: Usage { capacity_bytes: 4 << 30, ..Usage::default() },
                images: &[],
                problems,
                pressure,
                now: at(second),
            },
            old,
        )
    }

    #[test]
    fn from_not_ready_to_ready() {
        let calm = Pressure::default();
        let first = status(&["container runtime network not ready".into()], &calm, &NodeStatus::default(), 0);
        assert_eq!(events(None, &first), ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"]);
        let second = status(&[], &calm, &first, 10);
        assert_eq!(events(Some(&first), &second), ["NodeReady"]);
        assert!(differs(&first, &second));
        let third = status(&[], &calm, &second, 20);
        assert!(!differs(&second, &third), "only the heartbeat moved");
        let ready = third.conditions.as_ref().and_then(|list| list.last()).cloned().expect("conditions");
        assert_eq!(ready.last_transition_time, Some(Time(at(10))));
        let mut short = Pressure::default();
        short.conditions.insert(Condition::Memory);
        let pressed = status(&[], &short, &third, 30);
        assert_eq!(events(Some(&third), &pressed), ["NodeHasInsufficientMemory"]);
    }

    #[test]
    fn resources() {
        let status = status(&[], &Pressure::default(), &NodeStatus::default(), 0);
        let get = |list: &Option<BTreeMap<String, RawQuantity>>, name: &str| list.as_ref().expect("set")[name].0.clone();
        assert_eq!(get(&status.capacity, "cpu"), "2");
        assert_eq!(get(&status.capacity, "memory"), "1Gi");
        assert_eq!(get(&status.allocatable, "memory"), "924Mi");
        assert_eq!(get(&status.allocatable, "pods"), "110");
    }
}
