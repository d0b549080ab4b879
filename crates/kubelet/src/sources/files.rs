//! Static pods from the manifest directory.
//!
//! Source: kubernetes pkg/kubelet/config/file.go.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_world::disk::EntryKind;

use super::manifest::static_pod;
use crate::cell::Source;
use crate::shared::Shared;
use crate::{mirror, worker};

/// Reads the directory again and again; the first time at once.
pub async fn run(shared: Arc<Shared>) {
    let Some(directory) = shared.config.static_pod_path.clone() else {
        shared.files_read.store(true, Ordering::Release);
        return;
    };
    let mut known: BTreeMap<String, Manifest> = BTreeMap::new();
    loop {
        let changes = shared.world.disk.changes();
        let mut found_at = None;
        if let Some(files) = read(&shared, &directory).await {
            found_at = changes;
            let changed = files.len() != known.len()
                || files.iter().any(|(name, content)| known.get(name).is_none_or(|old| old.content != *content));
            if changed {
                known = files.into_iter().map(|(name, content)| parse(&shared, &directory, name, content, &mut known)).collect();
                apply(&shared, known.values().filter_map(|manifest| manifest.pod.clone()).collect());
            }
            if !shared.files_read.swap(true, Ordering::AcqRel) {
                remove_orphans(&shared).await;
                mirror::look(&shared);
            }
        }
        if known.is_empty() {
            // Most nodes have none: the node's tick is often enough, and there is none for as long as the disk is the same.
            *shared.files_found_at.lock().expect("no panic while held") = found_at;
            shared.files_due.notified().await;
        } else {
            shared.world.sleep(shared.config.file_check_frequency).await;
        }
    }
}

/// A file, and the pod that it describes, where it describes one.
struct Manifest {
    content: Vec<u8>,
    pod: Option<Arc<Pod>>,
}

/// The files' names and contents; `None` where the directory cannot be read.
async fn read(shared: &Shared, directory: &Path) -> Option<Vec<(String, Vec<u8>)>> {
    let entries = match shared.world.disk.read_dir(directory).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
        Err(error) => {
            tracing::warn!(%error, "cannot read the manifest directory");
            return None;
        }
    };
    let mut files = Vec::new();
    for (name, kind) in entries {
        if name.starts_with('.') || kind == EntryKind::Directory {
            continue;
        }
        if let Ok(content) = shared.world.disk.read(&directory.join(&name)).await {
            files.push((name, content));
        }
    }
    Some(files)
}

fn parse(
    shared: &Shared,
    directory: &Path,
    name: String,
    content: Vec<u8>,
    known: &mut BTreeMap<String, Manifest>,
) -> (String, Manifest) {
    if let Some(same) = known.remove(&name).filter(|old| old.content == content) {
        return (name, same);
    }
    let path = directory.join(&name);
    let parsed = static_pod(&content, &path.display().to_string(), &shared.config.node_name, shared.now());
    let pod = parsed.map_err(|error| tracing::warn!(path = %path.display(), error, "cannot read a manifest")).ok().map(Arc::new);
    (name, Manifest { content, pod })
}

/// Starts what is new and ends what is gone.
fn apply(shared: &Arc<Shared>, pods: Vec<Arc<Pod>>) {
    for cell in shared.pods.list().into_iter().filter(|cell| cell.source == Source::File) {
        if !pods.iter().any(|pod| pod.uid() == cell.uid) {
            let grace = {
                let mut state = cell.lock();
                state.removed = true;
                state.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30)
            };
            cell.end(grace);
            cell.wake();
        }
    }
    for pod in pods {
        let key = pod.key();
        if let Some(cell) = worker::admit(shared, pod, Source::File) {
            let mirror = shared.mirrors.lock().expect("no panic while held").get(&key).cloned();
            let own = mirror.filter(|mirror| mirror.annotation(super::ANNOTATION_MIRROR) == Some(cell.uid.as_str()));
            cell.lock().mirror = own;
        }
    }
    mirror::look(shared);
}

/// Ends static pods of an earlier kubelet whose manifests are gone.
async fn remove_orphans(shared: &Arc<Shared>) {
    crate::gc::remove_orphans(shared, Source::File).await;
}
