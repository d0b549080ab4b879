//! Amounts of resources as whole numbers.

use std::collections::BTreeMap;

use daruma_api::core::v1::PodSpec;
use daruma_api::resources::{ResourceList, pod_requests};

/// What a container without a request counts as in scoring: 100 millicores.
const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container without a request counts as in scoring: 200 MB.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// CPU in thousandths of a core, the rest in bytes or pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// CPU in thousandths of a core.
    pub milli_cpu: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Local disk in bytes.
    pub ephemeral_storage: i64,
    /// Number of pods (of a node only).
    pub pods: i64,
    /// Huge pages and extended resources.
    pub scalars: BTreeMap<String, i64>,
}

impl Amounts {
    /// From quantities by resource name.
    pub fn from_list(list: &ResourceList) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => amounts.milli_cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.value(),
                "pods" => amounts.pods = quantity.value(),
                other => {
                    amounts.scalars.insert(other.to_owned(), quantity.value());
                }
            }
        }
        amounts
    }

    /// What a pod asks for.
    pub fn of_pod(spec: &PodSpec) -> Self {
        Self::from_list(&pod_requests(spec))
    }

    /// What a pod counts as in scoring: containers without a request get a small one
    /// (pkg/scheduler/util/pod_resources.go).
    pub fn of_pod_for_scoring(spec: &PodSpec) -> (i64, i64) {
        let mut assumed = spec.clone();
        for container in assumed.containers.iter_mut().chain(assumed.init_containers.iter_mut().flatten()) {
            let requests = container.resources.get_or_insert_default().requests.get_or_insert_default();
            requests.entry("cpu".into()).or_insert_with(|| quantity(DEFAULT_MILLI_CPU, "m"));
            requests.entry("memory".into()).or_insert_with(|| quantity(DEFAULT_MEMORY, ""));
        }
        let amounts = Self::of_pod(&assumed);
        (amounts.milli_cpu, amounts.memory)
    }

    /// Adds `other` `times` (1 or -1) times.
    pub fn add(&mut self, other: &Self, times: i64) {
        self.milli_cpu += other.milli_cpu * times;
        self.memory += other.memory * times;
        self.ephemeral_storage += other.ephemeral_storage * times;
        for (name, amount) in &other.scalars {
            *self.scalars.entry(name.clone()).or_default() += amount * times;
        }
    }
}

fn quantity(value: i64, suffix: &str) -> daruma_api::RawQuantity {
    daruma_api::RawQuantity(format!("{value}{suffix}"))
}
