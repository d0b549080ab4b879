//! Asks the kubelets, all at once, every resolution period.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::core::v1::{Node, Pod};
use daruma_api::meta::ObjectExt;
use daruma_client::informer::Informer;
use daruma_client::{Client, ListOptions, Transport, empty_body};
use daruma_world::World;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::BodyExt;

use crate::parse::{ContainerKey, Sample, parse};
use crate::window::Window;

/// Connects to the kubelet at an address and port.
pub type Dial = Arc<dyn Fn(&str, u16) -> Option<Arc<dyn Transport>> + Send + Sync>;

/// A kubelet that has not answered by then is skipped this time.
const SCRAPE_LIMIT: Duration = Duration::from_secs(10);

/// Pauses after the first scrapes that are answered.
const SOON: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Settings of a metrics server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsServerConfig {
    /// Time between two scrapes.
    pub resolution: Duration,
}

/// What is known of the usage of nodes and containers.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) nodes: BTreeMap<String, Window>,
    pub(crate) containers: BTreeMap<ContainerKey, Window>,
    pub(crate) scraped: bool,
}

/// The server: [`MetricsServer::run`] asks, [`MetricsServer::handle`] answers.
pub struct MetricsServer {
    world: World,
    config: MetricsServerConfig,
    dial: Dial,
    connections: Mutex<BTreeMap<String, Arc<dyn Transport>>>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) known: Mutex<Known>,
}

impl MetricsServer {
    /// A server that has asked nobody yet.
    pub fn new(client: &Client, dial: Dial, config: MetricsServerConfig) -> Arc<Self> {
        let running = ListOptions { field_selector: "status.phase=Running".into(), ..ListOptions::default() };
        Arc::new(Self {
            world: client.world().clone(),
            config,
            dial,
            connections: Mutex::default(),
            nodes: Informer::new(client.all(), ListOptions::default()),
            pods: Informer::new(client.all(), running),
            known: Mutex::default(),
        })
    }

    /// Scrapes until dropped.
    pub async fn run(self: Arc<Self>) {
        self.nodes.start();
        self.pods.start();
        self.nodes.wait_synced().await;
        self.pods.wait_synced().await;
        // The first scrapes come close together, so that there is something to show soon.
        let mut soon = SOON.iter();
        let mut wait = soon.next();
        loop {
            let answered = self.scrape_all().await;
            self.world.sleep(wait.copied().unwrap_or(self.config.resolution).min(self.config.resolution)).await;
            if answered {
                wait = soon.next();
            }
        }
    }

    async fn scrape_all(&self) -> bool {
        let mut scrapes: FuturesUnordered<_> = self
            .nodes
            .list()
            .into_iter()
            .map(|node| async move {
                let sample = self.world.timeout(SCRAPE_LIMIT, self.scrape(&node)).await;
                (node, sample)
            })
            .collect();
        let mut samples = BTreeMap::new();
        while let Some((node, sample)) = scrapes.next().await {
            match sample {
                Ok(Ok(sample)) => {
                    samples.insert(node.name().to_owned(), sample);
                }
                Ok(Err(error)) => tracing::warn!(node = node.name(), error, "cannot scrape"),
                Err(_) => tracing::warn!(node = node.name(), "the kubelet did not answer in time"),
            }
        }
        drop(scrapes);
        let answered = !samples.is_empty();
        self.remember(samples);
        answered
    }

    /// Windows of what was not seen this time are forgotten, as the real server forgets them.
    fn remember(&self, samples: BTreeMap<String, Sample>) {
        let mut known = self.known.lock().expect("no panic while held");
        let (mut nodes, mut containers) = (BTreeMap::new(), BTreeMap::new());
        for (name, sample) in samples {
            let mut window = known.nodes.remove(&name).unwrap_or_default();
            window.push(sample.node);
            nodes.insert(name, window);
            for (key, point) in sample.containers {
                let mut window = known.containers.remove(&key).unwrap_or_default();
                window.push(point);
                containers.insert(key, window);
            }
        }
        known.scraped |= !nodes.is_empty();
        known.nodes = nodes;
        known.containers = containers;
    }

    async fn scrape(&self, node: &Node) -> Result<Sample, String> {
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_ref());
        let address = addresses
            .into_iter()
            .flatten()
            .find(|address| address.type_ == "InternalIP")
            .ok_or("the node has no InternalIP")?
            .address
            .clone();
        let port = status
            .and_then(|status| status.daemon_endpoints.as_ref())
            .and_then(|endpoints| endpoints.kubelet_endpoint.as_ref())
            .and_then(|endpoint| u16::try_from(endpoint.port).ok())
            .unwrap_or(10250);
        let request = http::Request::builder().uri("/metrics/resource").body(empty_body()).map_err(|error| error.to_string())?;
        let transport = self.connection(&address, port).ok_or("cannot connect: no credentials")?;
        let response = transport.call(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        // Checking all of it at once is cheaper than looking for what cannot be read.
        let text = std::str::from_utf8(&body).map_or_else(|_| String::from_utf8_lossy(&body), Cow::Borrowed);
        if !status.is_success() {
            return Err(format!("request failed, status: {status}: {}", text.trim()));
        }
        Ok(parse(&text, self.world.now().as_millisecond()))
    }

    fn connection(&self, address: &str, port: u16) -> Option<Arc<dyn Transport>> {
        let mut connections = self.connections.lock().expect("no panic while held");
        let key = format!("{address}:{port}");
        if let Some(transport) = connections.get(&key) {
            return Some(transport.clone());
        }
        let transport = (self.dial)(address, port)?;
        connections.insert(key, transport.clone());
        Some(transport)
    }
}
