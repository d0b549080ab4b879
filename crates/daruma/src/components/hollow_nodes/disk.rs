//! The disk of a simulated node: a directory of the host that it takes for the root.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use daruma_world::Disk;
use daruma_world::disk::{EntryKind, Metadata, Usage, WriteOptions};
use futures::FutureExt;
use futures::future::BoxFuture;

/// One inode for so many bytes (the default of mke2fs).
const BYTES_PER_INODE: u64 = 16_384;

/// A directory as a disk of its own. Its size is what the node says it is, not the host's.
pub struct NodeDisk {
    host: Arc<dyn Disk>,
    root: PathBuf,
    size_bytes: u64,
}

impl NodeDisk {
    /// The directory `root` of `host`.
    pub fn new(host: Arc<dyn Disk>, root: PathBuf, size_bytes: u64) -> Self {
        Self { host, root, size_bytes }
    }

    /// Where a path of the node is on the host; it cannot lead out of the directory.
    fn at(&self, path: &Path) -> PathBuf {
        let mut inside = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => inside.push(name),
                Component::ParentDir => {
                    inside.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        self.root.join(inside)
    }
}

impl Disk for NodeDisk {
    fn read(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        self.host.read(&self.at(path))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        self.host.read_at(&self.at(path), offset, len)
    }

    fn write(&self, path: &Path, content: Vec<u8>, options: WriteOptions) -> BoxFuture<'static, io::Result<()>> {
        self.host.write(&self.at(path), content, options)
    }

    fn append(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        self.host.append(&self.at(path), content)
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> BoxFuture<'static, io::Result<()>> {
        self.host.create_dir_all(&self.at(path), mode)
    }

    fn read_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<(String, EntryKind)>>> {
        self.host.read_dir(&self.at(path))
    }

    fn metadata(&self, path: &Path) -> BoxFuture<'static, io::Result<Metadata>> {
        self.host.metadata(&self.at(path))
    }

    fn remove_file(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        self.host.remove_file(&self.at(path))
    }

    fn remove_dir_all(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        self.host.remove_dir_all(&self.at(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'static, io::Result<()>> {
        self.host.rename(&self.at(from), &self.at(to))
    }

    fn symlink(&self, target: &Path, link: &Path) -> BoxFuture<'static, io::Result<()>> {
        // One that names an absolute path would lead to the host's own files.
        let target = if target.is_absolute() { self.at(target) } else { target.to_owned() };
        self.host.symlink(&target, &self.at(link))
    }

    fn read_link(&self, link: &Path) -> BoxFuture<'static, io::Result<PathBuf>> {
        self.host.read_link(&self.at(link))
    }

    /// Nobody but the kubelet itself ever opens these files: owners stay, permissions are set.
    fn set_owner(
        &self,
        path: &Path,
        _uid: Option<u32>,
        _gid: Option<u32>,
        mode: Option<u32>,
    ) -> BoxFuture<'static, io::Result<()>> {
        self.host.set_owner(&self.at(path), None, None, mode)
    }

    fn usage(&self, _path: &Path) -> BoxFuture<'static, io::Result<Usage>> {
        let inodes = self.size_bytes / BYTES_PER_INODE;
        let usage =
            Usage { capacity_bytes: self.size_bytes, available_bytes: self.size_bytes, inodes, inodes_free: inodes };
        std::future::ready(Ok(usage)).boxed()
    }

    fn tree_usage(&self, path: &Path) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        self.host.tree_usage(&self.at(path))
    }

    /// An ordinary directory: nothing is mounted on the host for a simulated node.
    fn mount_memory(&self, _at: &Path, _size_bytes: Option<u64>) -> BoxFuture<'static, io::Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn unmount(&self, _at: &Path) -> BoxFuture<'static, io::Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_leads_out() {
        let disk = NodeDisk::new(daruma_host::world::real().disk, "/c/simulated-0/disk".into(), 1 << 30);
        let check = |path: &str, wanted: &str| assert_eq!(disk.at(Path::new(path)), Path::new(wanted), "{path}");
        check("/", "/c/simulated-0/disk");
        check("/etc/hosts", "/c/simulated-0/disk/etc/hosts");
        check("/a/../../../etc/./passwd", "/c/simulated-0/disk/etc/passwd");
    }
}
