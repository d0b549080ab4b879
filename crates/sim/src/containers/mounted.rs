//! A container's files: those of the machine, seen through the container's mounts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_world::Disk;
use daruma_world::containers::Mount;
use daruma_world::disk::{EntryKind, Metadata, Usage, WriteOptions};
use futures::FutureExt;
use futures::future::BoxFuture;

type Answer<T> = BoxFuture<'static, io::Result<T>>;

/// Where a path of a container is on the machine, and whether it may only be read. What no mount
/// covers is below `root`, the container's own layer.
pub(super) fn machine_path(mounts: &[Mount], root: &Path, inside: &Path) -> (PathBuf, bool) {
    let covering = mounts.iter().filter(|mount| inside.starts_with(&mount.container_path));
    match covering.max_by_key(|mount| mount.container_path.components().count()) {
        Some(mount) => {
            let rest = inside.strip_prefix(&mount.container_path).unwrap_or(Path::new(""));
            // A mounted file has nothing below it; joining nothing would add a slash.
            let path = if rest.as_os_str().is_empty() { mount.host_path.clone() } else { mount.host_path.join(rest) };
            (path, mount.read_only)
        }
        None => (root.join(inside.strip_prefix("/").unwrap_or(inside)), false),
    }
}

/// The machine's disk through a container's mounts.
pub(super) struct MountedDisk {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) mounts: Vec<Mount>,
    pub(super) root: PathBuf,
}

impl MountedDisk {
    fn at(&self, path: &Path) -> PathBuf {
        machine_path(&self.mounts, &self.root, path).0
    }

    /// Does a call on a path that is to be changed.
    fn change<T: Send + 'static>(&self, path: &Path, call: impl FnOnce(&dyn Disk, PathBuf) -> Answer<T>) -> Answer<T> {
        match machine_path(&self.mounts, &self.root, path) {
            (at, false) => call(&*self.disk, at),
            (_, true) => {
                let text = format!("{}: Read-only file system", path.display());
                futures::future::ready(Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, text))).boxed()
            }
        }
    }
}

impl Disk for MountedDisk {
    fn read(&self, path: &Path) -> Answer<Vec<u8>> {
        self.disk.read(&self.at(path))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Answer<Vec<u8>> {
        self.disk.read_at(&self.at(path), offset, len)
    }

    fn write(&self, path: &Path, content: Vec<u8>, options: WriteOptions) -> Answer<()> {
        self.change(path, |disk, at| disk.write(&at, content, options))
    }

    fn append(&self, path: &Path, content: Vec<u8>) -> Answer<()> {
        self.change(path, |disk, at| disk.append(&at, content))
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> Answer<()> {
        self.change(path, |disk, at| disk.create_dir_all(&at, mode))
    }

    fn read_dir(&self, path: &Path) -> Answer<Vec<(String, EntryKind)>> {
        self.disk.read_dir(&self.at(path))
    }

    fn metadata(&self, path: &Path) -> Answer<Metadata> {
        self.disk.metadata(&self.at(path))
    }

    fn remove_file(&self, path: &Path) -> Answer<()> {
        self.change(path, |disk, at| disk.remove_file(&at))
    }

    fn remove_dir_all(&self, path: &Path) -> Answer<()> {
        self.change(path, |disk, at| disk.remove_dir_all(&at))
    }

    fn rename(&self, from: &Path, to: &Path) -> Answer<()> {
        let from = self.at(from);
        self.change(to, |disk, at| disk.rename(&from, &at))
    }

    fn symlink(&self, target: &Path, link: &Path) -> Answer<()> {
        self.change(link, |disk, at| disk.symlink(target, &at))
    }

    fn read_link(&self, link: &Path) -> Answer<PathBuf> {
        self.disk.read_link(&self.at(link))
    }

    fn set_owner(&self, path: &Path, uid: Option<u32>, gid: Option<u32>, mode: Option<u32>) -> Answer<()> {
        self.change(path, |disk, at| disk.set_owner(&at, uid, gid, mode))
    }

    fn usage(&self, path: &Path) -> Answer<Usage> {
        self.disk.usage(&self.at(path))
    }

    fn tree_usage(&self, path: &Path) -> Answer<(u64, u64)> {
        self.disk.tree_usage(&self.at(path))
    }

    fn mount_memory(&self, at: &Path, size_bytes: Option<u64>) -> Answer<()> {
        self.change(at, |disk, at| disk.mount_memory(&at, size_bytes))
    }

    fn unmount(&self, at: &Path) -> Answer<()> {
        self.change(at, |disk, at| disk.unmount(&at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_world::containers::Propagation;

    #[test]
    fn paths() {
        let mount = |host: &str, inside: &str, read_only| Mount {
            host_path: host.into(),
            container_path: inside.into(),
            read_only,
            propagation: Propagation::Private,
        };
        let mounts =
            [mount("/var/v", "/data", false), mount("/etc/x", "/data/etc", true), mount("/etc/hosts", "/etc/hosts", true)];
        for (inside, wanted, read_only) in [
            ("/data/a", "/var/v/a", false),
            ("/data", "/var/v", false),
            ("/data/etc/b", "/etc/x/b", true),
            ("/etc/hosts", "/etc/hosts", true),
            ("/database", "/layer/database", false),
        ] {
            let found = machine_path(&mounts, Path::new("/layer"), Path::new(inside));
            assert_eq!(found, (PathBuf::from(wanted), read_only), "{inside}");
        }
    }
}
