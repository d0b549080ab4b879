//! Network name spaces: a machine's own, a pod's, the outside's. Sockets are bound in one.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tcp::Backlog;
use super::udp::UdpInner;
use crate::place::Place;
use crate::scope::Attachment;
use crate::wire::HttpServer;

/// First port that the kernel chooses itself: Linux `ip_local_port_range`.
const FIRST_FREE_PORT: u16 = 32_768;
/// How many there are.
const FREE_PORTS: u16 = 28_232;

/// An address and a port.
pub(crate) type Endpoint = (Ipv4Addr, u16);

/// Whose network it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpaceKind {
    /// Of those who stand outside of the cluster.
    Outside,
    /// The machine's own.
    Machine,
    /// A pod's.
    Pod,
}

/// Who answers at a TCP port.
#[derive(Clone)]
pub(crate) enum Server {
    /// A listener of byte streams.
    Stream(Arc<Backlog>),
    /// A server of HTTP requests.
    Http(Arc<HttpServer>),
}

struct Bound<T> {
    /// `None` for all addresses of the space.
    ip: Option<Ipv4Addr>,
    what: T,
}

struct Ports<T>(BTreeMap<u16, Vec<Bound<T>>>);

impl<T> Default for Ports<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone> Ports<T> {
    fn bind(&mut self, ip: Option<Ipv4Addr>, port: u16, what: T) -> io::Result<()> {
        let bound = self.0.entry(port).or_default();
        if bound.iter().any(|one| one.ip == ip || one.ip.is_none() || ip.is_none()) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("somebody listens at port {port} already")));
        }
        bound.push(Bound { ip, what });
        Ok(())
    }

    fn find(&self, ip: Ipv4Addr, port: u16) -> Option<T> {
        let bound = self.0.get(&port)?;
        let exact = bound.iter().find(|one| one.ip == Some(ip)).or_else(|| bound.iter().find(|one| one.ip.is_none()));
        exact.map(|one| one.what.clone())
    }

    fn unbind(&mut self, port: u16, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let bound = self.0.get_mut(&port)?;
        let place = bound.iter().position(|one| is_it(&one.what))?;
        let gone = bound.swap_remove(place).what;
        if bound.is_empty() {
            self.0.remove(&port);
        }
        Some(gone)
    }
}

#[derive(Default)]
struct State {
    addresses: Vec<Ipv4Addr>,
    tcp: Ports<Server>,
    udp: Ports<Arc<UdpInner>>,
    ports_given: u16,
    /// What takes addresses away with their scope.
    leases: BTreeMap<Ipv4Addr, Arc<dyn Attachment>>,
}

/// One network name space.
pub(crate) struct Space {
    pub(crate) place: Arc<Place>,
    pub(crate) kind: SpaceKind,
    state: Mutex<State>,
}

/// IPv4 and what of IPv6 means the same.
pub(crate) fn endpoint(address: SocketAddr) -> io::Result<Endpoint> {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Ipv4Addr::LOCALHOST,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NetworkUnreachable, format!("{address}: the virtual world has no IPv6"))
        })?,
    };
    Ok((ip, address.port()))
}

impl Space {
    pub(crate) fn new(place: &Arc<Place>, kind: SpaceKind, addresses: Vec<Ipv4Addr>) -> Arc<Self> {
        let state = State { addresses, ..State::default() };
        Arc::new(Self { place: place.clone(), kind, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_address(&self, ip: Ipv4Addr) {
        self.state().addresses.push(ip);
    }

    pub(crate) fn remove_address(&self, ip: Ipv4Addr) {
        let lease = {
            let mut state = self.state();
            state.addresses.retain(|one| *one != ip);
            state.leases.remove(&ip)
        };
        drop(lease);
    }

    /// Keeps an address's lease.
    pub(crate) fn keep(&self, ip: Ipv4Addr, lease: Arc<dyn Attachment>) {
        self.state().leases.insert(ip, lease);
    }

    /// The address that packets to others carry.
    pub(crate) fn source_ip(&self) -> Ipv4Addr {
        self.state().addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST)
    }

    /// A port that is not in use.
    pub(crate) fn free_port(&self) -> u16 {
        let mut state = self.state();
        for _ in 0..FREE_PORTS {
            let port = FIRST_FREE_PORT + state.ports_given % FREE_PORTS;
            state.ports_given = state.ports_given.wrapping_add(1);
            if !state.tcp.0.contains_key(&port) && !state.udp.0.contains_key(&port) {
                return port;
            }
        }
        FIRST_FREE_PORT
    }

    /// What a socket is bound to: an address of this space, or all; a port of our choice for 0.
    fn bindable(&self, at: SocketAddr) -> io::Result<(Option<Ipv4Addr>, u16)> {
        let (ip, port) = endpoint(at)?;
        let port = if port == 0 { self.free_port() } else { port };
        if ip.is_unspecified() {
            return Ok((None, port));
        }
        // Outside, every address that is nobody's is one of one's own.
        let is_own = self.kind == SpaceKind::Outside || ip.is_loopback() || self.state().addresses.contains(&ip);
        if is_own {
            Ok((Some(ip), port))
        } else {
            Err(io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{ip} is no address of this machine")))
        }
    }

    /// Binds a TCP server; gives its address.
    pub(crate) fn bind_tcp(&self, at: SocketAddr, server: Server) -> io::Result<SocketAddr> {
        let (ip, port) = self.bindable(at)?;
        self.state().tcp.bind(ip, port, server)?;
        Ok(SocketAddr::new(at.ip(), port))
    }

    pub(crate) fn unbind_tcp(&self, port: u16, is_it: impl Fn(&Server) -> bool) {
        let gone = self.state().tcp.unbind(port, is_it);
        drop(gone);
    }

    pub(crate) fn tcp_server(&self, (ip, port): Endpoint) -> Option<Server> {
        self.state().tcp.find(ip, port)
    }

    /// Binds a UDP socket; `make` gets its address.
    pub(crate) fn bind_udp(
        &self,
        at: SocketAddr,
        make: impl FnOnce(Option<Ipv4Addr>, SocketAddr) -> Arc<UdpInner>,
    ) -> io::Result<Arc<UdpInner>> {
        let (ip, port) = self.bindable(at)?;
        let socket = make(ip, SocketAddr::new(at.ip(), port));
        self.state().udp.bind(ip, port, socket.clone())?;
        Ok(socket)
    }

    pub(crate) fn unbind_udp(&self, port: u16, is_it: impl Fn(&Arc<UdpInner>) -> bool) {
        let gone = self.state().udp.unbind(port, is_it);
        drop(gone);
    }

    pub(crate) fn udp_socket(&self, (ip, port): Endpoint) -> Option<Arc<UdpInner>> {
        self.state().udp.find(ip, port)
    }
}
