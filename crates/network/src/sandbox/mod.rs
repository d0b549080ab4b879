//! Attaching pod sandboxes to the pod network, for the container engine.
//!
//! Which addresses are in use is kept in a volatile directory (a power cut frees them all); how far
//! the range has been used is kept on disk, so that after a reboot pods get new addresses.

mod addresses;
mod plan;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_world::World;
use daruma_world::containers::SandboxNetwork;
use daruma_world::disk::WriteOptions;
use daruma_world::links::{Change, Links, Prefix};
use futures::future::BoxFuture;
use futures::lock::Mutex;
use serde::{Deserialize, Serialize};

use addresses::Addresses;

/// What containerd says while it has no network plugin.
const NO_PLUGIN: &str = "Network plugin returns error: cni plugin not initialized";

/// What the network agent tells about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFile {
    /// The node's pod addresses, e.g. `10.244.1.0/24`.
    #[serde(rename = "podCIDR")]
    pub pod_range: String,
    /// Largest packet in bytes.
    pub mtu: u32,
}

impl NetworkFile {
    /// The file's content.
    pub fn to_json(&self) -> Vec<u8> {
        let mut content = serde_json::to_vec(self).expect("text and a number serialize");
        content.push(b'\n');
        content
    }
}

/// Paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Written by the network agent.
    pub file: PathBuf,
    /// On the machine's disk.
    pub state: PathBuf,
    /// Gone after a power cut.
    pub volatile: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: "/etc/cni/net.d/10-daruma.conf".into(),
            state: "/var/lib/daruma/network".into(),
            volatile: "/run/daruma/network".into(),
        }
    }
}

/// The pod network of one machine. Clones share its state.
#[derive(Clone)]
pub struct PodNetwork {
    world: World,
    links: Arc<dyn Links>,
    config: Arc<Config>,
    /// `None` until loaded.
    addresses: Arc<Mutex<Option<Addresses>>>,
}

impl PodNetwork {
    /// One for each machine; it must be the only one.
    #[allow(clippy::new_ret_no_self, reason = "callers want the trait")]
    pub fn new(world: &World, links: Arc<dyn Links>, config: Config) -> Arc<dyn SandboxNetwork> {
        Arc::new(Self { world: world.clone(), links, config: Arc::new(config), addresses: Arc::default() })
    }

    async fn file(&self) -> Result<(Prefix, u32), String> {
        let path = &self.config.file;
        let content = match self.world.disk.read(path).await {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NO_PLUGIN.to_owned()),
            Err(error) => return Err(format!("Network plugin returns error: read {}: {error}", path.display())),
        };
        let wrong = |why: String| format!("Network plugin returns error: {} is invalid: {why}", path.display());
        let file: NetworkFile = serde_json::from_slice(&content).map_err(|error| wrong(error.to_string()))?;
        let range: Prefix = file.pod_range.parse().map_err(|error: daruma_world::links::PrefixError| wrong(error.to_string()))?;
        if range.length > 30 {
            return Err(wrong(format!("range {range} is too small")));
        }
        Ok((range.network(), file.mtu))
    }

    async fn attach(self, sandbox_id: String, namespace: PathBuf) -> Result<Vec<IpAddr>, String> {
        let (range, mtu) = self.file().await?;
        let address =
            self.take_address(range, &sandbox_id).await.map_err(|error| format!("failed to allocate an address: {error}"))?;
        let attached = async {
            self.links.apply(None, plan::machine_side(&sandbox_id, &namespace, address, mtu)).await?;
            self.links.apply(Some(&namespace), plan::pod_side(address)).await
        };
        match attached.await {
            Ok(()) => Ok(vec![address.into()]),
            Err(error) => {
                // The caller may never call detach for a sandbox that did not come to life.
                if let Err(error) = self.clone().detach(sandbox_id).await {
                    tracing::warn!(error, "a failed attachment left something behind");
                }
                Err(format!("failed to set up the pod's link: {error}"))
            }
        }
    }

    async fn detach(self, sandbox_id: String) -> Result<(), String> {
        let link = plan::link_name(&sandbox_id);
        self.links.apply(None, vec![Change::DeleteLink { name: link }]).await.map_err(|error| error.to_string())?;
        let freed = self.free_address(&sandbox_id).await;
        freed.map_err(|error| format!("failed to free the address of sandbox {sandbox_id}: {error}"))
    }

    async fn take_address(&self, range: Prefix, sandbox_id: &str) -> io::Result<Ipv4Addr> {
        let mut guard = self.addresses.lock().await;
        let addresses = self.loaded(&mut guard).await?;
        if let Some(address) = addresses.of_sandbox.get(sandbox_id).filter(|address| range.contains(**address)) {
            return Ok(*address);
        }
        let taken = addresses.take(range, sandbox_id);
        let address = taken.ok_or_else(|| io::Error::other(format!("no IP addresses available in range set: {range}")))?;
        let recorded = self.record(addresses, range, sandbox_id, address).await;
        if recorded.is_err() {
            addresses.of_sandbox.remove(sandbox_id);
        }
        recorded.map(|()| address)
    }

    async fn record(&self, addresses: &mut Addresses, range: Prefix, sandbox_id: &str, address: Ipv4Addr) -> io::Result<()> {
        if let Some(reserved) = addresses.reserve(range) {
            self.world.disk.create_dir_all(&self.config.state, 0o755).await?;
            let durable = WriteOptions { durable: true, ..WriteOptions::default() };
            self.world.disk.write(&self.config.state.join("reserved"), reserved.to_string().into_bytes(), durable).await?;
        }
        let path = self.sandbox_file(sandbox_id);
        self.world.disk.write(&path, address.to_string().into_bytes(), WriteOptions::default()).await
    }

    async fn free_address(&self, sandbox_id: &str) -> io::Result<()> {
        let mut guard = self.addresses.lock().await;
        let addresses = self.loaded(&mut guard).await?;
        match self.world.disk.remove_file(&self.sandbox_file(sandbox_id)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        addresses.of_sandbox.remove(sandbox_id);
        Ok(())
    }

    /// Reads what an earlier process left.
    async fn loaded<'a>(&self, addresses: &'a mut Option<Addresses>) -> io::Result<&'a mut Addresses> {
        if addresses.is_none() {
            let mut found = Addresses::default();
            let directory = self.config.volatile.join("sandboxes");
            self.world.disk.create_dir_all(&directory, 0o755).await?;
            for (sandbox, _) in self.world.disk.read_dir(&directory).await? {
                // Half-written files begin with a dot.
                if sandbox.starts_with('.') {
                    continue;
                }
                if let Some(address) = self.read_address(&directory.join(&sandbox)).await? {
                    found.of_sandbox.insert(sandbox, address);
                }
            }
            found.reserved = self.read_address(&self.config.state.join("reserved")).await?;
            found.last = found.reserved;
            *addresses = Some(found);
        }
        Ok(addresses.get_or_insert_default())
    }

    async fn read_address(&self, path: &Path) -> io::Result<Option<Ipv4Addr>> {
        match self.world.disk.read(path).await {
            Ok(content) => Ok(String::from_utf8_lossy(&content).trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sandbox_file(&self, sandbox_id: &str) -> PathBuf {
        // Ids are hexadecimal; nothing else may choose a path.
        self.config.volatile.join("sandboxes").join(sandbox_id.replace('/', "_"))
    }
}

impl SandboxNetwork for PodNetwork {
    fn problem(&self) -> BoxFuture<'static, Option<String>> {
        let network = self.clone();
        Box::pin(async move { network.file().await.err() })
    }

    fn attach(&self, sandbox_id: &str, namespace: PathBuf) -> BoxFuture<'static, Result<Vec<IpAddr>, String>> {
        Box::pin(Self::attach(self.clone(), sandbox_id.to_owned(), namespace))
    }

    fn detach(&self, sandbox_id: &str) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(Self::detach(self.clone(), sandbox_id.to_owned()))
    }
}
