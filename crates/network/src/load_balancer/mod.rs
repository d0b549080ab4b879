//! The load balancer above the nodes: gives services of type LoadBalancer an address outside of the cluster and passes
//! what comes for it on to the node ports of healthy nodes.
//!
//! It stands beside the machines, on none of them. Its packet rules are those of the service proxy, with nodes in the
//! place of pods; every connection carries the load balancer's own address on.

pub mod changes;
pub mod health;
pub mod plan;
pub mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::core::v1::{Node, Service};
use daruma_api::meta::ObjectExt;
use daruma_client::informer::{Delta, Informer};
use daruma_client::{Client, ListOptions};
use daruma_world::World;
use daruma_world::links::{Change, Links, Prefix};
use daruma_world::packet_rules::PacketRules;
use futures::future::{Either, join3, select};
use tokio::sync::Notify;

use crate::proxy::Applied;
use changes::{Concern, concern};
use health::{States, ask};
use plan::{Pool, Seen, concerns_hosts, hosts, needs_cleanup, plan, targets, wants};
use status::Teller;

/// Name of our table.
pub const TABLE: &str = "daruma-load-balancer";
/// How often the kernel's table and addresses are looked at without a change.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Pause after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// The link that the addresses are put on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub link: String,
    /// The load balancer's own address there, by which it talks to the nodes.
    pub own: Prefix,
}

/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The addresses to give out.
    pub addresses: Pool,
    /// Where they are put; `None` where the world sees to that.
    pub port: Option<Port>,
}

/// Runs the load balancer for as long as the world's scope lives.
pub async fn run(world: World, client: Client, links: Arc<dyn Links>, rules: Arc<dyn PacketRules>, config: Config) {
    // Without an address of its own it does not even reach the API.
    while let Some(port) = &config.port
        && let Err(error) = prepare(&*links, port).await
    {
        tracing::error!(%error, link = port.link, "the link cannot be prepared");
        world.sleep(RETRY).await;
    }
    let services: Informer<Service> = Informer::new(client.all(), ListOptions::default());
    let nodes: Informer<Node> = Informer::new(client.cluster(), ListOptions::default());
    let wake = Wake::default();
    let news = News::default();
    let (all, told) = (wake.clone(), news.clone());
    services.on_delta(move |delta| {
        told.of_service(delta);
        all.all();
    });
    let (all, told) = (wake.clone(), news.clone());
    nodes.on_delta(move |delta| {
        if !matches!(delta, Delta::Updated(old, new) if !concerns_hosts(old, new)) {
            told.with(|news| news.hosts = true);
            all.all();
        }
    });
    services.start();
    nodes.start();
    services.wait_synced().await;
    nodes.wait_synced().await;
    let balancer = Balancer { world, services, nodes, config, states: Arc::default(), hosts: Arc::default(), news, wake };
    // What works already goes on working: nothing is changed before every node has been asked once.
    balancer.ask(false).await;
    join3(balancer.forward(links, rules), balancer.watch_health(), balancer.tell(client)).await;
}

/// Wakes each of the three tasks.
#[derive(Clone, Default)]
struct Wake {
    forward: Arc<Notify>,
    health: Arc<Notify>,
    tell: Arc<Notify>,
}

impl Wake {
    fn all(&self) {
        for notify in [&self.forward, &self.health, &self.tell] {
            notify.notify_one();
        }
    }
}

/// What has changed and was not looked at yet. Clones share it.
#[derive(Clone, Default)]
struct News(Arc<Mutex<NewsOf>>);

#[derive(Default)]
struct NewsOf {
    /// The nodes have to be looked at again.
    hosts: bool,
    /// Services (by uid) whose load balancers have to be made sure of.
    due: BTreeSet<String>,
    /// What changed of them.
    concerns: Vec<(Arc<Service>, Concern)>,
}

impl News {
    fn with<T>(&self, work: impl FnOnce(&mut NewsOf) -> T) -> T {
        work(&mut self.0.lock().expect("no panic while held"))
    }

    fn of_service(&self, delta: &Delta<Service>) {
        let (service, concern) = match delta {
            Delta::Added(service) if wants(service) || needs_cleanup(service) => (service, Concern::Silent),
            Delta::Updated(old, new) => match concern(old, new) {
                Some(concern) => (new, concern),
                None => return,
            },
            Delta::Added(_) | Delta::Deleted(_) => return,
        };
        self.with(|news| {
            news.hosts = true;
            news.due.insert(service.uid().to_owned());
            news.concerns.push((service.clone(), concern));
        });
    }
}

struct Balancer {
    world: World,
    services: Informer<Service>,
    nodes: Informer<Node>,
    config: Config,
    states: Arc<Mutex<States>>,
    /// Nodes behind load balancers, as they were when that was last to be looked at.
    hosts: Arc<Mutex<BTreeMap<String, Ipv4Addr>>>,
    news: News,
    wake: Wake,
}

impl Balancer {
    fn states<T>(&self, work: impl FnOnce(&mut States) -> T) -> T {
        work(&mut self.states.lock().expect("no panic while held"))
    }

    /// Nodes behind load balancers.
    fn hosts(&self) -> BTreeMap<String, Ipv4Addr> {
        let mut known = self.hosts.lock().expect("no panic while held");
        if self.news.with(|news| std::mem::take(&mut news.hosts)) {
            *known = hosts(&self.nodes.list());
        }
        known.clone()
    }

    /// Waits for a change, for at most so long; gives whether there was one.
    async fn changed(&self, notify: &Notify, limit: Duration) -> bool {
        let notified = notify.notified();
        futures::pin_mut!(notified);
        matches!(select(notified, self.world.sleep(limit)).await, Either::Left(_))
    }

    /// Keeps packet rules and addresses.
    async fn forward(&self, links: Arc<dyn Links>, rules: Arc<dyn PacketRules>) {
        let mut applied = Applied::new(rules, TABLE);
        loop {
            let (services, hosts) = (self.services.list(), self.hosts());
            let wanted = self.states(|states| {
                let is_up = |target: &health::Target| states.is_up(target);
                plan(&Seen { services: &services, hosts: &hosts, pool: &self.config.addresses, is_up: &is_up })
            });
            let done = async {
                applied.apply(wanted.rules).await?;
                match &self.config.port {
                    Some(port) => set_addresses(&*links, port, &self.config.addresses, &wanted.addresses).await,
                    None => Ok(()),
                }
            };
            if let Err(error) = done.await {
                tracing::error!(%error, "packet rules or addresses could not be set");
                self.world.sleep(RETRY).await;
                continue;
            }
            if !self.changed(&self.wake.forward, CHECK_EVERY).await {
                // Looked at only; what is lost is made anew by the next turn.
                applied.is_lost().await;
            }
        }
    }

    /// Asks all nodes every [`health::EVERY`], and new ones at once.
    async fn watch_health(&self) {
        let mut next = self.world.monotonic() + health::EVERY;
        loop {
            let left = next.saturating_sub(self.world.monotonic());
            let woken = !left.is_zero() && self.changed(&self.wake.health, left).await;
            if !woken {
                next = self.world.monotonic() + health::EVERY;
            }
            self.ask(!woken).await;
        }
    }

    async fn ask(&self, all: bool) {
        let wanted = targets(&self.services.list(), &self.hosts());
        let due = self.states(|states| {
            states.keep(&wanted);
            states.due(all)
        });
        let told = |target: health::Target, passed| {
            if self.states(|states| states.note(&target, passed)) {
                tracing::info!(address = %target.address, port = target.port, up = passed, "a node's health has changed");
                self.wake.forward.notify_one();
            }
        };
        ask(&self.world, due, told).await;
    }

    /// Tells services of their load balancers.
    async fn tell(&self, client: Client) {
        let mut teller = Teller::new(&client);
        loop {
            let hosts = self.hosts().into_keys().collect();
            let (due, concerns) = self.news.with(|news| (std::mem::take(&mut news.due), std::mem::take(&mut news.concerns)));
            teller.tell_concerns(concerns);
            match teller.tell(&self.services.list(), &self.config.addresses, hosts, &due).await {
                None => self.wake.tell.notified().await,
                Some(pause) => {
                    self.changed(&self.wake.tell, pause).await;
                }
            }
        }
    }
}

/// Gives the link our own address and lets it pass packets on.
async fn prepare(links: &dyn Links, port: &Port) -> std::io::Result<()> {
    let listed = links.list_addresses(None).await?;
    if listed.iter().any(|listed| listed.link == port.link && listed.prefix == port.own) {
        return Ok(());
    }
    let set = |name: String, value: &str| Change::SetKernelParameter { name, value: value.to_owned(), optional: false };
    let mut changes = vec![set("ipv4/ip_forward".into(), "1")];
    // Packets go back by the link they came in by; nobody is to be told of a shorter way.
    changes.extend(["all", &port.link].map(|of| set(format!("ipv4/conf/{of}/send_redirects"), "0")));
    changes.push(Change::ReplaceAddress { link: port.link.clone(), prefix: port.own });
    links.apply(None, changes).await
}

/// Puts the services' addresses on the link, and takes other ones of the pool away.
async fn set_addresses(links: &dyn Links, port: &Port, pool: &Pool, wanted: &BTreeSet<Ipv4Addr>) -> std::io::Result<()> {
    let listed = links.list_addresses(None).await?;
    let there: Vec<Prefix> = listed.into_iter().filter(|listed| listed.link == port.link).map(|listed| listed.prefix).collect();
    let missing = wanted.iter().copied().map(Prefix::host).filter(|prefix| !there.contains(prefix));
    let mut changes: Vec<Change> = missing.map(|prefix| Change::ReplaceAddress { link: port.link.clone(), prefix }).collect();
    let spare = there.iter().filter(|prefix| {
        prefix.length == 32 && **prefix != port.own && pool.contains(prefix.address) && !wanted.contains(&prefix.address)
    });
    changes.extend(spare.map(|prefix| Change::DeleteAddress { link: port.link.clone(), prefix: *prefix }));
    if changes.is_empty() { Ok(()) } else { links.apply(None, changes).await }
}

#[cfg(test)]
mod tests;
