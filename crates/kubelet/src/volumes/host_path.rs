//! Paths of the node.
//!
//! Source: kubernetes pkg/volume/hostpath/host_path.go.

use std::path::Path;

use daruma_api::core::v1::HostPathVolumeSource;
use daruma_world::World;
use daruma_world::disk::{EntryKind, WriteOptions};

/// Checks the path against its type and makes it where the type says so.
///
/// # Errors
/// The path is not of the type.
pub(super) async fn check(world: &World, source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = entry_kind(world, path).await;
    let wrong = |what: &str| Err(format!("hostPath type check failed: {} is not a {what}", source.path));
    match (kind, found) {
        ("DirectoryOrCreate", None) => {
            world.disk.create_dir_all(path, 0o755).await.map_err(|error| format!("cannot create {}: {error}", source.path))
        }
        ("FileOrCreate", None) => {
            let options = WriteOptions { mode: 0o644, durable: false };
            world.disk.write(path, Vec::new(), options).await.map_err(|error| format!("cannot create {}: {error}", source.path))
        }
        // Without a type the engine makes a directory.
        ("", None) => {
            world.disk.create_dir_all(path, 0o755).await.map_err(|error| format!("cannot create {}: {error}", source.path))
        }
        ("", Some(_)) => Ok(()),
        ("Directory" | "DirectoryOrCreate", found) => {
            if found == Some(EntryKind::Directory) {
                Ok(())
            } else {
                wrong("directory")
            }
        }
        ("File" | "FileOrCreate", found) => {
            if found == Some(EntryKind::File) {
                Ok(())
            } else {
                wrong("file")
            }
        }
        ("Socket", found) => {
            if found == Some(EntryKind::Other) {
                Ok(())
            } else {
                wrong("socket file")
            }
        }
        ("CharDevice", found) => {
            if found == Some(EntryKind::Other) {
                Ok(())
            } else {
                wrong("character device")
            }
        }
        ("BlockDevice", found) => {
            if found == Some(EntryKind::Other) {
                Ok(())
            } else {
                wrong("block device")
            }
        }
        (other, _) => Err(format!("unknown hostPath type {other:?}")),
    }
}

async fn entry_kind(world: &World, path: &Path) -> Option<EntryKind> {
    let mut path = path.to_path_buf();
    // Links are followed, a bounded number of times.
    for _ in 0..16 {
        match world.disk.metadata(&path).await.ok()?.kind {
            EntryKind::Symlink => {
                let target = world.disk.read_link(&path).await.ok()?;
                path = path.parent().map(|parent| parent.join(&target)).unwrap_or(target);
            }
            kind => return Some(kind),
        }
    }
    None
}
