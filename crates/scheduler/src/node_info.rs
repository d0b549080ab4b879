//! A node with the pods on it, prepared for quick answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daruma_api::core::v1::{Container, Node, Pod, PodSpec};
use daruma_api::meta::ObjectExt;
use daruma_api::resources::parse_list;
use daruma_api::selector::Selector;

use crate::amounts::Amounts;

/// A port that a pod occupies on its node: protocol, address, number.
pub type HostPort = (String, String, i32);

/// A pod with what the scheduler asks of it again and again.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What it asks for.
    pub requests: Amounts,
    /// CPU (thousandths) and memory (bytes) that it counts as in scoring.
    pub scoring: (i64, i64),
    /// Ports that it occupies on its node.
    pub host_ports: Vec<HostPort>,
    /// Whether it has pod affinity or anti-affinity of its own.
    pub has_pod_affinity: bool,
    /// Namespace and labels.
    pub alike: Arc<Likeness>,
}

impl PodInfo {
    /// Prepares a pod.
    pub fn new(pod: Arc<Pod>) -> Self {
        let default = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&default);
        let affinity = spec.affinity.as_ref();
        let has_pod_affinity = affinity.is_some_and(|one| one.pod_affinity.is_some() || one.pod_anti_affinity.is_some());
        let (requests, scoring) = (Amounts::of_pod(spec), Amounts::of_pod_for_scoring(spec));
        let host_ports = host_ports(spec);
        let alike = Arc::new(Likeness::of(&pod));
        Self { pod, requests, scoring, host_ports, has_pod_affinity, alike }
    }

    /// The specification; an empty one where the pod has none.
    pub fn spec(&self) -> &PodSpec {
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.pod.spec.as_ref().unwrap_or(&EMPTY)
    }

    /// Priority; 0 where none is set.
    pub fn priority(&self) -> i32 {
        self.spec().priority.unwrap_or(0)
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let ports = |container: &Container| {
        let ports = container.ports.iter().flatten();
        let host = spec.host_network == Some(true);
        ports
            .filter_map(|port| {
                let number = port.host_port.filter(|number| *number > 0).or(host.then_some(port.container_port))?;
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
                let address = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
                Some((protocol, address, number))
            })
            .collect::<Vec<_>>()
    };
    spec.containers.iter().chain(sidecars).flat_map(ports).collect()
}

/// What pods of one template have in common: namespace and labels. The pods of a [`crate::cache::Cache`] share it.
#[derive(Debug, Default)]
pub struct Likeness {
    /// Their namespace.
    pub namespace: String,
    /// Their labels.
    pub labels: BTreeMap<String, String>,
    /// The last question and its answer.
    answered: AtomicU64,
}

impl Likeness {
    /// Of one pod.
    pub fn of(pod: &Pod) -> Self {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        Self { namespace: pod.namespace().to_owned(), labels, answered: AtomicU64::default() }
    }

    /// Whether pods like this are in the namespace and have labels that the question's selector takes; looked up once a question.
    pub fn answers(&self, question: &Question<'_>) -> bool {
        let known = self.answered.load(Ordering::Relaxed);
        if known >> 1 == question.number {
            return known & 1 == 1;
        }
        let answer = self.namespace == question.namespace && question.selector.matches(Some(&self.labels));
        self.answered.store(question.number << 1 | u64::from(answer), Ordering::Relaxed);
        answer
    }
}

/// Which pods are like this?
pub struct Question<'a> {
    number: u64,
    namespace: &'a str,
    selector: &'a Selector,
}

impl<'a> Question<'a> {
    /// Those of a namespace that a selector takes.
    pub fn new(namespace: &'a str, selector: &'a Selector) -> Self {
        // Tells questions apart, whoever asks them; no answer depends on it.
        static ASKED: AtomicU64 = AtomicU64::new(1);
        Self { number: ASKED.fetch_add(1, Ordering::Relaxed), namespace, selector }
    }
}

/// Pods that are alike, counted.
#[derive(Debug, Clone)]
pub struct LabelGroup {
    /// What they have in common.
    pub alike: Arc<Likeness>,
    /// How many there are that are not being deleted.
    pub count: i64,
}

/// A node with the pods on it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// The node; `None` while only its pods are known.
    pub node: Option<Arc<Node>>,
    /// What it has to give.
    pub allocatable: Amounts,
    /// The pods by key.
    pub pods: BTreeMap<String, Arc<PodInfo>>,
    /// Those of them with pod affinity or anti-affinity.
    pub pods_with_affinity: BTreeMap<String, Arc<PodInfo>>,
    /// What they ask for together.
    pub requested: Amounts,
    /// What they count as in scoring: CPU (thousandths) and memory (bytes).
    pub scoring: (i64, i64),
    /// Ports in use.
    pub used_ports: BTreeSet<HostPort>,
    /// The pods by namespace and labels: pods of one template are looked at once.
    pub label_groups: Vec<LabelGroup>,
    /// Images on the node with their sizes in bytes.
    pub images: BTreeMap<String, i64>,
}

impl NodeInfo {
    /// Takes over a new state of the node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        self.allocatable = Amounts::from_list(&parse_list(status.and_then(|status| status.allocatable.as_ref())));
        self.images = status
            .and_then(|status| status.images.as_ref())
            .into_iter()
            .flatten()
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.iter().flatten().map(move |name| (name.clone(), size))
            })
            .collect();
        self.node = Some(node);
    }

    /// The node's name; empty while only its pods are known.
    pub fn name(&self) -> &str {
        self.node.as_deref().map_or("", ObjectExt::name)
    }

    /// The value of one of the node's labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.as_deref()?.label(key)
    }

    /// How many pods of this kind are here and not being deleted.
    pub fn count_of(&self, kind: &Arc<Likeness>) -> i64 {
        self.label_groups.iter().find(|group| Arc::ptr_eq(&group.alike, kind)).map_or(0, |group| group.count)
    }

    /// Adds a pod, replacing an earlier state of it.
    pub fn add_pod(&mut self, info: Arc<PodInfo>) {
        let key = info.pod.key();
        self.remove_pod(&key);
        self.requested.add(&info.requests, 1);
        self.scoring.0 += info.scoring.0;
        self.scoring.1 += info.scoring.1;
        self.used_ports.extend(info.host_ports.iter().cloned());
        self.count(&info, 1);
        if info.has_pod_affinity {
            self.pods_with_affinity.insert(key.clone(), info.clone());
        }
        self.pods.insert(key, info);
    }

    /// Removes a pod; one that is not here is fine.
    pub fn remove_pod(&mut self, key: &str) {
        let Some(info) = self.pods.remove(key) else { return };
        self.pods_with_affinity.remove(key);
        self.requested.add(&info.requests, -1);
        self.scoring.0 -= info.scoring.0;
        self.scoring.1 -= info.scoring.1;
        for port in &info.host_ports {
            self.used_ports.remove(port);
        }
        self.count(&info, -1);
    }

    fn count(&mut self, info: &PodInfo, change: i64) {
        if info.pod.is_being_deleted() {
            return;
        }
        let same = |group: &LabelGroup| Arc::ptr_eq(&group.alike, &info.alike);
        if let Some(index) = self.label_groups.iter().position(same) {
            self.label_groups[index].count += change;
            if self.label_groups[index].count == 0 {
                self.label_groups.swap_remove(index);
            }
        } else if change > 0 {
            self.label_groups.push(LabelGroup { alike: info.alike.clone(), count: change });
        }
    }
}
