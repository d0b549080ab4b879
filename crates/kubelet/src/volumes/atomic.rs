//! Files that change all at once: a directory behind the symbolic link `..data`.
//!
//! Source: kubernetes pkg/volume/util/atomic_writer.go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use daruma_world::World;
use daruma_world::disk::{EntryKind, WriteOptions};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Content.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Files by relative path.
pub(super) type Payload = BTreeMap<String, File>;

/// Makes `directory` show exactly `payload`. Does nothing where it does already.
pub(super) async fn write(world: &World, directory: &Path, payload: Payload, group: Option<u32>) -> io::Result<()> {
    let disk = &world.disk;
    disk.create_dir_all(directory, 0o777).await?;
    let old = disk.read_link(&directory.join(DATA)).await.ok();
    if let Some(old) = &old
        && shows(world, &directory.join(old), &payload).await
    {
        return Ok(());
    }
    let stamp = jiff::tz::TimeZone::UTC.to_datetime(world.now());
    let name = format!(
        "..{:04}_{:02}_{:02}_{:02}_{:02}_{:02}.{:010}",
        stamp.year(),
        stamp.month(),
        stamp.day(),
        stamp.hour(),
        stamp.minute(),
        stamp.second(),
        world.random.below(10_000_000_000)
    );
    let fresh = directory.join(&name);
    disk.create_dir_all(&fresh, 0o755).await?;
    if group.is_some() {
        disk.set_owner(&fresh, None, group, Some(0o2775)).await?;
    }
    for (path, file) in &payload {
        let full = fresh.join(path);
        if let Some(parent) = full.parent()
            && parent != fresh
        {
            disk.create_dir_all(parent, 0o755).await?;
        }
        disk.write(&full, file.content.clone(), WriteOptions { mode: file.mode, durable: false }).await?;
        if group.is_some() {
            disk.set_owner(&full, None, group, Some(file.mode | (file.mode & 0o600) >> 3)).await?;
        }
    }
    let link = directory.join(DATA_NEW);
    // Left over from an interrupted write.
    let _ = disk.remove_file(&link).await;
    disk.symlink(Path::new(&name), &link).await?;
    disk.rename(&link, &directory.join(DATA)).await?;
    show_names(world, directory, &payload).await?;
    if let Some(old) = old {
        disk.remove_dir_all(&directory.join(old)).await?;
    }
    Ok(())
}

/// Whether the directory holds this payload and nothing else.
async fn shows(world: &World, directory: &Path, payload: &Payload) -> bool {
    let mut seen = 0;
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let Ok(entries) = world.disk.read_dir(&directory.join(&relative)).await else { return false };
        for (name, kind) in entries {
            let path = relative.join(name);
            if kind == EntryKind::Directory {
                open.push(path);
                continue;
            }
            let Some(file) = path.to_str().and_then(|path| payload.get(path)) else { return false };
            let same = world.disk.read(&directory.join(&path)).await.is_ok_and(|content| content == file.content);
            if !same {
                return false;
            }
            seen += 1;
        }
    }
    seen == payload.len()
}

/// One link for each top-level name, and none for what is gone.
async fn show_names(world: &World, directory: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for (name, _) in world.disk.read_dir(directory).await? {
        if !name.starts_with("..") && !wanted.contains(name.as_str()) {
            world.disk.remove_file(&directory.join(name)).await?;
        }
    }
    for name in wanted {
        let link = directory.join(name);
        if world.disk.metadata(&link).await.is_err() {
            world.disk.symlink(&Path::new(DATA).join(name), &link).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_all_at_once() {
        daruma_sim::run(1, |world| async move {
            let directory = Path::new("/v");
            let payload = |files: &[(&str, &str)]| -> Payload {
                let file = |text: &str| File { content: text.as_bytes().to_vec(), mode: 0o644 };
                files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
            };
            write(&world, directory, payload(&[("a", "1"), ("d/b", "2")]), None).await.expect("written");
            let first = world.disk.read_link(&directory.join(DATA)).await.expect("a link");
            assert_eq!(world.disk.read(&directory.join(&first).join("d/b")).await.expect("there"), b"2");
            assert_eq!(world.disk.read_link(&directory.join("d")).await.expect("a link"), Path::new("..data/d"));
            write(&world, directory, payload(&[("a", "1"), ("d/b", "2")]), None).await.expect("written");
            assert_eq!(world.disk.read_link(&directory.join(DATA)).await.expect("a link"), first, "nothing changed");
            write(&world, directory, payload(&[("a", "3")]), None).await.expect("written");
            let second = world.disk.read_link(&directory.join(DATA)).await.expect("a link");
            assert_ne!(second, first);
            assert!(world.disk.metadata(&directory.join("d")).await.is_err());
            let names: Vec<String> =
                world.disk.read_dir(directory).await.expect("listed").into_iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), 3, "{names:?}");
        });
    }
}
