//! IP addresses and ranges of them.
//!
//! Source: apiserver pkg/cel/library/{ip,cidr}.go.

use std::any::Any;
use std::net::IpAddr;

use cel::common::types::{STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::arguments::{Answer, fault, text, truth, typed, whole, words};

static IP: Type = Type::new_unspecified_type("net.IP");
static CIDR: Type = Type::new_unspecified_type("net.CIDR");

/// An address.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ip(IpAddr);

/// A range: an address in it and how many bits are its prefix.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cidr(IpAddr, u8);

macro_rules! value {
    ($kind:ty, $name:ident) => {
        impl Val for $kind {
            fn get_type(&self) -> &Type {
                &$name
            }
            fn cel_type() -> &'static Type {
                &$name
            }
            fn equals(&self, other: &dyn Val) -> bool {
                other.downcast_ref::<Self>() == Some(self)
            }
            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
                Box::new(*self)
            }
            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }
        }
        impl StaticVal for $kind {}
    };
}
value!(Ip, IP);
value!(Cidr, CIDR);

/// Addresses as Go reads them, without zones and without IPv4 in IPv6.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (!mapped).then_some(address)
}

fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, bits) = text.split_once('/')?;
    let address = parse_ip(address)?;
    let plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok()?;
    (plain && bits <= width(address)).then_some(Cidr(address, bits))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address with all but the first bits cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

impl Cidr {
    fn contains(self, address: IpAddr) -> bool {
        width(self.0) == width(address) && masked(address, self.1) == masked(self.0, self.1)
    }
}

fn address(args: &[CowVal<'_, '_>]) -> Result<IpAddr, ExecutionError> {
    typed::<Ip>(args, 0).map(|ip| ip.0)
}

/// An argument that is an address or the text of one.
fn as_ip(args: &[CowVal<'_, '_>], index: usize) -> Result<IpAddr, ExecutionError> {
    if let Ok(ip) = typed::<Ip>(args, index) {
        return Ok(ip.0);
    }
    let source = text(args, index)?;
    parse_ip(source).ok_or_else(|| fault("ip", format!("IP Address {source:?} parse error during conversion from string")))
}

fn as_cidr(args: &[CowVal<'_, '_>], index: usize) -> Result<Cidr, ExecutionError> {
    if let Ok(cidr) = typed::<Cidr>(args, index) {
        return Ok(*cidr);
    }
    let source = text(args, index)?;
    parse_cidr(source)
        .ok_or_else(|| fault("cidr", format!("network address parse error during conversion from string: {source:?}")))
}

/// Declares them.
pub(super) fn declare(environment: &mut Env) -> Result<(), DeclarationError> {
    let (ip, cidr, string) = (|| IP.to_owned(), || CIDR.to_owned(), || vec![STRING_TYPE]);
    environment.add_overload("ip", "ip(string)", string(), |args| Ok(CowVal::owned(Ip(as_ip(&args, 0)?))))?;
    environment.add_overload("isIP", "isIP(string)", string(), |args| truth(parse_ip(text(&args, 0)?).is_some()))?;
    environment.add_overload("ip.isCanonical", "ip.isCanonical(string)", string(), |args| {
        truth(as_ip(&args, 0)?.to_string() == text(&args, 0)?)
    })?;
    environment.add_overload("string", "string(ip)", vec![ip()], |args| words(address(&args)?.to_string()))?;
    environment.add_member_overload("family", "ip.family()", ip(), vec![], |args| {
        whole(if address(&args)?.is_ipv4() { 4 } else { 6 })
    })?;
    environment
        .add_member_overload("isLoopback", "ip.isLoopback()", ip(), vec![], |args| truth(address(&args)?.is_loopback()))?;
    environment.add_member_overload("isUnspecified", "ip.isUnspecified()", ip(), vec![], |args| {
        truth(address(&args)?.is_unspecified())
    })?;
    environment.add_member_overload("isLinkLocalUnicast", "ip.isLinkLocalUnicast()", ip(), vec![], |args| {
        truth(is_link_local(address(&args)?))
    })?;
    environment.add_member_overload("isLinkLocalMulticast", "ip.isLinkLocalMulticast()", ip(), vec![], |args| {
        truth(match address(&args)? {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        })
    })?;
    environment.add_member_overload("isGlobalUnicast", "ip.isGlobalUnicast()", ip(), vec![], |args| {
        let address = address(&args)?;
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
        truth(!(broadcast || special || is_link_local(address)))
    })?;
    environment.add_overload("cidr", "cidr(string)", string(), |args| Ok(CowVal::owned(as_cidr(&args, 0)?)))?;
    environment.add_overload("isCIDR", "isCIDR(string)", string(), |args| truth(parse_cidr(text(&args, 0)?).is_some()))?;
    environment.add_overload("string", "string(cidr)", vec![cidr()], |args| {
        let Cidr(address, bits) = *typed::<Cidr>(&args, 0)?;
        words(format!("{address}/{bits}"))
    })?;
    for (id, of) in [("ip", ip()), ("string", STRING_TYPE)] {
        environment.add_member_overload("containsIP", &format!("cidr.containsIP({id})"), cidr(), vec![of], contains_ip)?;
    }
    for (id, of) in [("cidr", cidr()), ("string", STRING_TYPE)] {
        environment.add_member_overload("containsCIDR", &format!("cidr.containsCIDR({id})"), cidr(), vec![of], contains_cidr)?;
    }
    environment
        .add_member_overload("ip", "cidr.ip()", cidr(), vec![], |args| Ok(CowVal::owned(Ip(typed::<Cidr>(&args, 0)?.0))))?;
    environment.add_member_overload("masked", "cidr.masked()", cidr(), vec![], |args| {
        let Cidr(address, bits) = *typed::<Cidr>(&args, 0)?;
        Ok(CowVal::owned(Cidr(masked(address, bits), bits)))
    })?;
    environment.add_member_overload("prefixLength", "cidr.prefixLength()", cidr(), vec![], |args| {
        whole(i64::from(typed::<Cidr>(&args, 0)?.1))
    })
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn contains_ip<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    truth(as_cidr(&args, 0)?.contains(as_ip(&args, 1)?))
}

fn contains_cidr<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let (outer, inner) = (as_cidr(&args, 0)?, as_cidr(&args, 1)?);
    truth(outer.1 <= inner.1 && outer.contains(inner.0))
}
