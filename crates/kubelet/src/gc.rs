//! Removing what nobody needs: pods that nobody wants, old containers, unused images, long logs.
//!
//! Source: kubernetes pkg/kubelet/kuberuntime/kuberuntime_gc.go, pkg/kubelet/images/image_gc_manager.go,
//! pkg/kubelet/logs/container_log_manager.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daruma_api::meta::ObjectExt;
use daruma_world::containers::{Container, ContainerState, Image};

use crate::cell::Source;
use crate::shared::Shared;
use crate::view::{is_running, keys};

/// How often containers are looked at (kubernetes pkg/kubelet/kubelet.go, ContainerGCPeriod), and of those looks every
/// how manyth is for images (ImageGCPeriod, 5 min).
pub const PERIOD: Duration = Duration::from_secs(60);
const IMAGES_EVERY: u32 = 5;
/// Logs above this size are rotated (containerLogMaxSize).
const LOG_BYTES: u64 = 10 << 20;
/// Files kept of one container's log (containerLogMaxFiles).
const LOG_FILES: usize = 5;
/// Images go when the file system is fuller than this, until it is emptier than the other (imageGC thresholds).
const IMAGES_FULL: f64 = 0.85;
const IMAGES_ENOUGH: f64 = 0.80;

/// Ends and removes pods of a source that the runtime knows and the source does not.
pub async fn remove_orphans(shared: &Arc<Shared>, source: Source) {
    let Ok(sandboxes) = shared.runtime.list_sandboxes().await else { return };
    let orphans: BTreeSet<String> = sandboxes
        .iter()
        .filter(|sandbox| {
            let of_file = sandbox.config.annotations.get(keys::SOURCE).is_some_and(|from| from == "file");
            of_file == (source == Source::File) && shared.pods.get(&sandbox.config.uid).is_none()
        })
        .map(|sandbox| sandbox.config.uid.clone())
        .collect();
    for uid in orphans {
        tracing::info!(uid, "ending a pod that nobody wants");
        let Ok(view) = shared.look(&uid).await else { continue };
        let stops = view.running().map(|container| shared.runtime.stop_container(&container.id, Duration::from_secs(2)));
        futures::future::join_all(stops).await;
        for sandbox in &view.sandboxes {
            // Tried again at the next start.
            let _ = shared.runtime.stop_sandbox(&sandbox.id).await;
            let _ = shared.runtime.remove_sandbox(&sandbox.id).await;
        }
        // Memory volumes of the pod first, or the directory is busy.
        let directory = shared.config.pod_dir(&uid);
        let empty_dirs = directory.join("volumes/kubernetes.io~empty-dir");
        for (name, _) in shared.world.disk.read_dir(&empty_dirs).await.unwrap_or_default() {
            let _ = shared.world.disk.unmount(&empty_dirs.join(name)).await;
        }
        let _ = shared.world.disk.remove_dir_all(&directory).await;
    }
}

/// Containers that can go: of each name in a pod the newest two stay, one of them dead at the most where one runs.
pub fn removable(containers: &[Container]) -> Vec<String> {
    if !containers.iter().any(|container| matches!(container.state, ContainerState::Exited { .. })) {
        return Vec::new();
    }
    let mut by_name: BTreeMap<(&str, &str), Vec<&Container>> = BTreeMap::new();
    for container in containers {
        let uid = container.config.labels.get(keys::POD_UID).map_or("", String::as_str);
        by_name.entry((uid, &container.config.name)).or_default().push(container);
    }
    let mut gone = Vec::new();
    for mut list in by_name.into_values() {
        list.sort_by_key(|container| std::cmp::Reverse((container.created_at, container.config.attempt)));
        let dead = list.iter().filter(|container| matches!(container.state, ContainerState::Exited { .. }));
        // The newest dead one tells how it ended; where none runs, the one before it is the last state.
        let kept = if list.first().is_some_and(|newest| is_running(newest)) { 1 } else { 2 };
        gone.extend(dead.skip(kept).map(|container| container.id.clone()));
    }
    gone
}

/// Removes the dead containers that hold a full disk's space: all of pods that have finished, and what [`removable`]
/// names (kubernetes pkg/kubelet/container/container_gc.go, DeleteAllUnusedContainers).
pub async fn remove_dead(shared: &Shared) {
    let Ok(containers) = shared.runtime.list_containers().await else { return };
    let of_finished = |container: &&Container| {
        let uid = container.config.labels.get(keys::POD_UID);
        matches!(container.state, ContainerState::Exited { .. })
            && uid.and_then(|uid| shared.pods.get(uid)).is_some_and(|cell| cell.lock().finished)
    };
    let mut gone: BTreeSet<String> = containers.iter().filter(of_finished).map(|container| container.id.clone()).collect();
    gone.extend(removable(&containers));
    for id in gone {
        if let Err(error) = shared.runtime.remove_container(&id).await {
            tracing::debug!(id, %error, "cannot remove a container");
        }
    }
}

/// Looks once a minute, when the node's tick says so.
pub async fn run(shared: Arc<Shared>) {
    let mut looks: u32 = 0;
    let mut last = None;
    loop {
        shared.clean_up_due.notified().await;
        looks = looks.wrapping_add(1);
        let with_images = looks.is_multiple_of(IMAGES_EVERY);
        let now = State::of(&shared);
        // Nothing has ended, and no log has grown. Where the disk does not tell that, each look is a whole one.
        if now.changes.is_some() && last == Some(now) && !with_images {
            continue;
        }
        let logs_are_known = now.changes.is_some() && last.is_some_and(|last| last.changes == now.changes);
        let is_done = Box::pin(look(&shared, with_images, logs_are_known)).await;
        last = is_done.then_some(now);
    }
}

/// What a look depends on, as far as it can be told without looking.
#[derive(Clone, Copy, PartialEq)]
struct State {
    /// See [`Shared::engine_news`].
    news: u64,
    /// See [`daruma_world::Disk::changes`].
    changes: Option<u64>,
}

impl State {
    fn of(shared: &Shared) -> Self {
        Self { news: shared.engine_news.load(Ordering::Relaxed), changes: shared.world.disk.changes() }
    }
}

/// Looks once; at the logs only where they may have grown. Gives whether nothing failed that is to be tried again.
async fn look(shared: &Shared, with_images: bool, logs_are_known: bool) -> bool {
    let mut in_use = BTreeSet::new();
    for pod in shared.pods.list().iter().map(|cell| cell.pod()) {
        if !in_use.contains(pod.namespace()) {
            in_use.insert(pod.namespace().to_owned());
        }
    }
    shared.services.keep(&in_use);
    let Ok(containers) = shared.runtime.list_containers().await else { return false };
    let mut is_done = true;
    for id in removable(&containers) {
        if let Err(error) = shared.runtime.remove_container(&id).await {
            tracing::debug!(id, %error, "cannot remove a container");
            is_done = false;
        }
    }
    if !logs_are_known {
        for container in containers.iter().filter(|container| is_running(container)) {
            rotate(shared, container).await;
        }
    }
    is_done &= remove_old_sandboxes(shared, &containers).await;
    if with_images {
        images(shared, &containers).await;
    }
    is_done
}

/// Removes sandboxes that are dead and empty, and are not the newest of their pod. Gives whether nothing failed.
async fn remove_old_sandboxes(shared: &Shared, containers: &[Container]) -> bool {
    let Ok(sandboxes) = shared.runtime.list_sandboxes().await else { return false };
    let mut is_done = true;
    for sandbox in sandboxes.iter().filter(|sandbox| !sandbox.ready) {
        let newest = !sandboxes.iter().any(|other| {
            other.config.uid == sandbox.config.uid
                && (other.created_at, other.config.attempt) > (sandbox.created_at, sandbox.config.attempt)
        });
        let empty = !containers.iter().any(|container| container.sandbox_id == sandbox.id);
        if !newest && empty {
            // Tried again in a minute.
            is_done &= shared.runtime.remove_sandbox(&sandbox.id).await.is_ok();
        }
    }
    is_done
}

async fn rotate(shared: &Shared, container: &Container) {
    let disk = &shared.world.disk;
    let path = &container.log_path;
    let Ok(facts) = disk.metadata(path).await else { return };
    if facts.len < LOG_BYTES {
        return;
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let stamp = jiff::fmt::strtime::format("%Y%m%d-%H%M%S", &shared.now().to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default();
    if let Err(error) = disk.rename(path, &parent.join(format!("{name}.{stamp}"))).await {
        tracing::warn!(%error, "cannot rotate a log");
        return;
    }
    if let Err(error) = shared.runtime.reopen_log(&container.id).await {
        tracing::warn!(%error, "cannot reopen a log");
    }
    let entries = disk.read_dir(parent).await.unwrap_or_default();
    let old: Vec<String> =
        entries.into_iter().map(|(entry, _)| entry).filter(|entry| entry.starts_with(&format!("{name}."))).collect();
    for extra in old.iter().rev().skip(LOG_FILES - 1) {
        let _ = disk.remove_file(&parent.join(extra)).await;
    }
}

/// Removes every image that no container uses (kubernetes pkg/kubelet/images/image_gc_manager.go, DeleteUnusedImages).
pub async fn remove_unused_images(shared: &Shared) {
    let (Ok(images), Ok(containers)) = (shared.runtime.list_images().await, shared.runtime.list_containers().await) else {
        return;
    };
    for image in images.iter().filter(|image| !image.pinned) {
        if !containers.iter().any(|container| container.config.image == image.id)
            && let Err(error) = shared.runtime.remove_image(&image.id).await
        {
            tracing::debug!(id = image.id, %error, "cannot remove an image");
        }
    }
}

async fn images(shared: &Shared, containers: &[Container]) {
    let Ok(usage) = shared.world.disk.usage(&shared.config.root_dir).await else { return };
    let fullness = |available: u64| 1.0 - available as f64 / usage.capacity_bytes.max(1) as f64;
    if fullness(usage.available_bytes) < IMAGES_FULL {
        return;
    }
    let Ok(images) = shared.runtime.list_images().await else { return };
    let is_unused = |image: &&Image| !image.pinned && !containers.iter().any(|container| container.config.image == image.id);
    let mut images: Vec<&Image> = images.iter().filter(is_unused).collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    let mut available = usage.available_bytes;
    for image in images {
        if fullness(available) < IMAGES_ENOUGH {
            return;
        }
        if shared.runtime.remove_image(&image.id).await.is_ok() {
            available += image.size_bytes;
        }
    }
    if fullness(available) >= IMAGES_FULL {
        let percent = (fullness(available) * 100.0) as u64;
        let message = format!(
            "Failed to garbage collect required amount of images. Disk usage is at {percent}%, no more images are unused."
        );
        shared.recorder.node_warning("ImageGCFailed", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Seen, exited, running, view};

    #[test]
    fn dead_containers() {
        let seen = view(&[
            Seen::Sandbox(true),
            exited("a", 1),
            exited("a", 1),
            running("a"),
            exited("b", 1),
            exited("b", 1),
            exited("b", 0),
        ]);
        assert_eq!(removable(&seen.containers), ["c1", "c4"]);
    }
}
