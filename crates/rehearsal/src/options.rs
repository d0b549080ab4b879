//! What a virtual cluster is asked to be.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use daruma_cluster::boot::{self, SettingError};
use daruma_cluster::shape::{Machine, Role, Shape};
use daruma_cluster::simulated;
use daruma_sim::behaviour::Behaviours;

use crate::interposer::Interposer;

/// The node network, as the first cluster of a host gets it.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 0);

/// The flags of `daruma up`, and what only a virtual cluster can be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The same seed gives the same run.
    pub seed: u64,
    /// Machines that run the control plane.
    pub controllers: u16,
    /// Machines that run applications.
    pub workers: u16,
    /// Further workers with the names, the label and the taint of a real cluster's simulated nodes. They run no network agents.
    pub simulated: u16,
    /// CPUs of each machine, in thousandths.
    pub cpu_millis: u64,
    /// Memory of each machine in bytes.
    pub memory_bytes: u64,
    /// Disk of each machine in bytes.
    pub disk_bytes: u64,
    /// How long a machine takes from power-on to a running system.
    pub boot_time: Duration,
    /// A node without a heartbeat for so long is NotReady; a Go duration.
    pub node_monitor_grace_period: String,
    /// How long pods tolerate a node that is not ready or unreachable, in seconds.
    pub default_toleration_seconds: u64,
    /// Flags of components: component, flag, value.
    pub settings: Vec<(String, String, String)>,
    /// How containers of images behave where no program stands for them.
    pub behaviours: Behaviours,
    /// Whether workers run the pod network agent and kube-proxy. Without them a worker runs only its kubelet, and pods
    /// get addresses of the node's range from the simulated engine itself: for thousands of nodes.
    pub node_agents: bool,
    /// Whether workers are without power until [`crate::VirtualCluster::power_on_workers`], so that something can be there before them.
    pub workers_wait: bool,
    /// Whether the standing invariants are checked.
    pub invariants: bool,
    /// Whether all that happens is logged: some hundred bytes a write.
    pub keeps_log: bool,
    /// Breaks what components rely on, where a test wants that.
    pub interposer: Option<Arc<dyn Interposer>>,
}

impl Default for Options {
    /// As `daruma up` without flags, on a host with two CPUs.
    fn default() -> Self {
        Self {
            seed: 1,
            controllers: 1,
            workers: 2,
            simulated: 0,
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            disk_bytes: 4 << 30,
            boot_time: Duration::from_secs(5),
            node_monitor_grace_period: "50s".into(),
            default_toleration_seconds: 300,
            settings: Vec::new(),
            behaviours: Behaviours::built_in(),
            node_agents: true,
            workers_wait: false,
            invariants: true,
            keeps_log: true,
            interposer: None,
        }
    }
}

/// Why a cluster cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A flag that does not exist, or a value that it does not take.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A shape that is not supported.
    #[error("{0}")]
    Shape(String),
}

impl Options {
    /// The cluster's shape: the same names and addresses as `daruma up` gives.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn shape(&self) -> Result<Shape, OptionsError> {
        if self.controllers != 1 {
            return Err(OptionsError::Shape("clusters with several controllers are not supported yet".into()));
        }
        for (component, flag, value) in &self.settings {
            boot::check_setting(component, flag, value)?;
        }
        let machine = |role, name: &str, first: u32, index: u16| Machine {
            name: format!("{name}-{index}"),
            role,
            address: Ipv4Addr::from_bits(NETWORK.to_bits() + first + u32::from(index)),
        };
        let after = 20 + u32::from(self.workers);
        let theirs = |index: u16| Machine { name: simulated::name(index.into()), ..machine(Role::Worker, "", after, index) };
        let controllers = (0..self.controllers).map(|index| machine(Role::Controller, "controller", 10, index));
        let workers = (0..self.workers).map(|index| machine(Role::Worker, "worker", 20, index));
        let mut settings: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut set = |component: &str, flag: &str, value: &str| {
            settings.entry(component.to_owned()).or_default().insert(flag.to_owned(), value.to_owned());
        };
        for (component, flag, value) in &self.settings {
            set(component, flag, value);
        }
        let machines: Vec<Machine> = controllers.chain(workers).chain((0..self.simulated).map(theirs)).collect();
        simulated::make_room(&mut settings, machines.len());
        Ok(Shape {
            name: "daruma".into(),
            network: NETWORK,
            machines,
            simulated: 0,
            simulated_gone: Default::default(),
            cpu_millis: self.cpu_millis,
            memory_bytes: self.memory_bytes,
            disk_bytes: self.disk_bytes,
            boot_time_ms: u64::try_from(self.boot_time.as_millis()).unwrap_or(u64::MAX),
            node_monitor_grace_period: self.node_monitor_grace_period.clone(),
            default_toleration_seconds: self.default_toleration_seconds,
            settings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let shape = Options::default().shape().expect("a shape");
        let names: Vec<&str> = shape.machines.iter().map(|machine| machine.name.as_str()).collect();
        assert_eq!(names, ["controller-0", "worker-0", "worker-1"]);
        assert_eq!(shape.machines, Shape::place(NETWORK, 1, 2));
        assert!(shape.settings.is_empty());
        let many = Options { workers: 5000, ..Options::default() }.shape().expect("a shape");
        assert_eq!(many.settings["kube-proxy"]["cluster-cidr"], "10.128.0.0/9");
        assert_eq!(many.machines[5000].address, Ipv4Addr::new(10, 88, 19, 155));
        let beside = Options { simulated: 2, ..Options::default() }.shape().expect("a shape");
        let last = beside.machines.last().expect("five machines");
        assert_eq!((last.name.as_str(), last.address.octets()[3], beside.machines.len()), ("simulated-1", 23, 5));
        let wrong = Options { settings: vec![("dns".into(), "x".into(), "1".into())], ..Options::default() };
        assert!(wrong.shape().is_err());
        assert!(Options { controllers: 3, ..Options::default() }.shape().is_err());
    }
}
