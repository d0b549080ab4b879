//! A virtual machine's network links: what is asked for is kept and shown as a kernel would, and
//! refused where a kernel would refuse it.
//!
//! Invariant: links carry no bytes. How packets travel is the affair of the virtual network, which
//! may ask [`SimLinks::lookup`] for the way.

mod namespace;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daruma_world::links::{Change, Link, LinkAddress, Links, ListedRoute, MacAddress, Prefix, Route, Target};
use futures::FutureExt;
use futures::future::BoxFuture;

use namespace::{Namespace, failed};

type Answer<T> = BoxFuture<'static, io::Result<T>>;

/// Name of the machine's network card.
pub const CARD: &str = "eth0";

/// Where a link is.
type Place = (PathBuf, u32);

struct State {
    /// By path; the machine's own has the empty one.
    namespaces: BTreeMap<PathBuf, Namespace>,
    /// Both directions of each pair of links.
    peers: BTreeMap<Place, Place>,
}

/// The links of one machine from power-on to power-off. Clones share them.
#[derive(Clone)]
pub struct SimLinks {
    state: Arc<Mutex<State>>,
}

impl SimLinks {
    /// A machine with a loopback link and a network card [`CARD`] of this address, and a route to
    /// everywhere by way of `router`, where there is one.
    pub fn new(address: Prefix, mtu: u32, router: Option<Ipv4Addr>) -> Self {
        let mut own = Namespace::default();
        let [a, b, c, d] = address.address.octets();
        own.add(CARD, "veth", mtu, Some([0x02, 0x42, a, b, c, d]));
        let prepared = own
            .set_up("lo", true)
            .and_then(|()| own.add_address("lo", Prefix::new(Ipv4Addr::LOCALHOST, 8)))
            .and_then(|()| own.set_up(CARD, true))
            .and_then(|()| own.add_address(CARD, address));
        prepared.expect("both links were just made");
        if let Some(router) = router {
            let route = Route::via(CARD, router, Prefix::ALL);
            // A router outside of the card's network is reached all the same.
            let target = Target::Link { link: CARD.to_owned(), via: Some(router), on_link: true, source: None };
            own.set_route(Route { target, ..route }, false).expect("the card is on");
        }
        let state = State { namespaces: BTreeMap::from([(PathBuf::new(), own)]), peers: BTreeMap::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a network namespace known by its path. An existing one is fine.
    pub fn add_namespace(&self, path: &Path) {
        self.state().namespaces.entry(path.to_owned()).or_default();
    }

    /// Ends a namespace, its links and their peers with it. A missing one is fine.
    pub fn remove_namespace(&self, path: &Path) {
        let mut state = self.state();
        let links: Vec<u32> =
            state.namespaces.get(path).map(|namespace| namespace.links.keys().copied().collect()).unwrap_or_default();
        for index in links {
            state.remove_link((path.to_owned(), index));
        }
        state.namespaces.remove(path);
    }

    /// The way to an address from the machine's own namespace; `None` where no route says it.
    pub fn lookup(&self, destination: Ipv4Addr) -> Option<Route> {
        self.state().namespaces.get(Path::new(""))?.lookup(destination).cloned()
    }

    /// A kernel parameter that was set in the machine's own namespace.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.state().namespaces.get(Path::new(""))?.parameter(name).map(str::to_owned)
    }

    fn call<T: Send + 'static>(
        &self,
        namespace: Option<&Path>,
        work: impl FnOnce(&mut State, &Path) -> io::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let (links, namespace) = (self.clone(), namespace.map(Path::to_owned).unwrap_or_default());
        async move { work(&mut links.state(), &namespace) }.boxed()
    }
}

impl State {
    fn namespace(&mut self, path: &Path) -> io::Result<&mut Namespace> {
        let missing = || format!("open namespace {}: No such file or directory", path.display());
        self.namespaces.get_mut(path).ok_or_else(|| failed(io::ErrorKind::NotFound, &missing()))
    }

    /// Removes a link and its peer.
    fn remove_link(&mut self, place: Place) {
        let peer = self.peers.remove(&place);
        for (path, index) in [Some(place), peer].into_iter().flatten() {
            self.peers.remove(&(path.clone(), index));
            if let Some(namespace) = self.namespaces.get_mut(&path) {
                namespace.remove(index);
            }
        }
    }

    fn apply(&mut self, here: &Path, change: Change) -> io::Result<()> {
        match change {
            Change::AddVeth { name, mac, peer, peer_mac, peer_namespace, mtu } => {
                let there = peer_namespace.unwrap_or_else(|| here.to_owned());
                let taken = self.namespace(here)?.find(&name).is_some() || self.namespace(&there)?.find(&peer).is_some();
                if taken || (here == there && name == peer) {
                    return Err(failed(io::ErrorKind::AlreadyExists, "File exists"));
                }
                let near = self.namespace(here)?.add(&name, "veth", mtu, mac.or_else(|| Some(made_up(&name))));
                let far = self.namespace(&there)?.add(&peer, "veth", mtu, peer_mac.or_else(|| Some(made_up(&peer))));
                let (near, far) = ((here.to_owned(), near), (there, far));
                self.peers.insert(near.clone(), far.clone());
                self.peers.insert(far, near);
                Ok(())
            }
            Change::DeleteLink { name } => {
                if let Some(index) = self.namespace(here)?.find(&name) {
                    self.remove_link((here.to_owned(), index));
                }
                Ok(())
            }
            Change::SetUp { name, up } => self.namespace(here)?.set_up(&name, up),
            Change::SetMtu { name, mtu } => {
                self.namespace(here)?.link(&name)?.mtu = mtu;
                Ok(())
            }
            Change::SetMac { name, mac } => {
                self.namespace(here)?.link(&name)?.mac = Some(mac);
                Ok(())
            }
            Change::ReplaceAddress { link, prefix } => self.namespace(here)?.add_address(&link, prefix),
            Change::DeleteAddress { link, prefix } => self.namespace(here)?.remove_address(&link, prefix),
            Change::ReplaceRoute(route) => self.namespace(here)?.set_route(route, true),
            Change::DeleteRoute(route) => {
                self.namespace(here)?.delete_route(&route);
                Ok(())
            }
            Change::ReplaceNeighbour { link, address, mac } => self.namespace(here)?.set_neighbour(&link, address, mac),
            Change::SetKernelParameter { name, value, optional } => self.namespace(here)?.set_parameter(&name, value, optional),
        }
    }
}

/// A hardware address where nobody asks for one: locally administered, made from the name.
fn made_up(name: &str) -> MacAddress {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut mac = [0x02; 6];
    mac[1..].copy_from_slice(&hash.to_be_bytes()[..5]);
    mac
}

impl Links for SimLinks {
    fn apply(&self, namespace: Option<&Path>, changes: Vec<Change>) -> Answer<()> {
        self.call(namespace, move |state, here| {
            for change in changes {
                let named = |error: io::Error| io::Error::new(error.kind(), format!("{change:?}: {error}"));
                state.apply(here, change.clone()).map_err(named)?;
            }
            Ok(())
        })
    }

    fn list_links(&self, namespace: Option<&Path>) -> Answer<Vec<Link>> {
        self.call(namespace, |state, here| Ok(state.namespace(here)?.links.values().cloned().collect()))
    }

    fn list_addresses(&self, namespace: Option<&Path>) -> Answer<Vec<LinkAddress>> {
        self.call(namespace, |state, here| Ok(state.namespace(here)?.list_addresses()))
    }

    fn list_routes(&self, namespace: Option<&Path>) -> Answer<Vec<ListedRoute>> {
        self.call(namespace, |state, here| Ok(state.namespace(here)?.list_routes()))
    }
}

#[cfg(test)]
mod tests;
