//! From the shape of a cluster to the machines that the supervisor runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use daruma_client::names;
use daruma_cluster::pki::{Pair, Pki};
use daruma_cluster::shape::{CLUSTER_DOMAIN, DNS_SERVICE_IP, Machine, Role, Shape};
use daruma_cluster::{kubeconfig, static_pods};
use daruma_host::machine::subnet::Subnet;
use daruma_host::machine::{Bind, MachineSpec, SeedFile};
use daruma_world::World;

/// Where the built-in images are inside a machine.
pub const IMAGES: &str = "/usr/share/daruma/images";
const BINARY: &str = "/usr/local/bin/daruma";

/// The machines of `shape`.
pub fn specs(world: &World, shape: &Shape, pki: &Pki, subnet: Subnet, images: &Path) -> Result<Vec<MachineSpec>> {
    shape.machines.iter().map(|machine| spec(world, shape, pki, subnet, images, machine)).collect()
}

fn spec(world: &World, shape: &Shape, pki: &Pki, subnet: Subnet, images: &Path, machine: &Machine) -> Result<MachineSpec> {
    let identity = identity(shape, machine);
    let mut seed_files = node_files(world, shape, pki, machine)?;
    if machine.role == Role::Controller {
        seed_files.extend(controller_files(world, shape, pki, machine)?);
    }
    Ok(MachineSpec {
        name: machine.name.clone(),
        cluster: shape.name.clone(),
        hostname: machine.name.clone(),
        cpus: shape.cpu_millis as f64 / 1000.0,
        memory_bytes: shape.memory_bytes,
        disk_bytes: shape.disk_bytes,
        address: machine.address,
        prefix: Subnet::PREFIX,
        gateway: Some(subnet.host()),
        mac: None,
        machine_id: identity.replace('-', ""),
        system_uuid: identity,
        command: kubelet_command(shape, machine),
        env: std::env::var("DARUMA_LOG").map(|level| BTreeMap::from([("DARUMA_LOG".to_owned(), level)])).unwrap_or_default(),
        log_file: PathBuf::from("/var/log/kubelet.log"),
        seed_files,
        binds: vec![
            Bind { host: std::env::current_exe()?, machine: BINARY.into(), read_only: true },
            Bind { host: images.to_owned(), machine: IMAGES.into(), read_only: true },
        ],
        boot_time: Duration::from_millis(shape.boot_time_ms),
        shutdown_grace: Duration::from_secs(30),
    })
}

/// A UUID that stays with the machine: derived from the names, the network and the size, not drawn.
fn identity(shape: &Shape, machine: &Machine) -> String {
    let seed = format!("{}/{}/{}", shape.name, machine.name, shape.network);
    // FNV-1a twice with different starts fills 128 bits.
    let hash = |start: u64| seed.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let fixed = FixedRandom(std::sync::atomic::AtomicU64::new(hash(0xcbf2_9ce4_8422_2325)));
    names::uuid(&fixed)
}

/// SplitMix64 from a given start.
struct FixedRandom(std::sync::atomic::AtomicU64);

impl daruma_world::Random for FixedRandom {
    fn next_u64(&self) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }
}

fn kubelet_command(shape: &Shape, machine: &Machine) -> Vec<String> {
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
    command.extend(shape.extra_flags("kubelet"));
    command
}

fn file(path: &str, content: impl Into<Vec<u8>>, mode: u32) -> SeedFile {
    SeedFile { path: path.into(), content: content.into(), mode, once: false }
}

fn pair(path: &str, pair: &Pair) -> [SeedFile; 2] {
    [file(&format!("{path}.crt"), pair.certificate.as_str(), 0o644), file(&format!("{path}.key"), pair.key.as_str(), 0o600)]
}

fn node_files(world: &World, shape: &Shape, pki: &Pki, machine: &Machine) -> Result<Vec<SeedFile>> {
    let kubelet = pki.kubelet(world, machine)?;
    let user = format!("system:node:{}", machine.name);
    let config = kubeconfig::with_certificate(&shape.name, &shape.api_server_url(), &pki.ca.certificate, &user, &kubelet);
    let hosts: String = shape.machines.iter().map(|other| format!("{}\t{}\n", other.address, other.name)).collect();
    let mut files = vec![
        file("/etc/kubernetes/pki/ca.crt", pki.ca.certificate.as_str(), 0o644),
        file("/etc/kubernetes/kubelet.conf", config, 0o600),
        file("/etc/hosts", format!("127.0.0.1\tlocalhost\n{hosts}"), 0o644),
        file("/etc/resolv.conf", "# This network has no name server of its own; pods ask the cluster's.\n", 0o644),
    ];
    files.extend(pair("/var/lib/kubelet/pki/kubelet", &kubelet));
    Ok(files)
}

fn controller_files(world: &World, shape: &Shape, pki: &Pki, machine: &Machine) -> Result<Vec<SeedFile>> {
    let mut files = Vec::new();
    files.extend(pair("/etc/kubernetes/pki/apiserver", &pki.api_server(world, shape)?));
    files.extend(pair("/etc/kubernetes/pki/apiserver-kubelet-client", &pki.api_server_kubelet_client(world)?));
    files.extend(pair("/etc/kubernetes/pki/front-proxy-client", &pki.front_proxy_client(world)?));
    files.push(file("/etc/kubernetes/pki/front-proxy-ca.crt", pki.front_proxy_ca.certificate.as_str(), 0o644));
    files.push(file("/etc/kubernetes/pki/sa.pub", pki.service_account.certificate.as_str(), 0o644));
    files.push(file("/etc/kubernetes/pki/sa.key", pki.service_account.key.as_str(), 0o600));
    for (name, user) in [("controller-manager", "system:kube-controller-manager"), ("scheduler", "system:kube-scheduler")] {
        let pair = pki.component(world, user)?;
        let config = kubeconfig::with_certificate(&shape.name, &shape.api_server_url(), &pki.ca.certificate, user, &pair);
        files.push(file(&format!("/etc/kubernetes/{name}.conf"), config, 0o600));
    }
    for (name, content) in static_pods::render(shape, machine) {
        files.push(file(&format!("/etc/kubernetes/manifests/{name}"), content, 0o600));
    }
    Ok(files)
}
