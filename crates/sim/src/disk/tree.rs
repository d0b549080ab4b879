//! Paths, files, links and mounts in memory. No hard links.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use daruma_world::disk::{EntryKind, Metadata, Usage};

/// Space is counted in blocks of so many bytes.
const BLOCK: u64 = 4096;
/// Symbolic links followed on one way.
const LINKS: u32 = 40;
/// Inodes of a file system.
const INODES: u64 = 1 << 20;
/// Size of a memory file system without one of its own.
const MEMORY_BYTES: u64 = 1 << 30;

enum Content {
    File(Vec<u8>),
    Directory,
    Symlink(PathBuf),
}

struct Node {
    content: Content,
    mode: u32,
    uid: u32,
    gid: u32,
    inode: u64,
    modified: jiff::Timestamp,
}

impl Node {
    fn kind(&self) -> EntryKind {
        match self.content {
            Content::File(_) => EntryKind::File,
            Content::Directory => EntryKind::Directory,
            Content::Symlink(_) => EntryKind::Symlink,
        }
    }

    fn len(&self) -> u64 {
        match &self.content {
            Content::File(content) => content.len() as u64,
            Content::Directory => 0,
            Content::Symlink(target) => target.as_os_str().len() as u64,
        }
    }

    fn blocks_bytes(&self) -> u64 {
        match &self.content {
            Content::File(content) => (content.len() as u64).div_ceil(BLOCK) * BLOCK,
            _ => 0,
        }
    }
}

/// A file system over a directory, and what it hides there.
struct Mount {
    capacity: u64,
    hidden: BTreeMap<PathBuf, Node>,
}

/// All of a machine's files. Paths compare by component, so what is below a directory follows it.
pub(super) struct Tree {
    capacity: u64,
    nodes: BTreeMap<PathBuf, Node>,
    mounts: BTreeMap<PathBuf, Mount>,
    last_inode: u64,
}

fn error(kind: ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}

impl Tree {
    pub(super) fn new(capacity: u64, now: jiff::Timestamp) -> Self {
        let mut tree = Self { capacity, nodes: BTreeMap::new(), mounts: BTreeMap::new(), last_inode: 1 };
        tree.insert(PathBuf::from("/"), Content::Directory, 0o755, now);
        tree
    }

    fn insert(&mut self, path: PathBuf, content: Content, mode: u32, now: jiff::Timestamp) {
        self.last_inode += 1;
        self.nodes.insert(path, Node { content, mode, uid: 0, gid: 0, inode: self.last_inode, modified: now });
    }

    /// The path without symbolic links and dots; the last component is followed on request. All but
    /// the last component exist and are directories.
    fn resolve(&self, path: &Path, follow_last: bool) -> io::Result<PathBuf> {
        if !path.is_absolute() {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("{} is not absolute", path.display())));
        }
        let mut links = 0;
        let mut rest: Vec<PathBuf> = path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect();
        let mut done = PathBuf::new();
        while let Some(part) = rest.pop() {
            match part.components().next() {
                Some(Component::ParentDir) => {
                    done.pop();
                    continue;
                }
                Some(Component::CurDir) | None => continue,
                Some(Component::RootDir) => done = PathBuf::from("/"),
                Some(_) => done.push(&part),
            }
            if rest.is_empty() && !follow_last {
                break;
            }
            match self.nodes.get(&done).map(|node| &node.content) {
                Some(Content::Symlink(target)) => {
                    links += 1;
                    if links > LINKS {
                        return Err(io::Error::other(format!("{}: too many symbolic links", path.display())));
                    }
                    done.pop();
                    rest.extend(target.components().rev().map(|part| PathBuf::from(part.as_os_str())));
                }
                Some(Content::File(_)) if !rest.is_empty() => return Err(error(ErrorKind::NotADirectory, path)),
                None if !rest.is_empty() => return Err(error(ErrorKind::NotFound, path)),
                _ => {}
            }
        }
        Ok(done)
    }

    fn node(&self, path: &Path, follow_last: bool) -> io::Result<(PathBuf, &Node)> {
        let resolved = self.resolve(path, follow_last)?;
        let node = self.nodes.get(&resolved).ok_or_else(|| error(ErrorKind::NotFound, path))?;
        Ok((resolved, node))
    }

    /// `top` and all below it.
    fn below<'a>(&'a self, top: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
        self.nodes.range(top.to_owned()..).take_while(move |(path, _)| path.starts_with(top))
    }

    /// The mount point of the file system that holds a resolved path; the root's is `/`.
    fn file_system<'a>(&self, path: &'a Path) -> &'a Path {
        path.ancestors().find(|above| self.mounts.contains_key(*above)).unwrap_or(Path::new("/"))
    }

    /// Bytes and inodes below `top` in its own file system.
    fn used(&self, top: &Path) -> (u64, u64) {
        let here = self.file_system(top);
        let own = self.below(top).filter(|(path, _)| self.file_system(path) == here);
        own.fold((0, 0), |(bytes, inodes), (_, node)| (bytes + node.blocks_bytes(), inodes + 1))
    }

    fn has_room(&self, path: &Path, more: u64) -> io::Result<()> {
        if self.usage_of(path).available_bytes < more { Err(error(ErrorKind::StorageFull, path)) } else { Ok(()) }
    }

    fn usage_of(&self, path: &Path) -> Usage {
        let root = self.file_system(path);
        let capacity_bytes = self.mounts.get(root).map_or(self.capacity, |mount| mount.capacity);
        let (bytes, inodes) = self.used(root);
        Usage {
            capacity_bytes,
            available_bytes: capacity_bytes.saturating_sub(bytes),
            inodes: INODES,
            inodes_free: INODES.saturating_sub(inodes),
        }
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<&[u8]> {
        match &self.node(path, true)?.1.content {
            Content::File(content) => Ok(content),
            _ => Err(error(ErrorKind::IsADirectory, path)),
        }
    }

    /// Replaces what is at `path`, a symbolic link too: as a rename over it does.
    pub(super) fn write(&mut self, path: &Path, content: Vec<u8>, mode: u32, now: jiff::Timestamp) -> io::Result<()> {
        let at = self.resolve(path, false)?;
        let old = match self.nodes.get(&at) {
            Some(node) if node.kind() == EntryKind::Directory => return Err(error(ErrorKind::IsADirectory, path)),
            node => node.map_or(0, Node::blocks_bytes),
        };
        let new = (content.len() as u64).div_ceil(BLOCK) * BLOCK;
        self.has_room(&at, new.saturating_sub(old))?;
        self.insert(at, Content::File(content), mode & 0o7777, now);
        Ok(())
    }

    pub(super) fn append(&mut self, path: &Path, content: &[u8], now: jiff::Timestamp) -> io::Result<()> {
        let at = self.resolve(path, true)?;
        self.has_room(&at, content.len() as u64)?;
        match self.nodes.get_mut(&at) {
            None => self.insert(at, Content::File(content.to_vec()), 0o644, now),
            Some(Node { content: Content::File(old), modified, .. }) => {
                old.extend_from_slice(content);
                *modified = now;
            }
            Some(_) => return Err(error(ErrorKind::IsADirectory, path)),
        }
        Ok(())
    }

    pub(super) fn create_dir_all(&mut self, path: &Path, mode: u32, now: jiff::Timestamp) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for part in above {
            let at = self.resolve(part, true)?;
            match self.nodes.get(&at).map(Node::kind) {
                Some(EntryKind::Directory) => {}
                Some(_) => return Err(error(ErrorKind::AlreadyExists, part)),
                None => self.insert(at, Content::Directory, mode & 0o7777, now),
            }
        }
        Ok(())
    }

    pub(super) fn read_dir(&self, path: &Path) -> io::Result<Vec<(String, EntryKind)>> {
        let (at, node) = self.node(path, true)?;
        if node.kind() != EntryKind::Directory {
            return Err(error(ErrorKind::NotADirectory, path));
        }
        let children = self.below(&at).filter(|(child, _)| child.parent() == Some(&at));
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(children.map(|(child, node)| (name(child), node.kind())).collect())
    }

    pub(super) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let (_, node) = self.node(path, false)?;
        Ok(Metadata { kind: node.kind(), len: node.len(), mode: node.mode, inode: node.inode, modified: node.modified })
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let (at, node) = self.node(path, false)?;
        if node.kind() == EntryKind::Directory {
            return Err(error(ErrorKind::IsADirectory, path));
        }
        self.nodes.remove(&at);
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let at = match self.node(path, false) {
            Ok((at, _)) => at,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.mounts.keys().any(|mount| mount.starts_with(&at)) {
            return Err(error(ErrorKind::ResourceBusy, path));
        }
        self.take_below(&at);
        Ok(())
    }

    fn take_below(&mut self, top: &Path) -> BTreeMap<PathBuf, Node> {
        let paths: Vec<PathBuf> = self.below(top).map(|(path, _)| path.clone()).collect();
        paths.into_iter().filter_map(|path| self.nodes.remove_entry(&path)).collect()
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, node) = self.node(from, false)?;
        let moves_directory = node.kind() == EntryKind::Directory;
        let target = self.resolve(to, false)?;
        if source == target {
            return Ok(());
        }
        if self.file_system(&source) != self.file_system(&target) {
            return Err(error(ErrorKind::CrossesDevices, to));
        }
        if target.starts_with(&source) {
            return Err(error(ErrorKind::InvalidInput, to));
        }
        match self.nodes.get(&target).map(Node::kind) {
            Some(EntryKind::Directory) if !moves_directory => return Err(error(ErrorKind::IsADirectory, to)),
            Some(EntryKind::Directory) if self.below(&target).count() > 1 => return Err(error(ErrorKind::DirectoryNotEmpty, to)),
            Some(EntryKind::Directory) | None => {}
            Some(_) if moves_directory => return Err(error(ErrorKind::NotADirectory, to)),
            Some(_) => {}
        }
        for (path, node) in self.take_below(&source) {
            let below = path.strip_prefix(&source).expect("what is below a directory starts with its path");
            let moved = if below.as_os_str().is_empty() { target.clone() } else { target.join(below) };
            self.nodes.insert(moved, node);
        }
        Ok(())
    }

    pub(super) fn symlink(&mut self, target: &Path, link: &Path, now: jiff::Timestamp) -> io::Result<()> {
        let at = self.resolve(link, false)?;
        if self.nodes.contains_key(&at) {
            return Err(error(ErrorKind::AlreadyExists, link));
        }
        self.insert(at, Content::Symlink(target.to_owned()), 0o777, now);
        Ok(())
    }

    pub(super) fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        match &self.node(link, false)?.1.content {
            Content::Symlink(target) => Ok(target.clone()),
            _ => Err(error(ErrorKind::InvalidInput, link)),
        }
    }

    pub(super) fn set_owner(&mut self, path: &Path, uid: Option<u32>, gid: Option<u32>, mode: Option<u32>) -> io::Result<()> {
        let (at, _) = self.node(path, false)?;
        if let Some(node) = self.nodes.get_mut(&at) {
            node.uid = uid.unwrap_or(node.uid);
            node.gid = gid.unwrap_or(node.gid);
            node.mode = mode.map_or(node.mode, |mode| mode & 0o7777);
        }
        Ok(())
    }

    pub(super) fn usage(&self, path: &Path) -> io::Result<Usage> {
        let (at, _) = self.node(path, true)?;
        Ok(self.usage_of(&at))
    }

    pub(super) fn tree_usage(&self, path: &Path) -> io::Result<(u64, u64)> {
        let (at, _) = self.node(path, false)?;
        Ok(self.used(&at))
    }

    pub(super) fn mount(&mut self, at: &Path, size_bytes: Option<u64>, now: jiff::Timestamp) -> io::Result<()> {
        let (at, node) = self.node(at, true)?;
        if node.kind() != EntryKind::Directory {
            return Err(error(ErrorKind::NotADirectory, &at));
        }
        if self.mounts.keys().any(|mount| mount.starts_with(&at)) {
            return Err(error(ErrorKind::ResourceBusy, &at));
        }
        let hidden = self.take_below(&at);
        self.insert(at.clone(), Content::Directory, 0o1777, now);
        self.mounts.insert(at, Mount { capacity: size_bytes.unwrap_or(MEMORY_BYTES), hidden });
        Ok(())
    }

    pub(super) fn unmount(&mut self, at: &Path) {
        let Ok(at) = self.resolve(at, true) else { return };
        if let Some(mount) = self.mounts.remove(&at) {
            self.take_below(&at);
            self.nodes.extend(mount.hidden);
        }
    }
}
