//! Network links, addresses, routes and kernel network settings of one machine.
//!
//! What is to be done is data ([`Change`]), so that components plan it purely and a world carries it
//! out in order. IPv4 only.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures::future::BoxFuture;

/// A hardware address.
pub type MacAddress = [u8; 6];

type Answer<T> = BoxFuture<'static, io::Result<T>>;

/// An IPv4 address with the length of its network part, e.g. `10.244.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The address; host bits may be set.
    pub address: Ipv4Addr,
    /// Bits of the network part, 0 to 32.
    pub length: u8,
}

impl Prefix {
    /// Everything.
    pub const ALL: Self = Self { address: Ipv4Addr::UNSPECIFIED, length: 0 };

    /// Puts the two together; `length` above 32 counts as 32.
    pub const fn new(address: Ipv4Addr, length: u8) -> Self {
        Self { address, length: if length > 32 { 32 } else { length } }
    }

    /// A single address.
    pub const fn host(address: Ipv4Addr) -> Self {
        Self { address, length: 32 }
    }

    /// Ones in the network part.
    pub const fn mask(self) -> u32 {
        if self.length == 0 { 0 } else { u32::MAX << (32 - self.length) }
    }

    /// The same network with no host bits set.
    pub fn network(self) -> Self {
        Self { address: Ipv4Addr::from(u32::from(self.address) & self.mask()), length: self.length }
    }

    /// Whether `address` lies in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.address) & self.mask()
    }

    /// How many addresses the network has.
    pub const fn size(self) -> u64 {
        1 << (32 - self.length)
    }

    /// The `index`-th address of the network, counted from its first; wraps around its end.
    pub fn nth(self, index: u64) -> Ipv4Addr {
        Ipv4Addr::from((u32::from(self.address) & self.mask()) + (index % self.size()) as u32)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The text is no IPv4 prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv4 prefix (ADDRESS/LENGTH)")]
pub struct PrefixError(pub String);

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let length = length.parse::<u8>().ok().filter(|length| *length <= 32)?;
            Some(Self { address: address.parse().ok()?, length })
        });
        parsed.ok_or_else(|| PrefixError(text.to_owned()))
    }
}

/// Where packets go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Out of a link, to a neighbour on it or by way of one.
    Link {
        /// Name of the link.
        link: String,
        /// The router; `None` where the destination is a neighbour itself.
        via: Option<Ipv4Addr>,
        /// The router is a neighbour although no address of ours says so.
        on_link: bool,
        /// Address that own packets carry; `None` lets the kernel choose.
        source: Option<Ipv4Addr>,
    },
    /// Refused with an ICMP message.
    Unreachable,
}

/// A route in the main table. Destination and metric identify it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Network that is reached.
    pub destination: Prefix,
    /// The lowest metric of equal destinations wins.
    pub metric: u32,
    /// Where packets go.
    pub target: Target,
}

impl Route {
    /// To neighbours on `link`.
    pub fn on(link: &str, destination: Prefix) -> Self {
        let target = Target::Link { link: link.to_owned(), via: None, on_link: false, source: None };
        Self { destination, metric: 0, target }
    }

    /// By way of the router `via` on `link`.
    pub fn via(link: &str, via: Ipv4Addr, destination: Prefix) -> Self {
        let target = Target::Link { link: link.to_owned(), via: Some(via), on_link: false, source: None };
        Self { destination, metric: 0, target }
    }
}

/// One step. Each is idempotent unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes two links joined back to back, both down. Not idempotent: an existing name is an error.
    AddVeth {
        /// Name of the near end.
        name: String,
        /// Hardware address of the near end; `None` lets the kernel choose.
        mac: Option<MacAddress>,
        /// Name of the far end.
        peer: String,
        /// Hardware address of the far end; `None` lets the kernel choose.
        peer_mac: Option<MacAddress>,
        /// Network namespace of the far end; `None` is that of the near end.
        peer_namespace: Option<PathBuf>,
        /// Largest packet in bytes, for both ends.
        mtu: u32,
    },
    /// Deletes a link (and its peer). A missing one is fine.
    DeleteLink {
        /// Name of the link.
        name: String,
    },
    /// Turns a link on or off.
    SetUp {
        /// Name of the link.
        name: String,
        /// On.
        up: bool,
    },
    /// Sets a link's largest packet in bytes.
    SetMtu {
        /// Name of the link.
        name: String,
        /// Bytes.
        mtu: u32,
    },
    /// Sets a link's hardware address.
    SetMac {
        /// Name of the link.
        name: String,
        /// The address.
        mac: MacAddress,
    },
    /// Gives a link an address.
    ReplaceAddress {
        /// Name of the link.
        link: String,
        /// Address and length of its network.
        prefix: Prefix,
    },
    /// Takes an address from a link. A missing one is fine.
    DeleteAddress {
        /// Name of the link.
        link: String,
        /// Address and length of its network.
        prefix: Prefix,
    },
    /// Sets a route, marked as ours.
    ReplaceRoute(Route),
    /// Deletes a route that is ours. A missing one is fine.
    DeleteRoute(Route),
    /// Says for ever which hardware address a neighbour has.
    ReplaceNeighbour {
        /// Name of the link.
        link: String,
        /// The neighbour.
        address: Ipv4Addr,
        /// Its hardware address.
        mac: MacAddress,
    },
    /// Writes a kernel parameter below `/proc/sys/net`.
    SetKernelParameter {
        /// Path below `/proc/sys/net`, e.g. `ipv4/ip_forward`.
        name: String,
        /// The value.
        value: String,
        /// A kernel without this parameter is fine.
        optional: bool,
    },
}

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Number of the link in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Driver, e.g. `veth`; empty for hardware and loopback.
    pub kind: String,
    /// Turned on.
    pub up: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Hardware address, where it has one.
    pub mac: Option<MacAddress>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// An address as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAddress {
    /// Name of the link.
    pub link: String,
    /// Address and length of its network.
    pub prefix: Prefix,
}

/// A route as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRoute {
    /// The route.
    pub route: Route,
    /// It was set through [`Change::ReplaceRoute`], by this or an earlier process.
    pub ours: bool,
}

/// Links, addresses and routes of a machine. `namespace` is the path of a network namespace,
/// `None` the machine's own.
pub trait Links: Send + Sync {
    /// Carries out `changes` in order; stops at the first that fails, and says which.
    fn apply(&self, namespace: Option<&Path>, changes: Vec<Change>) -> Answer<()>;
    /// All links, ordered by number.
    fn list_links(&self, namespace: Option<&Path>) -> Answer<Vec<Link>>;
    /// All IPv4 addresses.
    fn list_addresses(&self, namespace: Option<&Path>) -> Answer<Vec<LinkAddress>>;
    /// All IPv4 unicast and unreachable routes of the main table.
    fn list_routes(&self, namespace: Option<&Path>) -> Answer<Vec<ListedRoute>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_parse_and_contain() {
        let prefix: Prefix = "10.244.1.7/24".parse().expect("parses");
        assert_eq!(prefix.network().to_string(), "10.244.1.0/24");
        assert!(prefix.contains(Ipv4Addr::new(10, 244, 1, 255)) && !prefix.contains(Ipv4Addr::new(10, 244, 2, 0)));
        assert_eq!((prefix.size(), prefix.nth(2)), (256, Ipv4Addr::new(10, 244, 1, 2)));
        assert!(Prefix::ALL.contains(Ipv4Addr::LOCALHOST));
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "a/1", "fd00::/64"] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }
}
