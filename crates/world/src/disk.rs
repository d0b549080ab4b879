//! Files.

use std::io;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

/// What kind of entry a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, pipe or socket.
    Other,
}

/// Facts of one path (symbolic links are not followed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: EntryKind,
    /// Length in bytes.
    pub len: u64,
    /// Permission bits, e.g. `0o644`.
    pub mode: u32,
    /// Inode number.
    pub inode: u64,
    /// Last change of content.
    pub modified: jiff::Timestamp,
}

/// Space of the file system that holds a path, in bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Size of the file system in bytes.
    pub capacity_bytes: u64,
    /// Bytes that an unprivileged user may still write.
    pub available_bytes: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// Permission bits of the new file.
    pub mode: u32,
    /// Whether the content and the rename must survive a power cut before the call completes.
    pub durable: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { mode: 0o644, durable: false }
    }
}

/// A machine's file system. Paths are absolute.
pub trait Disk: Send + Sync {
    /// Reads a whole file.
    fn read(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<u8>>>;
    /// Reads at most `len` bytes from `offset`; fewer at the end of the file.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Vec<u8>>>;
    /// Replaces a file as a whole: a reader sees the old or the new content, never a part.
    fn write(&self, path: &Path, content: Vec<u8>, options: WriteOptions) -> BoxFuture<'static, io::Result<()>>;
    /// Appends to a file, creating it where missing.
    fn append(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>>;
    /// Creates a directory and its missing parents with permission bits `mode`; an existing one is fine.
    fn create_dir_all(&self, path: &Path, mode: u32) -> BoxFuture<'static, io::Result<()>>;
    /// The entries of a directory, ordered by name.
    fn read_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<(String, EntryKind)>>>;
    /// Facts of one path.
    fn metadata(&self, path: &Path) -> BoxFuture<'static, io::Result<Metadata>>;
    /// Removes a file or symbolic link.
    fn remove_file(&self, path: &Path) -> BoxFuture<'static, io::Result<()>>;
    /// Removes a directory with all it holds, without following links or crossing mounts. A missing one is fine.
    fn remove_dir_all(&self, path: &Path) -> BoxFuture<'static, io::Result<()>>;
    /// Renames within one file system, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'static, io::Result<()>>;
    /// Creates the symbolic link `link` that names `target`.
    fn symlink(&self, target: &Path, link: &Path) -> BoxFuture<'static, io::Result<()>>;
    /// The target of a symbolic link.
    fn read_link(&self, link: &Path) -> BoxFuture<'static, io::Result<PathBuf>>;
    /// Sets owner, group and permission bits; `None` keeps what is there.
    fn set_owner(&self, path: &Path, uid: Option<u32>, gid: Option<u32>, mode: Option<u32>)
    -> BoxFuture<'static, io::Result<()>>;
    /// Space of the file system that holds `path`.
    fn usage(&self, path: &Path) -> BoxFuture<'static, io::Result<Usage>>;
    /// Bytes and inodes used below `path`, as `du` counts them.
    fn tree_usage(&self, path: &Path) -> BoxFuture<'static, io::Result<(u64, u64)>>;
    /// Mounts a memory file system of at most `size_bytes` (the machine's memory where `None`).
    fn mount_memory(&self, at: &Path, size_bytes: Option<u64>) -> BoxFuture<'static, io::Result<()>>;
    /// Unmounts what is mounted at `at`; nothing mounted there is fine.
    fn unmount(&self, at: &Path) -> BoxFuture<'static, io::Result<()>>;
    /// A number that is another one after each change of a file or of the space that is left; `None` where nobody counts.
    /// Who reads it, then looks, and finds it the same later, need not look again.
    fn changes(&self) -> Option<u64> {
        None
    }
}
