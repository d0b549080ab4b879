//! What a machine is given before its first boot: certificates, kubeconfigs, manifests, the kubelet's command line.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use daruma_client::names;

use crate::pki::{Pair, Pki, PkiError, Sign};
use crate::shape::{CLUSTER_DOMAIN, DNS_SERVICE_IP, Machine, Role, Shape};
use crate::{kubeconfig, static_pods};

/// Where the built-in images are inside a machine.
pub const IMAGES: &str = "/usr/share/daruma/images";
/// Where the program is inside a machine.
pub const BINARY: &str = "/usr/local/bin/daruma";

/// Up to so many machines know each other by name: as many as `daruma up` makes.
const MOST_KNOWN: usize = 256;

/// One file of a machine's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFile {
    /// Absolute.
    pub path: PathBuf,
    /// All of it.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// The files of one machine of `shape`.
///
/// # Errors
/// A certificate could not be made.
pub fn files(signer: &dyn Sign, shape: &Shape, pki: &Pki, machine: &Machine) -> Result<Vec<MachineFile>, PkiError> {
    let mut files = node_files(signer, shape, pki, machine)?;
    if machine.role == Role::Controller {
        files.extend(controller_files(signer, shape, pki, machine)?);
    }
    Ok(files)
}

/// The command that a machine's init keeps running: the kubelet. The program's path comes first.
pub fn kubelet_command(shape: &Shape, machine: &Machine) -> Vec<String> {
    let mut command: Vec<String> = [BINARY, "kubelet", "--kubeconfig=/etc/kubernetes/kubelet.conf"].map(str::to_owned).to_vec();
    command.push(format!("--hostname-override={}", machine.name));
    command.push(format!("--node-ip={}", machine.address));
    command.push(format!("--cluster-dns={DNS_SERVICE_IP}"));
    command.push(format!("--cluster-domain={CLUSTER_DOMAIN}"));
    command.push("--pod-manifest-path=/etc/kubernetes/manifests".into());
    command.push("--client-ca-file=/etc/kubernetes/pki/ca.crt".into());
    command.push("--tls-cert-file=/var/lib/kubelet/pki/kubelet.crt".into());
    command.push("--tls-private-key-file=/var/lib/kubelet/pki/kubelet.key".into());
    command.push(format!("--builtin-images={IMAGES}"));
    if machine.role == Role::Controller {
        command.push("--register-with-taints=node-role.kubernetes.io/control-plane=:NoSchedule".into());
    }
    shape.set_flags("kubelet", &mut command);
    command
}

/// A UUID that stays with the machine: derived from the names, the network and the size, not drawn.
pub fn identity(shape: &Shape, machine: &Machine) -> String {
    let seed = format!("{}/{}/{}", shape.name, machine.name, shape.network);
    // FNV-1a.
    let hash = |start: u64| seed.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let fixed = FixedRandom(AtomicU64::new(hash(0xcbf2_9ce4_8422_2325)));
    names::uuid(&fixed)
}

/// SplitMix64 from a given start.
struct FixedRandom(AtomicU64);

impl daruma_world::Random for FixedRandom {
    fn next_u64(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }
}

fn file(path: &str, content: impl Into<Vec<u8>>, mode: u32) -> MachineFile {
    MachineFile { path: path.into(), content: content.into(), mode }
}

fn pair(path: &str, pair: &Pair) -> [MachineFile; 2] {
    [file(&format!("{path}.crt"), pair.certificate.as_str(), 0o644), file(&format!("{path}.key"), pair.key.as_str(), 0o600)]
}

fn node_files(signer: &dyn Sign, shape: &Shape, pki: &Pki, machine: &Machine) -> Result<Vec<MachineFile>, PkiError> {
    let kubelet = pki.kubelet(signer, machine)?;
    let user = format!("system:node:{}", machine.name);
    let config = kubeconfig::with_certificate(&shape.name, &shape.api_server_url(), &pki.ca.certificate, &user, &kubelet);
    let hosts: String = known(shape, machine).map(|other| format!("{}\t{}\n", other.address, other.name)).collect();
    let mut files = vec![
        file("/etc/kubernetes/pki/ca.crt", pki.ca.certificate.as_str(), 0o644),
        file("/etc/kubernetes/kubelet.conf", config, 0o600),
        file("/etc/hosts", format!("127.0.0.1\tlocalhost\n{hosts}"), 0o644),
        file("/etc/resolv.conf", "# This network has no name server of its own; pods ask the cluster's.\n", 0o644),
    ];
    files.extend(pair("/var/lib/kubelet/pki/kubelet", &kubelet));
    Ok(files)
}

/// The machines that a machine knows by name. In a crowd it knows itself and the controllers: a list of all on each of
/// thousands would be most of what there is on their disks.
fn known<'a>(shape: &'a Shape, machine: &'a Machine) -> impl Iterator<Item = &'a Machine> {
    let all = shape.machines.len() <= MOST_KNOWN;
    shape.machines.iter().filter(move |other| all || other.role == Role::Controller || other.name == machine.name)
}

fn controller_files(signer: &dyn Sign, shape: &Shape, pki: &Pki, machine: &Machine) -> Result<Vec<MachineFile>, PkiError> {
    let mut files = Vec::new();
    files.extend(pair("/etc/kubernetes/pki/apiserver", &pki.api_server(signer, shape)?));
    files.extend(pair("/etc/kubernetes/pki/apiserver-kubelet-client", &pki.api_server_kubelet_client(signer)?));
    files.extend(pair("/etc/kubernetes/pki/front-proxy-client", &pki.front_proxy_client(signer)?));
    files.push(file("/etc/kubernetes/pki/front-proxy-ca.crt", pki.front_proxy_ca.certificate.as_str(), 0o644));
    files.push(file("/etc/kubernetes/pki/sa.pub", pki.service_account.certificate.as_str(), 0o644));
    files.push(file("/etc/kubernetes/pki/sa.key", pki.service_account.key.as_str(), 0o600));
    for (name, user) in [("controller-manager", "system:kube-controller-manager"), ("scheduler", "system:kube-scheduler")] {
        let pair = pki.component(signer, user)?;
        let config = kubeconfig::with_certificate(&shape.name, &shape.api_server_url(), &pki.ca.certificate, user, &pair);
        files.push(file(&format!("/etc/kubernetes/{name}.conf"), config, 0o600));
    }
    for (name, content) in static_pods::render(shape, machine) {
        files.push(file(&format!("/etc/kubernetes/manifests/{name}"), content, 0o600));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_crowd_does_not_know_each_other() {
        let network = Ipv4Addr::new(10, 88, 0, 0);
        let mut machines = Shape::place(network, 1, 3);
        let shape = |machines: &[Machine]| -> Shape {
            serde_json::from_value(serde_json::json!({
                "name": "c", "network": network, "machines": machines, "cpuMillis": 1, "memoryBytes": 1, "diskBytes": 1,
                "bootTimeMs": 1, "nodeMonitorGracePeriod": "50s", "defaultTolerationSeconds": 300, "settings": {}
            }))
            .expect("a shape")
        };
        let names = |shape: &Shape, index: usize| -> Vec<String> {
            known(shape, &shape.machines[index]).map(|machine| machine.name.clone()).collect()
        };
        assert_eq!(names(&shape(&machines), 2), ["controller-0", "worker-0", "worker-1", "worker-2"]);
        for index in 3..MOST_KNOWN {
            machines.push(Machine { name: format!("worker-{index}"), ..machines[3].clone() });
        }
        let crowd = shape(&machines);
        assert_eq!(names(&crowd, 2), ["controller-0", "worker-1"]);
        assert_eq!(names(&crowd, 0), ["controller-0"]);
    }
}
