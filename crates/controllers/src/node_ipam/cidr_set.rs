//! Equal slices of a range, given out one by one.
//!
//! Source: kubernetes pkg/controller/nodeipam/ipam/cidrset/cidr_set.go.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Widest difference of prefix lengths for IPv6, so that the set stays small.
const WIDEST_V6: u8 = 16;

/// A network in the form `address/length`, address masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    bits: u128,
    length: u8,
    v6: bool,
}

/// Why a range cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not of the form.
    #[error("invalid CIDR address: {0}")]
    Invalid(String),
    /// Nothing is left.
    #[error("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")]
    Exhausted,
    /// The slices are larger than the range, or too many.
    #[error("New CIDR set failed; the node CIDR size is too big")]
    SliceSize,
    /// Not a part of the range.
    #[error("cidr {0} is out the range of cluster cidr {1}")]
    Outside(Cidr, Cidr),
}

impl Cidr {
    fn width(self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    fn size(self) -> u128 {
        1u128.checked_shl(u32::from(self.width() - self.length)).unwrap_or(0)
    }

    fn contains(self, other: Self) -> bool {
        self.v6 == other.v6 && self.length <= other.length && other.bits.wrapping_sub(self.bits) < self.size()
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let invalid = || CidrError::Invalid(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(invalid)?;
        let length: u8 = length.parse().map_err(|_| invalid())?;
        let (bits, v6) = match address.parse::<IpAddr>().map_err(|_| invalid())? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), false),
            IpAddr::V6(address) => (u128::from(address), true),
        };
        let unmasked = Self { bits, length, v6 };
        if length > unmasked.width() || length == 0 {
            return Err(invalid());
        }
        Ok(Self { bits: bits & !(unmasked.size() - 1), ..unmasked })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.v6 {
            write!(f, "{}/{}", Ipv6Addr::from(self.bits), self.length)
        } else {
            write!(f, "{}/{}", Ipv4Addr::from(self.bits as u32), self.length)
        }
    }
}

/// The slices of a range.
#[derive(Debug)]
pub struct CidrSet {
    range: Cidr,
    slice: u8,
    count: u128,
    used: BTreeSet<u128>,
    next: u128,
}

impl CidrSet {
    /// Slices of prefix length `slice`.
    ///
    /// # Errors
    /// [`CidrError::SliceSize`].
    pub fn new(range: Cidr, slice: u8) -> Result<Self, CidrError> {
        if slice < range.length || slice > range.width() || (range.v6 && slice - range.length > WIDEST_V6) {
            return Err(CidrError::SliceSize);
        }
        Ok(Self { range, slice, count: 1 << (slice - range.length), used: BTreeSet::new(), next: 0 })
    }

    /// Takes the next free slice; freed ones come again only after all others.
    ///
    /// # Errors
    /// [`CidrError::Exhausted`].
    pub fn allocate(&mut self) -> Result<Cidr, CidrError> {
        if self.used.len() as u128 >= self.count {
            return Err(CidrError::Exhausted);
        }
        let mut candidate = self.next;
        while self.used.contains(&candidate) {
            candidate = (candidate + 1) % self.count;
        }
        self.next = (candidate + 1) % self.count;
        self.used.insert(candidate);
        let bits = self.range.bits + (candidate << (self.range.width() - self.slice));
        Ok(Cidr { bits, length: self.slice, v6: self.range.v6 })
    }

    /// Marks every slice that `cidr` touches as used.
    ///
    /// # Errors
    /// [`CidrError::Outside`].
    pub fn occupy(&mut self, cidr: Cidr) -> Result<(), CidrError> {
        let (first, last) = self.indices(cidr)?;
        self.used.extend(first..=last);
        Ok(())
    }

    /// Marks every slice that `cidr` touches as free.
    ///
    /// # Errors
    /// [`CidrError::Outside`].
    pub fn release(&mut self, cidr: Cidr) -> Result<(), CidrError> {
        let (first, last) = self.indices(cidr)?;
        self.used.retain(|index| *index < first || *index > last);
        Ok(())
    }

    fn indices(&self, cidr: Cidr) -> Result<(u128, u128), CidrError> {
        if cidr.contains(self.range) {
            return Ok((0, self.count - 1));
        }
        if !self.range.contains(cidr) {
            return Err(CidrError::Outside(cidr, self.range));
        }
        let shift = self.range.width() - self.slice;
        let first = (cidr.bits - self.range.bits) >> shift;
        let last = (cidr.bits - self.range.bits + (cidr.size() - 1)) >> shift;
        Ok((first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(range: &str, slice: u8) -> CidrSet {
        CidrSet::new(range.parse().expect("a CIDR"), slice).expect("fits")
    }

    #[test]
    fn gives_slices_in_order_and_freed_ones_last() {
        let mut set = set("10.244.0.0/22", 24);
        let mut next = || set.allocate().map(|cidr| cidr.to_string());
        assert_eq!(next().as_deref(), Ok("10.244.0.0/24"));
        assert_eq!(next().as_deref(), Ok("10.244.1.0/24"));
        set.release("10.244.0.0/24".parse().expect("a CIDR")).expect("inside");
        let mut next = || set.allocate().map(|cidr| cidr.to_string());
        assert_eq!(next().as_deref(), Ok("10.244.2.0/24"));
        assert_eq!(next().as_deref(), Ok("10.244.3.0/24"));
        assert_eq!(next().as_deref(), Ok("10.244.0.0/24"));
        assert_eq!(next(), Err(CidrError::Exhausted));
    }

    #[test]
    fn occupies_what_it_touches() {
        let mut set = set("10.244.0.0/16", 24);
        set.occupy("10.244.0.0/23".parse().expect("a CIDR")).expect("inside");
        set.occupy("10.244.2.128/25".parse().expect("a CIDR")).expect("inside");
        assert_eq!(set.allocate().map(|cidr| cidr.to_string()).as_deref(), Ok("10.244.3.0/24"));
        assert!(set.occupy("10.96.0.0/12".parse().expect("a CIDR")).is_err());
    }

    #[test]
    fn knows_ipv6() {
        let mut set = set("fd00:10:244::/56", 64);
        assert_eq!(set.allocate().map(|cidr| cidr.to_string()).as_deref(), Ok("fd00:10:244::/64"));
        assert_eq!(set.allocate().map(|cidr| cidr.to_string()).as_deref(), Ok("fd00:10:244:1::/64"));
        assert!(CidrSet::new("fd00::/32".parse().expect("a CIDR"), 64).is_err());
        assert!("10.0.0.0".parse::<Cidr>().is_err());
    }
}
