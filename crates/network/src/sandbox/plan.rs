//! How a sandbox is attached: a pair of links back to back, an address of its own, and a router
//! address that exists only as a neighbour entry. Pure.
//!
//! The pod's address is a single one; all else, its own node included, is behind the router. So the
//! same rules hold for traffic to the same node, to other nodes and back to the pod itself.

use std::net::Ipv4Addr;
use std::path::Path;

use daruma_world::links::{Change, MacAddress, Prefix, Route};

/// The router that every pod sees; on no link anywhere.
const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The router's hardware address: the same for all pods, each on a link of its own.
const ROUTER_MAC: MacAddress = [0xee; 6];
/// The pod's link.
pub const POD_LINK: &str = "eth0";

/// Name of the machine's end of a sandbox's link: `veth` and 8 hexadecimal digits.
pub fn link_name(sandbox_id: &str) -> String {
    match sandbox_id.get(..8) {
        Some(start) if start.bytes().all(|byte| byte.is_ascii_hexdigit()) => format!("veth{start}"),
        // FNV-1a of ids of another form.
        _ => {
            let hash = sandbox_id.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            format!("veth{hash:08x}")
        }
    }
}

/// Steps on the machine.
pub fn machine_side(sandbox_id: &str, namespace: &Path, address: Ipv4Addr, mtu: u32) -> Vec<Change> {
    let link = link_name(sandbox_id);
    let parameter = |name: String, value: &str, optional| Change::SetKernelParameter { name, value: value.to_owned(), optional };
    vec![
        // What an interrupted attempt left behind.
        Change::DeleteLink { name: link.clone() },
        Change::AddVeth {
            name: link.clone(),
            mac: Some(ROUTER_MAC),
            peer: POD_LINK.to_owned(),
            peer_mac: Some(pod_mac(address)),
            peer_namespace: Some(namespace.to_path_buf()),
            mtu,
        },
        parameter("ipv4/ip_forward".into(), "1", false),
        parameter(format!("ipv4/conf/{link}/rp_filter"), "0", false),
        parameter(format!("ipv4/conf/{link}/send_redirects"), "0", false),
        parameter(format!("ipv6/conf/{link}/disable_ipv6"), "1", true),
        Change::SetUp { name: link.clone(), up: true },
        Change::ReplaceNeighbour { link: link.clone(), address, mac: pod_mac(address) },
        Change::ReplaceRoute(Route::on(&link, Prefix::host(address))),
    ]
}

/// Steps inside the pod's namespace.
pub fn pod_side(address: Ipv4Addr) -> Vec<Change> {
    vec![
        Change::SetUp { name: "lo".to_owned(), up: true },
        Change::SetKernelParameter { name: format!("ipv6/conf/{POD_LINK}/disable_ipv6"), value: "1".to_owned(), optional: true },
        Change::ReplaceAddress { link: POD_LINK.to_owned(), prefix: Prefix::host(address) },
        Change::SetUp { name: POD_LINK.to_owned(), up: true },
        Change::ReplaceNeighbour { link: POD_LINK.to_owned(), address: ROUTER, mac: ROUTER_MAC },
        Change::ReplaceRoute(Route::on(POD_LINK, Prefix::host(ROUTER))),
        Change::ReplaceRoute(Route::via(POD_LINK, ROUTER, Prefix::ALL)),
    ]
}

/// Made from the address, as CNI's plugins do it.
fn pod_mac(address: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_the_kernel() {
        for (id, name) in [("0123abcdef", Some("veth0123abcd")), ("sandbox-1", None), ("", None), ("ééééé", None)] {
            let found = link_name(id);
            assert!(found.len() == 12 && found.is_ascii(), "{found}");
            assert_eq!(name.unwrap_or(&found), found);
        }
    }
}
