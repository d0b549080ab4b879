//! From the shape of a cluster to the machines that the supervisor runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use daruma_cluster::boot::flags;
use daruma_cluster::machine_files::{self, BINARY, IMAGES};
use daruma_cluster::pki::Pki;
use daruma_cluster::shape::{Machine, Shape};
use daruma_host::machine::subnet::Subnet;
use daruma_host::machine::{Bind, MachineSpec, SeedFile};
use daruma_runtime::images::registry::{hosts, trust};
use daruma_world::World;

/// `RestartSec` of the unit that kubeadm's package installs (kubernetes/release
/// cmd/krel/templates/latest/kubelet/kubelet.service).
const RESTART_DELAY: Duration = Duration::from_secs(10);
/// What a service gets to end (`DefaultTimeoutStopSec` of systemd-system.conf(5)).
const SHUTDOWN_GRACE: Duration = Duration::from_secs(90);

/// The service that a machine's init keeps.
pub const SERVICE: &str = "kubelet";

/// The machines of `shape`.
pub fn specs(world: &World, shape: &Shape, pki: &Pki, subnet: Subnet, images: &Path) -> Result<Vec<MachineSpec>> {
    shape.machines.iter().map(|machine| spec(world, shape, pki, subnet, images, machine)).collect()
}

/// One machine of `shape`.
pub fn spec(world: &World, shape: &Shape, pki: &Pki, subnet: Subnet, images: &Path, machine: &Machine) -> Result<MachineSpec> {
    let identity = machine_files::identity(shape, machine);
    let files = machine_files::files(world, shape, pki, machine)?;
    let seed =
        |file: machine_files::MachineFile| SeedFile { path: file.path, content: file.content, mode: file.mode, once: false };
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
        command: machine_files::kubelet_command(shape, machine),
        service: SERVICE.to_owned(),
        restart_delay: RESTART_DELAY,
        env: std::env::var("DARUMA_LOG").map(|level| BTreeMap::from([("DARUMA_LOG".to_owned(), level)])).unwrap_or_default(),
        log_file: PathBuf::from("/var/log/kubelet.log"),
        seed_files: files.into_iter().map(seed).collect(),
        binds: binds(images)?,
        boot_time: Duration::from_millis(shape.boot_time_ms),
        shutdown_grace: SHUTDOWN_GRACE + graceful_node_shutdown(shape),
    })
}

/// What machines see of the host: the program, the built-in images, and whom the host believes in when it pulls images, so
/// that a private registry is set up in one place for all of them (docs/images.md).
fn binds(images: &Path) -> Result<Vec<Bind>> {
    let shown = |host: PathBuf, machine: &str, optional| Bind { host, machine: machine.into(), read_only: true, optional };
    let mut binds = vec![
        shown(std::env::current_exe()?, BINARY, false),
        shown(images.to_owned(), IMAGES, false),
        shown(hosts::CERTS_DIR.into(), hosts::CERTS_DIR, true),
    ];
    if let Some(file) = trust::system_file() {
        binds.push(shown(std::path::absolute(file)?, trust::CA_FILES[0], true));
    }
    Ok(binds)
}

/// How much longer the kubelet may take because it ends its pods first: it asks systemd-logind for that time.
fn graceful_node_shutdown(shape: &Shape) -> Duration {
    let period = shape.settings.get("kubelet").and_then(|flags| flags.get("shutdown-grace-period"));
    period.and_then(|period| flags::duration(period).ok()).unwrap_or_default()
}
