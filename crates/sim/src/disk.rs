//! A machine's file system in memory: the calls of [`Disk`] on a `tree::Tree`.

mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use daruma_world::disk::{EntryKind, Metadata, Usage, WriteOptions};
use daruma_world::{Clock, Disk};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::clock::VirtualClock;
use tree::Tree;

/// Size of a new disk in bytes.
const CAPACITY_BYTES: u64 = 16 << 30;

/// Files in memory. Everything is durable at once; a call takes no time. Clones share the files.
#[derive(Clone)]
pub struct MemoryDisk {
    clock: VirtualClock,
    tree: Arc<Mutex<Tree>>,
}

impl MemoryDisk {
    /// An empty disk with the root directory.
    pub(crate) fn new(clock: VirtualClock) -> Self {
        let tree = Arc::new(Mutex::new(Tree::new(CAPACITY_BYTES, clock.now())));
        Self { clock, tree }
    }

    /// Does `work` when the call is polled, at the time it then is.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tree, jiff::Timestamp) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let disk = self.clone();
        async move {
            let now = disk.clock.now();
            work(&mut disk.tree.lock().unwrap_or_else(PoisonError::into_inner), now)
        }
        .boxed()
    }
}

impl Disk for MemoryDisk {
    fn read(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let path = path.to_owned();
        self.call(move |tree, _| tree.file(&path).map(<[u8]>::to_vec))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let path = path.to_owned();
        self.call(move |tree, _| {
            let content = tree.file(&path)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            Ok(content[start..start.saturating_add(len).min(content.len())].to_vec())
        })
    }

    fn write(&self, path: &Path, content: Vec<u8>, options: WriteOptions) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.call(move |tree, now| tree.write(&path, content, options.mode, now))
    }

    fn append(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.call(move |tree, now| tree.append(&path, &content, now))
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.call(move |tree, now| tree.create_dir_all(&path, mode, now))
    }

    fn read_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<(String, EntryKind)>>> {
        let path = path.to_owned();
        self.call(move |tree, _| tree.read_dir(&path))
    }

    fn metadata(&self, path: &Path) -> BoxFuture<'static, io::Result<Metadata>> {
        let path = path.to_owned();
        self.call(move |tree, _| tree.metadata(&path))
    }

    fn remove_file(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.call(move |tree, _| tree.remove_file(&path))
    }

    fn remove_dir_all(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.call(move |tree, _| tree.remove_dir_all(&path))
    }

    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'static, io::Result<()>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.call(move |tree, _| tree.rename(&from, &to))
    }

    fn symlink(&self, target: &Path, link: &Path) -> BoxFuture<'static, io::Result<()>> {
        let (target, link) = (target.to_owned(), link.to_owned());
        self.call(move |tree, now| tree.symlink(&target, &link, now))
    }

    fn read_link(&self, link: &Path) -> BoxFuture<'static, io::Result<PathBuf>> {
        let link = link.to_owned();
        self.call(move |tree, _| tree.read_link(&link))
    }

    fn set_owner(
        &self,
        path: &Path,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: Option<u32>,
    ) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.call(move |tree, _| tree.set_owner(&path, uid, gid, mode))
    }

    fn usage(&self, path: &Path) -> BoxFuture<'static, io::Result<Usage>> {
        let path = path.to_owned();
        self.call(move |tree, _| tree.usage(&path))
    }

    fn tree_usage(&self, path: &Path) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        let path = path.to_owned();
        self.call(move |tree, _| tree.tree_usage(&path))
    }

    fn mount_memory(&self, at: &Path, size_bytes: Option<u64>) -> BoxFuture<'static, io::Result<()>> {
        let at = at.to_owned();
        self.call(move |tree, now| tree.mount(&at, size_bytes, now))
    }

    fn unmount(&self, at: &Path) -> BoxFuture<'static, io::Result<()>> {
        let at = at.to_owned();
        self.call(move |tree, _| {
            tree.unmount(&at);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;

    use daruma_world::disk::{EntryKind, WriteOptions};

    #[test]
    fn files_links_and_mounts() {
        crate::run(1, |world| async move {
            let disk = &world.disk;
            let path = Path::new;
            let write = |at: &'static str, text: &str| disk.write(path(at), text.into(), WriteOptions::default());
            assert_eq!(write("/var/a", "x").await.unwrap_err().kind(), ErrorKind::NotFound);
            disk.create_dir_all(path("/var/lib/v1"), 0o755).await.unwrap();
            disk.create_dir_all(path("/var/lib/v2"), 0o755).await.unwrap();
            write("/var/lib/v1/key", "one").await.unwrap();
            write("/var/lib/v2/key", "two").await.unwrap();

            // The way in which the kubelet replaces a volume's content as a whole.
            disk.symlink(path("v1"), path("/var/lib/..data")).await.unwrap();
            assert_eq!(disk.read(path("/var/lib/..data/key")).await.unwrap(), b"one");
            disk.symlink(path("v2"), path("/var/lib/..tmp")).await.unwrap();
            disk.rename(path("/var/lib/..tmp"), path("/var/lib/..data")).await.unwrap();
            assert_eq!(disk.read(path("/var/lib/..data/key")).await.unwrap(), b"two");
            assert_eq!(disk.read_link(path("/var/lib/..data")).await.unwrap(), path("v2"));
            let names = disk.read_dir(path("/var/lib")).await.unwrap();
            let expected = [("..data", EntryKind::Symlink), ("v1", EntryKind::Directory), ("v2", EntryKind::Directory)];
            assert_eq!(names, expected.map(|(name, kind)| (name.to_owned(), kind)));

            disk.append(path("/var/lib/..data/key"), b" more".to_vec()).await.unwrap();
            assert_eq!(disk.read_at(path("/var/lib/v2/key"), 2, 4).await.unwrap(), b"o mo");
            disk.rename(path("/var/lib/v2"), path("/var/moved")).await.unwrap();
            assert_eq!(disk.read(path("/var/moved/key")).await.unwrap(), b"two more");
            assert_eq!(disk.read(path("/var/lib/..data/key")).await.unwrap_err().kind(), ErrorKind::NotFound);

            disk.mount_memory(path("/var/lib/v1"), Some(8192)).await.unwrap();
            assert_eq!(disk.read_dir(path("/var/lib/v1")).await.unwrap(), []);
            assert_eq!(write("/var/lib/v1/big", &"x".repeat(9000)).await.unwrap_err().kind(), ErrorKind::StorageFull);
            write("/var/lib/v1/small", "x").await.unwrap();
            assert_eq!(disk.usage(path("/var/lib/v1")).await.unwrap().available_bytes, 4096);
            assert_eq!(disk.remove_dir_all(path("/var/lib")).await.unwrap_err().kind(), ErrorKind::ResourceBusy);
            disk.unmount(path("/var/lib/v1")).await.unwrap();
            assert_eq!(disk.read(path("/var/lib/v1/key")).await.unwrap(), b"one");
            assert_eq!(disk.tree_usage(path("/var")).await.unwrap(), (8192, 7));

            disk.remove_dir_all(path("/var/lib")).await.unwrap();
            disk.remove_dir_all(path("/var/lib")).await.unwrap();
            assert_eq!(disk.metadata(path("/var/lib")).await.unwrap_err().kind(), ErrorKind::NotFound);
        });
    }
}
