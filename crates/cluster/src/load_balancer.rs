//! The load balancer of a cluster: where it stands, who it is, how it is started.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::kubeconfig;
use crate::pki::{Pki, PkiError, Sign};
use crate::shape::Shape;

/// The user that it is to the API server; its role is among the API server's own objects.
pub const USER: &str = "daruma:load-balancer";
/// Last octet of its own address in the node network.
const OWN: u32 = 2;
/// Last octets of the addresses that services get: above those of the last worker.
const POOL: (u32, u32) = (224, 254);

/// Its own address.
pub fn own_address(shape: &Shape) -> Ipv4Addr {
    at(shape, OWN)
}

/// First and last address that services get.
pub fn pool(shape: &Shape) -> (Ipv4Addr, Ipv4Addr) {
    (at(shape, POOL.0), at(shape, POOL.1))
}

fn at(shape: &Shape, last: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(shape.network.to_bits() + last)
}

/// Its kubeconfig.
///
/// # Errors
/// Its certificate could not be made.
pub fn kubeconfig(signer: &dyn Sign, shape: &Shape, pki: &Pki) -> Result<String, PkiError> {
    let pair = pki.component(signer, USER)?;
    Ok(kubeconfig::with_certificate(&shape.name, &shape.api_server_url(), &pki.ca.certificate, USER, &pair))
}

/// Its command line without the program: `link` is the one that the node network is on, where it is a machine of its own
/// world's making.
pub fn command(shape: &Shape, kubeconfig: &Path, link: Option<&str>) -> Vec<String> {
    let (first, last) = pool(shape);
    let mut command =
        vec!["load-balancer".to_owned(), format!("--kubeconfig={}", kubeconfig.display()), format!("--addresses={first}-{last}")];
    if let Some(link) = link {
        command.push(format!("--link={link}"));
        command.push(format!("--own-address={}/24", own_address(shape)));
    }
    shape.set_flags("load-balancer", &mut command);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Component;

    #[test]
    fn the_command_is_one() {
        let shape: Shape = serde_json::from_value(serde_json::json!({
            "name": "c", "network": "10.88.3.0", "machines": [], "cpuMillis": 1, "memoryBytes": 1, "diskBytes": 1,
            "bootTimeMs": 1, "nodeMonitorGracePeriod": "50s", "defaultTolerationSeconds": 300, "settings": {}
        }))
        .expect("a shape");
        let command = command(&shape, Path::new("/c"), Some("eth0"));
        let expected = [
            "load-balancer",
            "--kubeconfig=/c",
            "--addresses=10.88.3.224-10.88.3.254",
            "--link=eth0",
            "--own-address=10.88.3.2/24",
        ];
        assert_eq!(command, expected);
        assert!(matches!(Component::parse(command), Ok(Component::LoadBalancer(_))));
        // No worker may get an address of the pool.
        assert!(Shape::place(shape.network, 1, 200).iter().all(|machine| machine.address < pool(&shape).0));
    }
}
