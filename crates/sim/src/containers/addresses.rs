//! Addresses of a machine's pods: the file that the network agent writes, and which address is next.
//!
//! As the CNI plugin `host-local` does it: one after the other through the whole range, so that an
//! address that was just given back stays unused for as long as possible; after a loss of power on
//! behind what was reserved.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use daruma_world::World;
use daruma_world::links::Prefix;
use serde::Deserialize;

/// What containerd says while it has no network plugin.
const NO_PLUGIN: &str = "Network plugin returns error: cni plugin not initialized";
/// How many addresses are reserved at a time.
const RESERVE: u64 = 16;

#[derive(Deserialize)]
struct NetworkFile {
    #[serde(rename = "podCIDR")]
    pod_range: String,
    #[allow(dead_code, reason = "a file without it is refused")]
    mtu: u32,
}

/// The machine's range of pod addresses, or why pods cannot get a network.
pub(super) async fn range(world: &World, path: &Path) -> Result<Prefix, String> {
    let content = match world.disk.read(path).await {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NO_PLUGIN.to_owned()),
        Err(error) => return Err(format!("Network plugin returns error: read {}: {error}", path.display())),
    };
    let wrong = |why: String| format!("Network plugin returns error: {} is invalid: {why}", path.display());
    let file: NetworkFile = serde_json::from_slice(&content).map_err(|error| wrong(error.to_string()))?;
    let range: Prefix = file.pod_range.parse().map_err(|error: daruma_world::links::PrefixError| wrong(error.to_string()))?;
    if range.length > 30 { Err(wrong(format!("range {range} is too small"))) } else { Ok(range.network()) }
}

/// Addresses in use.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    of_sandbox: BTreeMap<String, Ipv4Addr>,
    last: Option<Ipv4Addr>,
    reserved: Option<Ipv4Addr>,
}

impl Addresses {
    /// Takes the next free address of `range` for a sandbox; `None` where all are in use. The network's
    /// own, its first and its last address are never given out.
    pub(super) fn take(&mut self, range: Prefix, sandbox: &str) -> Option<Ipv4Addr> {
        let after = self.last.filter(|last| range.contains(*last)).map_or(1, |last| index(range, last));
        let candidates = (1..=range.size()).map(|step| (after + step) % range.size());
        let mut usable = candidates.filter(|index| (2..range.size() - 1).contains(index)).map(|index| range.nth(index));
        let address = usable.find(|address| !self.of_sandbox.values().any(|used| used == address))?;
        self.last = Some(address);
        self.of_sandbox.insert(sandbox.to_owned(), address);
        let here = index(range, address);
        let within = self
            .reserved
            .filter(|reserved| range.contains(*reserved))
            .is_some_and(|reserved| (here..here + RESERVE).contains(&index(range, reserved)));
        if !within {
            self.reserved = Some(range.nth((here + RESERVE - 1).min(range.size() - 2)));
        }
        Some(address)
    }

    /// Gives a sandbox's address back.
    pub(super) fn free(&mut self, sandbox: &str) -> Option<Ipv4Addr> {
        self.of_sandbox.remove(sandbox)
    }

    /// The power was gone: nobody has an address; what was reserved counts as given out.
    pub(super) fn restart(&mut self) {
        self.of_sandbox.clear();
        self.last = self.reserved;
    }

    /// Nobody has an address any more.
    pub(super) fn clear(&mut self) {
        self.of_sandbox.clear();
    }
}

fn index(range: Prefix, address: Ipv4Addr) -> u64 {
    u64::from(u32::from(address) & !range.mask())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other() {
        let range: Prefix = "10.244.1.0/27".parse().unwrap();
        let mut addresses = Addresses::default();
        let take = |addresses: &mut Addresses, sandbox: &str| addresses.take(range, sandbox).map(|address| address.octets()[3]);
        assert_eq!((take(&mut addresses, "a"), take(&mut addresses, "b")), (Some(2), Some(3)));
        addresses.free("a");
        assert_eq!(take(&mut addresses, "c"), Some(4), "what was just given back is not used again");
        addresses.restart();
        assert_eq!(take(&mut addresses, "d"), Some(18), "behind the reservation");
        for number in 0..28 {
            assert!(take(&mut addresses, &number.to_string()).is_some() || number == 28);
        }
        assert_eq!(take(&mut addresses, "e"), None, "full");
    }
}
