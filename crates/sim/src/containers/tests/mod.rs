//! The engine on a virtual machine.

mod ends;
mod engine;
mod power;
mod programs;
mod services;
mod strain;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_world::World;
use daruma_world::containers::{
    Container, ContainerConfig, ContainerRuntime, ContainerState, Resources, SandboxConfig, SharedNamespaces,
};
use daruma_world::disk::WriteOptions;
use daruma_world::machines::Machines;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{EngineConfig, SimRuntime};
use crate::behaviour::Behaviours;
use crate::{Machine, MachineSpec, Universe};

const BOOTCAMP: &str = "gcr.io/google-samples/kubernetes-bootcamp:v1";

/// One machine `m` with its engine.
#[derive(Clone)]
struct Lab {
    machines: Arc<dyn Machines>,
    current: Arc<Mutex<Option<Machine>>>,
}

impl Lab {
    fn machine(&self) -> Machine {
        self.current.lock().unwrap().clone().expect("it was booted")
    }

    fn engine(&self) -> SimRuntime {
        self.machine().engine()
    }

    fn world(&self) -> World {
        self.machine().world()
    }

    async fn network_ready(&self) {
        let disk = self.world().disk;
        disk.create_dir_all(Path::new("/etc/cni/net.d"), 0o755).await.unwrap();
        let text = b"{\"podCIDR\":\"10.244.1.0/24\",\"mtu\":1500}\n".to_vec();
        let durable = WriteOptions { durable: true, ..WriteOptions::default() };
        disk.write(Path::new("/etc/cni/net.d/10-daruma.conf"), text, durable).await.unwrap();
    }

    async fn sandbox(&self, name: &str, host_network: bool) -> String {
        let config = SandboxConfig {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            uid: format!("uid-{name}"),
            hostname: name.to_owned(),
            log_directory: format!("/var/log/pods/{name}").into(),
            shared: SharedNamespaces { network: host_network, ..SharedNamespaces::default() },
            ..SandboxConfig::default()
        };
        self.engine().run_sandbox(config).await.unwrap()
    }

    /// A container `main`, not started.
    async fn create(&self, sandbox: &str, image: &str, change: impl FnOnce(&mut ContainerConfig)) -> String {
        let engine = self.engine();
        let image = engine.pull_image(image, None).await.unwrap();
        let mut config =
            ContainerConfig { name: "main".to_owned(), image, log_path: "main/0.log".into(), ..ContainerConfig::default() };
        change(&mut config);
        engine.create_container(sandbox, config).await.unwrap()
    }

    /// A pod with one container that runs.
    async fn start(&self, name: &str, image: &str) -> (String, String) {
        let sandbox = self.sandbox(name, false).await;
        let id = self.create(&sandbox, image, |_| {}).await;
        self.engine().start_container(&id).await.unwrap();
        (sandbox, id)
    }

    async fn find(&self, id: &str) -> Container {
        let all = self.engine().list_containers().await.unwrap();
        all.into_iter().find(|container| container.id == id).unwrap()
    }

    /// `running`, `created`, or exit code and reason.
    async fn state(&self, id: &str) -> String {
        match self.find(id).await.state {
            ContainerState::Created => "created".to_owned(),
            ContainerState::Running { .. } => "running".to_owned(),
            ContainerState::Exited { exit_code, reason, .. } => format!("{exit_code} {reason}"),
        }
    }

    async fn address(&self, sandbox: &str) -> Option<IpAddr> {
        let all = self.engine().list_sandboxes().await.unwrap();
        all.into_iter().find(|one| one.id == sandbox).unwrap().addresses.first().copied()
    }

    /// The answer to a GET from the machine itself: status line and body.
    async fn get(&self, to: IpAddr, port: u16, path: &str) -> std::io::Result<String> {
        get(&self.world(), SocketAddr::new(to, port), path).await
    }

    async fn sleep(&self, millis: u64) {
        self.world().sleep(Duration::from_millis(millis)).await;
    }
}

async fn get(world: &World, to: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = world.net.connect(to).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let status = text.lines().next().unwrap_or_default().trim_start_matches("HTTP/1.1 ").to_owned();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.trim_end()).unwrap_or_default();
    Ok(format!("{status}: {body}"))
}

/// Behaviours of a file, the built-in ones with them.
fn behaving(yaml: &str) -> EngineConfig {
    let mut behaviours = Behaviours::built_in();
    behaviours.read(yaml).unwrap();
    EngineConfig { behaviours: Arc::new(behaviours), ..EngineConfig::default() }
}

/// Runs `main` with a machine that has power.
fn lab<F, W>(seed: u64, config: EngineConfig, main: F) -> W::Output
where
    F: FnOnce(Lab) -> W,
    W: Future,
{
    let universe = Universe::new(seed);
    let current: Arc<Mutex<Option<Machine>>> = Arc::default();
    let booted = current.clone();
    let spec = MachineSpec {
        name: "m".to_owned(),
        address: Ipv4Addr::new(10, 88, 0, 20),
        cpu_millis: 2000,
        memory_bytes: 1 << 30,
        disk_bytes: 1 << 30,
        boot_time: Duration::from_secs(2),
    };
    let boot = Arc::new(move |machine: Machine| {
        machine.engine().configure(config.clone());
        *booted.lock().unwrap() = Some(machine);
        Box::pin(async {}) as futures::future::BoxFuture<'static, ()>
    });
    universe.add_machine(spec, boot).unwrap();
    let machines = universe.machines();
    let result = universe.run(async {
        machines.power_on("m").await.unwrap();
        universe.outside().sleep(Duration::from_millis(1)).await;
        main(Lab { machines: machines.clone(), current: current.clone() }).await
    });
    current.lock().unwrap().take();
    result
}

fn limit(bytes: u64) -> impl FnOnce(&mut ContainerConfig) {
    move |config| config.resources = Resources { memory_limit_bytes: Some(bytes), ..Resources::default() }
}
