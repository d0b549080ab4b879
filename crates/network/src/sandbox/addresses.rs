//! Which pod address comes next: pure.
//!
//! As the CNI plugin `host-local` does it: one after the other through the whole range, so that an
//! address that was just given back stays unused for as long as possible.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use daruma_world::links::Prefix;

/// Addresses in use, by sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Address of each sandbox.
    pub of_sandbox: BTreeMap<String, Ipv4Addr>,
    /// The address given out last.
    pub last: Option<Ipv4Addr>,
    /// All addresses up to this one count as given out after a restart.
    pub reserved: Option<Ipv4Addr>,
}

/// How many addresses are reserved with one durable write.
const RESERVE: u64 = 16;

impl Addresses {
    /// Takes the next free address of `range` for a sandbox; `None` where all are in use. The network's
    /// own, its first (the customary gateway) and its last address are never given out.
    pub fn take(&mut self, range: Prefix, sandbox: &str) -> Option<Ipv4Addr> {
        let after = self.last.filter(|last| range.contains(*last)).map_or(1, |last| index(range, last));
        let candidates = (1..=range.size()).map(|step| (after + step) % range.size());
        let mut usable = candidates.filter(|index| (2..range.size() - 1).contains(index)).map(|index| range.nth(index));
        let address = usable.find(|address| !self.of_sandbox.values().any(|used| used == address))?;
        self.last = Some(address);
        self.of_sandbox.insert(sandbox.to_owned(), address);
        Some(address)
    }

    /// Whether `last` has passed what is reserved; gives the new reservation, which must be on disk
    /// before the address is used.
    pub fn reserve(&mut self, range: Prefix) -> Option<Ipv4Addr> {
        let last = index(range, self.last?);
        let within = self.reserved.filter(|reserved| range.contains(*reserved)).is_some_and(|reserved| {
            let reserved = index(range, reserved);
            (last..last + RESERVE).contains(&reserved)
        });
        if within {
            return None;
        }
        self.reserved = Some(range.nth((last + RESERVE - 1).min(range.size() - 2)));
        self.reserved
    }
}

fn index(range: Prefix, address: Ipv4Addr) -> u64 {
    u64::from(u32::from(address) & !range.mask())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_one_after_the_other() {
        let range: Prefix = "10.244.1.0/28".parse().expect("a prefix");
        let mut addresses = Addresses::default();
        let take = |addresses: &mut Addresses, sandbox: &str| addresses.take(range, sandbox).map(|address| address.octets()[3]);
        assert_eq!(take(&mut addresses, "a"), Some(2));
        assert_eq!(take(&mut addresses, "b"), Some(3));
        addresses.of_sandbox.remove("a");
        assert_eq!(take(&mut addresses, "c"), Some(4));
        for number in 5..=14 {
            assert_eq!(take(&mut addresses, &number.to_string()), Some(number));
        }
        assert_eq!(take(&mut addresses, "d"), Some(2), "wraps around to what was given back");
        assert_eq!(take(&mut addresses, "e"), None, "full");
        let other: Prefix = "10.244.2.0/24".parse().expect("a prefix");
        assert_eq!(addresses.take(other, "f"), Some(Ipv4Addr::new(10, 244, 2, 2)), "another range starts anew");
    }

    #[test]
    fn a_restart_goes_on_behind_the_reservation() {
        let range: Prefix = "10.244.1.0/24".parse().expect("a prefix");
        let mut addresses = Addresses::default();
        let mut writes = 0;
        for number in 0..40 {
            addresses.take(range, &number.to_string());
            writes += usize::from(addresses.reserve(range).is_some());
        }
        assert_eq!(writes, 3);
        let mut restarted = Addresses { last: addresses.reserved, reserved: addresses.reserved, ..Addresses::default() };
        let next = restarted.take(range, "x").expect("free");
        assert!(!addresses.of_sandbox.values().any(|used| *used == next));
        assert!(restarted.reserve(range).is_some());
    }
}
