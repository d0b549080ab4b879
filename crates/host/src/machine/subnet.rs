//! The range of addresses that a cluster's machines live in: one `10.88.N.0/24` that this host does not use yet.
#![expect(clippy::disallowed_methods, reason = "waits for other processes")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

use daruma_world::links::{Prefix, Route, Target};
use serde::{Deserialize, Serialize};

use super::{Doing, MachineError};
use crate::netlink::Socket;
use crate::netlink::route::{self, Owner};

/// So late that every other route to the range is preferred.
const LAST_METRIC: u32 = 4_278_198_272;

/// A `/24` of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The network address.
    pub network: Ipv4Addr,
}

impl Subnet {
    /// Length of the network prefix.
    pub const PREFIX: u8 = 24;

    /// The host's own address: `.1`.
    pub fn host(self) -> Ipv4Addr {
        self.at(1)
    }

    /// The address with this last octet.
    pub fn at(self, last: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.network.octets();
        Ipv4Addr::new(a, b, c, last)
    }

    /// The subnet of the cluster below `root`: the one chosen before, or one that is free now.
    ///
    /// It is reserved with a file and an `unreachable` route, which the supervisor takes over and removes.
    ///
    /// # Errors
    /// When all of `10.88.0.0/16` is taken, or the system refuses.
    pub fn choose(root: &Path, cluster: &str) -> Result<Self, MachineError> {
        fs::create_dir_all(root.join(cluster)).doing(|| format!("making {}", root.join(cluster).display()))?;
        // Two clusters that start at once, even below different roots, must not choose the same range.
        let _lock = lock().doing(|| "waiting for other clusters that choose their addresses".to_owned())?;
        let mut host = Socket::route().doing(|| "asking for the host's routes".to_owned())?;
        let subnet = match Self::chosen(root, cluster) {
            Some(subnet) => subnet,
            None => Self::choose_new(root, cluster, &mut host)?,
        };
        subnet.reserve(&mut host).doing(|| format!("reserving {}/24", subnet.network))?;
        Ok(subnet)
    }

    fn choose_new(root: &Path, cluster: &str, host: &mut Socket) -> Result<Self, MachineError> {
        let mut taken = route::ranges(host).doing(|| "reading the host's routes".to_owned())?;
        // Clusters that are down have no routes, but they keep their addresses.
        for entry in fs::read_dir(root).doing(|| format!("listing {}", root.display()))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            taken.extend(Self::chosen(root, &name).map(Self::range));
        }
        let full = "every range of 10.88.0.0/16 is in use on this host; take clusters down that are not needed";
        let subnet = first_free(&taken).ok_or_else(|| io::Error::other(full));
        let subnet = subnet.doing(|| "choosing the addresses of the machines".to_owned())?;
        let path = root.join(cluster).join("subnet");
        let written = fs::File::create(&path).and_then(|mut file| {
            writeln!(file, "{}", subnet.network)?;
            file.sync_all()
        });
        written.doing(|| format!("writing {}", path.display()))?;
        Ok(subnet)
    }

    /// Makes the range unreachable on this host where no better route to it exists, so that nobody else takes it.
    pub(super) fn reserve(self, host: &mut Socket) -> io::Result<()> {
        route::replace(host, &self.reservation(), Owner::Machine)
    }

    /// Undoes [`Self::reserve`].
    pub(super) fn release(self, host: &mut Socket) -> io::Result<()> {
        route::delete(host, &self.reservation(), Owner::Machine)
    }

    fn reservation(self) -> Route {
        Route { destination: self.range(), metric: LAST_METRIC, target: Target::Unreachable }
    }

    fn range(self) -> Prefix {
        Prefix::new(self.network, Self::PREFIX)
    }

    /// The subnet that was chosen for the cluster, if any.
    pub fn chosen(root: &Path, cluster: &str) -> Option<Self> {
        let mut text = String::new();
        fs::File::open(root.join(cluster).join("subnet")).ok()?.read_to_string(&mut text).ok()?;
        Some(Self { network: text.trim().parse().ok()? })
    }
}

/// The name of the host's end of the cluster's uplink: short, and different for every root and cluster.
pub fn uplink_name(root: &Path, cluster: &str) -> String {
    let hash = super::spec::fnv(format!("{}/{cluster}", root.display()).as_bytes());
    format!("dr{:08x}", (hash ^ (hash >> 32)) as u32)
}

/// A lock of the whole host without a file: an abstract socket name belongs to one process at a time.
fn lock() -> io::Result<UnixDatagram> {
    let name = SocketAddr::from_abstract_name("daruma-subnets")?;
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match UnixDatagram::bind_addr(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

fn first_free(taken: &[Prefix]) -> Option<Subnet> {
    (0..=255_u8).map(|third| Ipv4Addr::new(10, 88, third, 0)).find_map(|network| {
        let free = taken.iter().all(|other| {
            let shorter = Prefix::new(network, other.length.min(Subnet::PREFIX));
            !shorter.contains(other.address)
        });
        free.then_some(Subnet { network })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_first_range_that_nothing_covers() {
        let at = |third, length| Prefix::new(Ipv4Addr::new(10, 88, third, 0), length);
        let check = |taken: &[Prefix], expected: Option<u8>| {
            let expected = expected.map(|third| Subnet { network: Ipv4Addr::new(10, 88, third, 0) });
            assert_eq!(first_free(taken), expected, "{taken:?}");
        };
        check(&[], Some(0));
        check(&[at(0, 24), Prefix::host(Ipv4Addr::new(10, 88, 1, 77))], Some(2));
        check(&[at(0, 23), Prefix::new(Ipv4Addr::new(192, 0, 2, 0), 24)], Some(2));
        check(&[Prefix::new(Ipv4Addr::new(10, 0, 0, 0), 8)], None);
    }

    #[test]
    fn uplinks_of_different_roots_differ() {
        let name = uplink_name(Path::new("/a"), "demo");
        assert!(name.len() <= 15);
        assert_ne!(name, uplink_name(Path::new("/b"), "demo"));
        assert_ne!(name, uplink_name(Path::new("/a"), "demo2"));
    }
}
