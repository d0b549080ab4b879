//! A pod's volumes: set up before its containers, kept up to date, taken down after them.
//!
//! Source: kubernetes pkg/volume/{emptydir,hostpath,configmap,secret,projected,downwardapi}.

mod atomic;
mod host_path;
mod payload;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use daruma_api::quantity::Quantity;
use daruma_world::disk::Disk;
use futures::future::join_all;

pub use tokens::Tokens;

use crate::cell::PodCell;
use crate::env::fields::FieldContext;
use crate::shared::Shared;

/// Where each volume is on the node, by name.
pub type Mounted = BTreeMap<String, MountedVolume>;

/// One volume that is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedVolume {
    /// Its directory (or file) on the node.
    pub path: PathBuf,
    /// Pods never write to it.
    pub read_only: bool,
    /// Pods may put symbolic links into it, so sub-paths are checked.
    pub written_by_pods: bool,
}

/// Sets up every volume of the pod, or brings it up to date.
///
/// # Errors
/// What went wrong, one text a volume, as the event `FailedMount` tells it.
pub async fn mount_all(shared: &Arc<Shared>, cell: &PodCell, pod: &Pod, context: &FieldContext) -> Result<Mounted, Vec<String>> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mounts = volumes.map(|volume| async move {
        let mounted = mount(shared, cell, pod, volume, context).await;
        mounted
            .map(|mounted| (volume.name.clone(), mounted))
            .map_err(|error| format!("MountVolume.SetUp failed for volume {:?} : {error}", volume.name))
    });
    let (mut mounted, mut failures) = (Mounted::new(), Vec::new());
    for one in join_all(mounts).await {
        match one {
            Ok((name, volume)) => drop(mounted.insert(name, volume)),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(mounted) } else { Err(failures) }
}

async fn mount(
    shared: &Arc<Shared>,
    cell: &PodCell,
    pod: &Pod,
    volume: &Volume,
    context: &FieldContext,
) -> Result<MountedVolume, String> {
    let directory = |plugin: &str| shared.config.pod_dir(&cell.uid).join("volumes").join(plugin).join(&volume.name);
    if let Some(source) = &volume.empty_dir {
        let path = directory("kubernetes.io~empty-dir");
        empty_dir(shared, cell, pod, source, &volume.name, &path).await?;
        return Ok(MountedVolume { path, read_only: false, written_by_pods: true });
    }
    if let Some(source) = &volume.host_path {
        host_path::check(&shared.world, source).await?;
        return Ok(MountedVolume { path: source.path.clone().into(), read_only: false, written_by_pods: true });
    }
    let plugin = if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.projected.is_some() {
        "kubernetes.io~projected"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else {
        return Err("this kind of volume is not supported on this node".into());
    };
    let path = directory(plugin);
    let content = payload::collect(shared, cell, pod, volume, context).await?;
    let group = fs_group(pod);
    atomic::write(&shared.world, &path, content, group)
        .await
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(MountedVolume { path, read_only: true, written_by_pods: false })
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

async fn empty_dir(
    shared: &Shared,
    cell: &PodCell,
    pod: &Pod,
    source: &EmptyDirVolumeSource,
    name: &str,
    path: &Path,
) -> Result<(), String> {
    if cell.lock().mounted.contains(name) {
        return Ok(());
    }
    let disk = &shared.world.disk;
    let failed = |error: std::io::Error| format!("cannot set up {}: {error}", path.display());
    disk.create_dir_all(path, 0o777).await.map_err(failed)?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            // Containers that run have it mounted already (the kubelet was restarted, not the machine).
            let alive = cell.lock().view.ready_sandbox().is_some();
            if !alive {
                disk.unmount(path).await.map_err(failed)?;
                let size = source.size_limit.as_ref().map(|limit| Quantity::from_raw(limit).value().max(0) as u64);
                disk.mount_memory(path, size.filter(|size| *size > 0)).await.map_err(failed)?;
            }
        }
        other => return Err(format!("unknown storage medium {other:?}")),
    }
    // The mode set at creation is subject to the process's mask.
    let (group, mode) = fs_group(pod).map_or((None, 0o777), |group| (Some(group), 0o2777));
    disk.set_owner(path, None, group, Some(mode)).await.map_err(failed)?;
    cell.lock().mounted.insert(name.to_owned());
    Ok(())
}

/// Takes the pod's volumes down and removes its directory.
///
/// # Errors
/// A file system that refuses.
pub async fn unmount_all(shared: &Shared, cell: &PodCell, pod: &Pod) -> std::io::Result<()> {
    let directory = shared.config.pod_dir(&cell.uid);
    let disk = &shared.world.disk;
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        if volume.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref() == Some("Memory")) {
            let path = directory.join("volumes/kubernetes.io~empty-dir").join(&volume.name);
            if disk.metadata(&path).await.is_ok() {
                disk.unmount(&path).await?;
            }
        }
    }
    cell.lock().mounted.clear();
    disk.remove_dir_all(&directory).await
}

/// The place inside a volume that a container mounts, made where it is missing.
///
/// # Errors
/// A sub-path that leaves its volume, or a file system that refuses.
pub async fn sub_path(shared: &Shared, volume: &MountedVolume, sub_path: &str) -> Result<PathBuf, String> {
    if sub_path.is_empty() {
        return Ok(volume.path.clone());
    }
    let relative = Path::new(sub_path);
    if relative.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err(format!("subPath {sub_path:?} must be a relative path that does not contain '..'"));
    }
    let disk = &shared.world.disk;
    let full = volume.path.join(relative);
    if volume.written_by_pods {
        let mut walked = volume.path.clone();
        for part in relative.components() {
            walked.push(part);
            match disk.metadata(&walked).await {
                Ok(facts) if facts.kind == daruma_world::disk::EntryKind::Symlink => {
                    return Err(format!("subpath {sub_path:?} not within volume path {}", volume.path.display()));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    if disk.metadata(&full).await.is_err() {
        make_like(disk.as_ref(), &volume.path, relative)
            .await
            .map_err(|error| format!("failed to create subPath directory for {sub_path:?}: {error}"))?;
    }
    Ok(full)
}

/// Makes directories below a volume with the volume's own mode, whatever the process's mask
/// (kubernetes pkg/volume/util/subpath, SafeMakeDir).
async fn make_like(disk: &dyn Disk, volume: &Path, relative: &Path) -> std::io::Result<()> {
    let mode = disk.metadata(volume).await?.mode & 0o7777;
    let mut walked = volume.to_owned();
    for part in relative.components() {
        walked.push(part);
        if disk.metadata(&walked).await.is_err() {
            disk.create_dir_all(&walked, mode).await?;
            disk.set_owner(&walked, None, None, Some(mode)).await?;
        }
    }
    Ok(())
}
