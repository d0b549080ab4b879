//! The cluster's DNS server: names of services and pods from the API, all others from the servers of
//! the node.

pub mod answer;
pub mod directory;
mod health;
mod reply;
mod upstream;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daruma_client::Client;
use daruma_world::World;
use daruma_world::net::{Datagrams, Stream};

use directory::Watched;
pub use health::Health;
use reply::Replies;
use upstream::{Upstream, read_message, write_message};

/// Questions to other servers, and connections, at one time.
const MOST_AT_ONCE: usize = 1000;
/// An idle connection is closed after this.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after a socket failed.
const RETRY: Duration = Duration::from_millis(200);

/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The cluster's domain, e.g. `cluster.local`.
    pub domain: String,
    /// Where to listen, by UDP and TCP.
    pub listen: SocketAddr,
    /// Namespace and name of the service of DNS itself, e.g. `kube-system` and `kube-dns`.
    pub own_service: (String, String),
    /// Addresses of that service: never asked as upstream.
    pub own_addresses: Vec<IpAddr>,
    /// Names the servers that know everything else.
    pub resolv_conf: PathBuf,
}

/// Runs the server for as long as the world's scope lives.
///
/// # Errors
/// The domain is no domain, or the sockets cannot be had.
pub async fn run(world: World, client: Client, config: Config, health: Health) -> io::Result<()> {
    let watched = Watched::start(&client);
    health.watch(watched.clone());
    let upstream = Upstream::read(&world, &config.resolv_conf, &config.own_addresses).await;
    let replies = Arc::new(Replies::new(&world, watched.clone(), upstream, health, &config)?);
    let socket: Arc<dyn Datagrams> = Arc::from(world.net.bind_udp(config.listen).await?);
    let listener = world.net.listen(config.listen).await?;
    // Clients ask again; an answer made of half the cluster would be wrong.
    watched.wait_synced().await;
    let server = Server { world: world.clone(), replies, busy: Arc::default() };
    world.spawn("dns-streams", server.clone().serve_streams(listener));
    server.serve_datagrams(socket).await;
    Ok(())
}

#[derive(Clone)]
struct Server {
    world: World,
    replies: Arc<Replies>,
    busy: Arc<AtomicUsize>,
}

impl Server {
    async fn serve_datagrams(self, socket: Arc<dyn Datagrams>) {
        let mut buffer = vec![0; 65_535];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // An ICMP message for an earlier answer, say.
                    tracing::debug!(%error, "datagram not received");
                    self.world.sleep(RETRY).await;
                    continue;
                }
            };
            let query = buffer[..length].to_vec();
            let Some(permit) = Permit::take(&self.busy) else { continue };
            let (replies, socket) = (self.replies.clone(), socket.clone());
            self.world.spawn("dns-query", async move {
                if let Some(answer) = replies.reply(&query, false).await
                    && let Err(error) = socket.send_to(&answer, client).await
                {
                    tracing::debug!(%error, %client, "answer not sent");
                }
                drop(permit);
            });
        }
    }

    async fn serve_streams(self, mut listener: Box<dyn daruma_world::net::Listener>) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Some(permit) = Permit::take(&self.busy) else { continue };
                    let server = self.clone();
                    self.world.spawn("dns-stream", async move {
                        if let Err(error) = server.serve_stream(stream).await {
                            tracing::debug!(%error, "connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    self.world.sleep(RETRY).await;
                }
            }
        }
    }

    async fn serve_stream(&self, mut stream: Box<dyn Stream>) -> io::Result<()> {
        while let Ok(Some(query)) = self.world.timeout(IDLE, read_message(&mut stream)).await.unwrap_or(Ok(None)) {
            let Some(answer) = self.replies.reply(&query, true).await else { break };
            write_message(&mut stream, &answer).await?;
        }
        Ok(())
    }
}

/// One of [`MOST_AT_ONCE`].
struct Permit(Arc<AtomicUsize>);

impl Permit {
    fn take(busy: &Arc<AtomicUsize>) -> Option<Self> {
        if busy.fetch_add(1, Ordering::AcqRel) >= MOST_AT_ONCE {
            busy.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Self(busy.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
