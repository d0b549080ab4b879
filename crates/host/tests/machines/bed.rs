//! A cluster of test machines that goes away with the value.
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use daruma_host::machine::subnet::Subnet;
use daruma_host::machine::{Bind, MachineSpec, SeedFile};
use daruma_host::machines::SupervisedMachines;
use daruma_host::supervisor::{Client, MachineStatus, Program, Request, State, SupervisorConfig, clean, launch};

use crate::agent;

pub struct Bed {
    pub config: SupervisorConfig,
    pub client: Client,
}

impl Bed {
    /// Starts `count` machines named `worker-N` and waits until their agents answer.
    pub fn new(label: &str, count: u8) -> Result<Self> {
        Self::with(label, count, |_| {})
    }

    pub fn with(label: &str, count: u8, change: fn(&mut MachineSpec)) -> Result<Self> {
        let config = config(label, count, change)?;
        let client = launch(&config, &program()?)?;
        let mut bed = Self { config, client };
        for index in 0..count {
            bed.ready(&format!("worker-{index}"))?;
        }
        Ok(bed)
    }

    /// Waits until a machine runs and its agent answers.
    pub fn ready(&mut self, name: &str) -> Result<MachineStatus> {
        let status = self.client.wait_for(name, State::Running, Duration::from_secs(10))?;
        let end = Instant::now() + Duration::from_secs(5);
        while agent::tell(status.address, "read /etc/hostname").is_err() {
            if Instant::now() > end {
                bail!("the agent of {name} does not answer");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(status)
    }

    pub fn ask(&mut self, request: Request) -> Result<()> {
        self.client.ask(&request).with_context(|| format!("{request:?}"))?;
        Ok(())
    }

    pub fn status(&mut self, name: &str) -> Result<MachineStatus> {
        self.client.status()?.machine(name).cloned().context("no such machine")
    }

    /// The machines as somebody outside sees them.
    pub fn machines(&self) -> Result<SupervisedMachines> {
        Ok(SupervisedMachines::connect(&self.config.root, &self.config.cluster)?)
    }

    pub fn address(&self, name: &str) -> Result<std::net::Ipv4Addr> {
        Ok(self.config.machines.iter().find(|spec| spec.name == name).context("no such machine")?.address)
    }

    /// Has one machine ask another one.
    pub fn relay(&self, from: &str, to: &str) -> Result<String> {
        self.tell(from, &format!("relay {} read /etc/hostname", self.address(to)?))
    }

    pub fn tell(&self, name: &str, line: &str) -> Result<String> {
        Ok(agent::tell(self.address(name)?, line)?)
    }

    /// Starts the supervisor again after its end.
    pub fn launch_again(&mut self) -> Result<()> {
        self.client = launch(&self.config, &program()?)?;
        Ok(())
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.client.ask(&Request::Down { keep_disks: false }).is_err() {
            // A supervisor that was killed leaves it to us.
            let _ = clean(&self.config.root, &self.config.cluster, true);
        }
        let _ = std::fs::remove_dir_all(&self.config.root);
    }
}

pub fn program() -> Result<Program> {
    Ok(Program { path: std::env::current_exe()?, arguments: vec!["supervisor".to_owned()] })
}

pub fn config(label: &str, count: u8, change: fn(&mut MachineSpec)) -> Result<SupervisorConfig> {
    let root = std::env::temp_dir().join(format!("daruma-host-{label}-{}", std::process::id()));
    let cluster = format!("{label}-{}", std::process::id());
    let subnet = Subnet::choose(&root, &cluster)?;
    let mut machines: Vec<MachineSpec> =
        (0..count).map(|index| Ok(machine(&cluster, index, subnet, std::env::current_exe()?))).collect::<Result<_>>()?;
    machines.iter_mut().for_each(change);
    Ok(SupervisorConfig { cluster, root, machines, subnet, beside: Vec::new() })
}

/// Runs what needs a runtime.
pub fn run<T, E: Into<anyhow::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work).map_err(Into::into)
}

pub fn machine(cluster: &str, index: u8, subnet: Subnet, binary: PathBuf) -> MachineSpec {
    let name = format!("worker-{index}");
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    MachineSpec {
        hostname: name.clone(),
        cluster: cluster.to_owned(),
        cpus: 1.5,
        memory_bytes: 128 << 20,
        disk_bytes: 256 << 20,
        address: subnet.at(20 + index),
        prefix: Subnet::PREFIX,
        gateway: Some(subnet.host()),
        mac: None,
        machine_id: format!("{index:032x}"),
        system_uuid: format!("00000000-0000-4000-8000-{index:012}"),
        command: words("/usr/local/bin/daruma agent"),
        service: "agent".to_owned(),
        restart_delay: Duration::from_millis(100),
        env: BTreeMap::from([("COLOUR".to_owned(), "red".to_owned())]),
        log_file: PathBuf::from("/var/log/kubelet.log"),
        seed_files: vec![
            SeedFile { path: "/etc/kubernetes/always".into(), content: b"new".to_vec(), mode: 0o600, once: false },
            SeedFile { path: "/etc/kubernetes/once".into(), content: b"new".to_vec(), mode: 0o644, once: true },
        ],
        binds: vec![Bind { host: binary, machine: "/usr/local/bin/daruma".into(), read_only: true, optional: false }],
        boot_time: Duration::from_millis(300),
        shutdown_grace: Duration::from_secs(5),
        name,
    }
}
