//! What pods use, measured when somebody has to go.
//!
//! Source: kubernetes pkg/kubelet/eviction/helpers.go (podDiskUsage, with one file system for everything).

use daruma_api::core::v1::{Pod, Volume};
use daruma_api::meta::ObjectExt;
use daruma_world::containers::SandboxStats;

use super::rank::{ContainerUse, Used};
use crate::cell::PodCell;
use crate::shared::Shared;

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whether the volume is an `emptyDir` that lies on the node's disk.
fn is_on_disk(volume: &Volume) -> bool {
    volume.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref().unwrap_or_default() != "Memory")
}

/// Measures one pod. The disk is only looked at where `with_disk`, for that means to walk through it.
/// `None` where the engine knows nothing of the pod.
pub(super) async fn of(shared: &Shared, cell: &PodCell, pod: &Pod, stats: &[SandboxStats], with_disk: bool) -> Option<Used> {
    let mut used = Used::default();
    {
        let state = cell.lock();
        let sandbox = state.view.ready_sandbox()?;
        let measured = stats.iter().find(|one| one.sandbox_id == sandbox.id)?;
        used.tasks = whole(measured.tasks);
        for one in &measured.containers {
            let Some(container) = state.view.by_id(&one.container_id) else { continue };
            let own = ContainerUse { memory: whole(one.memory_working_set_bytes), disk: whole(one.root_fs_used_bytes) };
            used.memory += own.memory;
            used.inodes += whole(one.root_fs_inodes_used);
            used.containers.insert(container.config.name.clone(), own);
        }
    }
    if !with_disk {
        return Some(used);
    }
    let disk = &shared.world.disk;
    let logs = shared.config.pod_log_dir(pod.namespace(), pod.name(), &cell.uid);
    for (name, own) in &mut used.containers {
        let (bytes, inodes) = disk.tree_usage(&logs.join(name)).await.unwrap_or_default();
        own.disk += whole(bytes);
        used.inodes += whole(inodes);
        used.disk += own.disk;
    }
    let empty_dirs = shared.config.pod_dir(&cell.uid).join("volumes/kubernetes.io~empty-dir");
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for volume in volumes.filter(|volume| volume.empty_dir.is_some()) {
        let (bytes, inodes) = disk.tree_usage(&empty_dirs.join(&volume.name)).await.unwrap_or_default();
        used.empty_dirs.insert(volume.name.clone(), whole(bytes));
        if is_on_disk(volume) {
            used.disk += whole(bytes);
            used.inodes += whole(inodes);
        }
    }
    Some(used)
}
