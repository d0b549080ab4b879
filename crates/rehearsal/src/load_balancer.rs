//! The load balancer of a virtual cluster: on a machine beside the nodes, where real clusters have their switch.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daruma_client::RateLimit;
use daruma_cluster::boot::{BootError, connection};
use daruma_cluster::load_balancer;
use daruma_cluster::machine_files::MachineFile;
use daruma_cluster::pki::Pki;
use daruma_cluster::platform::Platform;
use daruma_cluster::shape::Shape;
use daruma_network::load_balancer::plan::Pool;
use daruma_network::load_balancer::{Config, Port, run};
use daruma_sim::{Machine, MachineSpec, Scope, Universe};
use daruma_world::links::{Change, Link, LinkAddress, Links, ListedRoute, Prefix};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::certificates::Names;
use crate::cluster::{StartError, write_files};
use crate::platform::{SimPlatform, Surroundings};
use crate::programs;

/// Name of the machine. It is no node, and nobody's hand is on its switch.
pub(crate) const MACHINE: &str = "switch";
const KUBECONFIG: &str = "/etc/kubernetes/load-balancer.conf";
const CARD: &str = "eth0";
const MEBIBYTE: u64 = 1 << 20;

/// Adds the machine and gives it power.
pub(crate) fn add(universe: &Universe, shape: &Shape, pki: &Pki, surroundings: &Surroundings) -> Result<(), StartError> {
    let own = load_balancer::own_address(shape);
    let spec = MachineSpec {
        name: MACHINE.to_owned(),
        address: own,
        cpu_millis: 1000,
        memory_bytes: 64 * MEBIBYTE,
        disk_bytes: 64 * MEBIBYTE,
        boot_time: Duration::ZERO,
    };
    let content = load_balancer::kubeconfig(&Names, shape, pki)?.into_bytes();
    let files: Arc<[MachineFile]> = [MachineFile { path: KUBECONFIG.into(), content, mode: 0o600 }].into();
    let (first, last) = load_balancer::pool(shape);
    let addresses: Pool = (u32::from(first)..=u32::from(last)).map(std::net::Ipv4Addr::from).collect();
    let config = Config { addresses, port: Some(Port { link: CARD.to_owned(), own: Prefix::new(own, 24) }) };
    let surroundings = surroundings.clone();
    let boot = move |machine: Machine| {
        let (files, surroundings, config) = (files.clone(), surroundings.clone(), config.clone());
        async move {
            write_files(&machine, &files).await;
            let process = machine.clone();
            let main = move |scope: Scope| serve(surroundings.clone(), process.clone(), scope, config.clone()).boxed();
            machine.service("load-balancer", Arc::new(main));
        }
        .boxed()
    };
    universe.add_machine(spec, Arc::new(boot))?;
    let machines = universe.machines();
    universe.outside().spawn("power on", async move {
        if let Err(error) = machines.power_on(MACHINE).await {
            tracing::error!(%error, "the load balancer's machine cannot be switched on");
        }
    });
    Ok(())
}

async fn serve(surroundings: Surroundings, machine: Machine, scope: Scope, config: Config) {
    let platform: Arc<dyn Platform> = Arc::new(SimPlatform::on_machine(&surroundings, &machine, &scope));
    let limit = RateLimit { qps: 50.0, burst: 100 };
    let client: Result<_, BootError> = connection::client(&platform, Path::new(KUBECONFIG), "load-balancer", limit);
    match client {
        Ok(client) => {
            let links = Arc::new(Answering { links: platform.links(), machine });
            run(platform.world(), client, links, platform.packet_rules(), config).await;
        }
        Err(error) => tracing::warn!("load balancer: {}", programs::chain(&error)),
    }
}

/// The links of a machine that answers for every single address on its card.
struct Answering {
    links: Arc<dyn Links>,
    machine: Machine,
}

type Answer<T> = BoxFuture<'static, io::Result<T>>;

impl Links for Answering {
    fn apply(&self, namespace: Option<&Path>, changes: Vec<Change>) -> Answer<()> {
        let machine = self.machine.clone();
        let applied = self.links.apply(namespace, changes.clone());
        async move {
            applied.await?;
            for change in &changes {
                match change {
                    Change::ReplaceAddress { prefix, .. } if prefix.length == 32 => machine.answer_for(prefix.address)?,
                    Change::DeleteAddress { prefix, .. } if prefix.length == 32 => machine.leave_address(prefix.address),
                    _ => {}
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn list_links(&self, namespace: Option<&Path>) -> Answer<Vec<Link>> {
        self.links.list_links(namespace)
    }

    fn list_addresses(&self, namespace: Option<&Path>) -> Answer<Vec<LinkAddress>> {
        self.links.list_addresses(namespace)
    }

    fn list_routes(&self, namespace: Option<&Path>) -> Answer<Vec<ListedRoute>> {
        self.links.list_routes(namespace)
    }
}
