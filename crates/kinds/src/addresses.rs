//! IP addresses and CIDRs in fields.
//!
//! Source: apimachinery pkg/util/validation/ip.go and kubernetes pkg/apis/core/validation.

use std::net::IpAddr;

use crate::field::{Errors, Path};

/// An IP address.
pub(crate) fn validate(errors: &mut Errors, path: &Path<'_>, value: &str) -> Option<IpAddr> {
    let parsed = value.parse().ok();
    if parsed.is_none() {
        errors.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    parsed
}

/// A CIDR.
pub(crate) fn validate_cidr(errors: &mut Errors, path: &Path<'_>, value: &str) {
    let ok = value.split_once('/').is_some_and(|(address, bits)| {
        address
            .parse::<IpAddr>()
            .is_ok_and(|address| bits.parse::<u8>().is_ok_and(|bits| bits <= if address.is_ipv4() { 32 } else { 128 }))
    });
    if !ok {
        errors.invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}

/// An address that traffic can be sent to.
pub(crate) fn validate_endpoint(errors: &mut Errors, path: &Path<'_>, value: &str) {
    let Ok(address) = value.parse::<IpAddr>() else {
        errors.invalid(path, value, "must be a valid IP address");
        return;
    };
    if address.is_unspecified() {
        errors.invalid(path, value, format!("may not be unspecified ({value})"));
    }
    if address.is_loopback() {
        errors.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local {
        errors.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    let link_local_multicast = match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    if link_local_multicast {
        errors.invalid(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}
