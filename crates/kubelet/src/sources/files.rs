//! Static pods from the manifest directory.
//!
//! Source: kubernetes pkg/kubelet/config/file.go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
    let mut known: BTreeMap<PathBuf, (Vec<u8>, Option<Arc<Pod>>)> = BTreeMap::new();
    loop {
        let changes = shared.world.disk.changes();
        let mut found_at = None;
        if let Some(files) = read(&shared, &directory).await {
            found_at = changes;
            let changed = files.len() != known.len()
                || files.iter().any(|(path, content)| known.get(path).is_none_or(|(old, _)| old != content));
            if changed {
                known = files.into_iter().map(|(path, content)| parse(&shared, path, content, &known)).collect();
                apply(&shared, known.values().filter_map(|(_, pod)| pod.clone()).collect());
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

/// The manifests' content by path; `None` where the directory cannot be read.
async fn read(shared: &Shared, directory: &Path) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let entries = match shared.world.disk.read_dir(directory).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![],
        Err(error) => {
            tracing::warn!(%error, "cannot read the manifest directory");
            return None;
        }
    };
    let mut files = BTreeMap::new();
    for (name, kind) in entries {
        if name.starts_with('.') || kind == EntryKind::Directory {
            continue;
        }
        let path = directory.join(name);
        if let Ok(content) = shared.world.disk.read(&path).await {
            files.insert(path, content);
        }
    }
    Some(files)
}

type Parsed = (PathBuf, (Vec<u8>, Option<Arc<Pod>>));

fn parse(shared: &Shared, path: PathBuf, content: Vec<u8>, known: &BTreeMap<PathBuf, (Vec<u8>, Option<Arc<Pod>>)>) -> Parsed {
    if let Some((old, pod)) = known.get(&path)
        && *old == content
    {
        return (path, (content, pod.clone()));
    }
    let parsed = static_pod(&content, &path.display().to_string(), &shared.config.node_name, shared.now());
    let pod = parsed.map_err(|error| tracing::warn!(path = %path.display(), error, "cannot read a manifest")).ok().map(Arc::new);
    (path, (content, pod))
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
