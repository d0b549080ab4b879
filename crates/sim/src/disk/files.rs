//! All of a machine's files: the calls of [`daruma_world::Disk`], without time.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_world::disk::{EntryKind, Metadata, Usage};

use super::node::{Bytes, Content, Directory, Node, Way, blocks_bytes};

/// Inodes of a file system.
const INODES: u64 = 1 << 20;
/// Size of a memory file system without one of its own.
const MEMORY_BYTES: u64 = 1 << 30;

pub(super) fn error(kind: ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}

struct FileSystem {
    top: Arc<Node>,
    capacity: u64,
    used_bytes: u64,
    used_inodes: u64,
}

/// The file systems of a machine; 0 is the disk, the others are memory.
pub(super) struct Files {
    systems: BTreeMap<u64, FileSystem>,
    last_mount: u64,
    last_inode: u64,
    /// Bytes and inodes of the disk that pressures use.
    pub(super) filler: (u64, u64),
}

impl Files {
    pub(super) fn new(capacity: u64, now: jiff::Timestamp) -> Self {
        let mut files = Self { systems: BTreeMap::new(), last_mount: 0, last_inode: 1, filler: (0, 0) };
        let top = files.node(Content::Directory(Directory::default()), 0o755, now);
        files.systems.insert(0, FileSystem { top: Arc::new(top), capacity, used_bytes: 0, used_inodes: 1 });
        files
    }

    fn node(&mut self, content: Content, mode: u32, now: jiff::Timestamp) -> Node {
        self.last_inode += 1;
        Node { content, mode: mode & 0o7777, uid: 0, gid: 0, inode: self.last_inode, modified: now }
    }

    fn system(&self, number: u64) -> &FileSystem {
        self.systems.get(&number).expect("ways lead to file systems that are there")
    }

    fn system_mut(&mut self, number: u64) -> &mut FileSystem {
        self.systems.get_mut(&number).expect("ways lead to file systems that are there")
    }

    pub(super) fn top(&self, number: u64) -> &Node {
        &self.system(number).top
    }

    pub(super) fn is_mounted(&self, number: u64) -> bool {
        number != 0 && self.systems.contains_key(&number)
    }

    /// The disk's top, to be kept as its past.
    pub(super) fn disk_top(&self) -> &Arc<Node> {
        &self.system(0).top
    }

    /// Puts another top in place and forgets all mounts, as a boot does.
    pub(super) fn restart(&mut self, top: Arc<Node>) {
        self.systems.retain(|number, _| *number == 0);
        let disk = self.system_mut(0);
        (disk.used_bytes, disk.used_inodes) = top.usage();
        disk.top = top;
    }

    fn usage_of(&self, number: u64) -> Usage {
        let system = self.system(number);
        let (bytes, inodes) = if number == 0 { self.filler } else { (0, 0) };
        Usage {
            capacity_bytes: system.capacity,
            available_bytes: system.capacity.saturating_sub(system.used_bytes + bytes),
            inodes: INODES,
            inodes_free: INODES.saturating_sub(system.used_inodes + inodes),
        }
    }

    fn has_room(&self, number: u64, bytes: u64, inodes: u64, path: &Path) -> io::Result<()> {
        let usage = self.usage_of(number);
        let is_full = (bytes > 0 && usage.available_bytes < bytes) || usage.inodes_free < inodes;
        if is_full { Err(error(ErrorKind::StorageFull, path)) } else { Ok(()) }
    }

    /// Puts a node at the end of a way whose directories exist; what was there goes.
    pub(super) fn put(&mut self, number: u64, way: &Way, node: Node) {
        let (bytes, inodes) = node.usage();
        let system = self.system_mut(number);
        let Some((directory, name)) = system.top.own_above(way) else { return };
        let old = directory.entries.insert(name.into(), Arc::new(node));
        let (old_bytes, old_inodes) = old.as_ref().map_or((0, 0), |old| old.usage());
        system.used_bytes = system.used_bytes + bytes - old_bytes.min(system.used_bytes);
        system.used_inodes = system.used_inodes + inodes - old_inodes.min(system.used_inodes);
    }

    fn take(&mut self, number: u64, way: &Way) -> Option<Arc<Node>> {
        let system = self.system_mut(number);
        let (directory, name) = system.top.own_above(way)?;
        let node = directory.entries.remove(name)?;
        let (bytes, inodes) = node.usage();
        system.used_bytes = system.used_bytes.saturating_sub(bytes);
        system.used_inodes = system.used_inodes.saturating_sub(inodes);
        Some(node)
    }

    pub(super) fn file<'a>(&'a self, path: &'a Path) -> io::Result<&'a Bytes> {
        match &self.existing(path, true)?.1.content {
            Content::File(content) => Ok(content),
            _ => Err(error(ErrorKind::IsADirectory, path)),
        }
    }

    /// Replaces what is at `path`, a symbolic link too: as a rename over it does. Gives where it went.
    pub(super) fn write(
        &mut self,
        path: &Path,
        content: Vec<u8>,
        mode: u32,
        now: jiff::Timestamp,
    ) -> io::Result<(u64, Way, Node)> {
        let found = self.find(path, false)?;
        let (old_bytes, old_inodes) = match found.node {
            Some(node) if node.kind() == EntryKind::Directory => return Err(error(ErrorKind::IsADirectory, path)),
            node => node.map_or((0, 0), Node::usage),
        };
        let (number, way) = (found.file_system, found.way);
        self.has_room(number, blocks_bytes(content.len()).saturating_sub(old_bytes), 1 - old_inodes, path)?;
        let node = self.node(Content::File(content.into()), mode, now);
        self.put(number, &way, node.clone());
        Ok((number, way, node))
    }

    pub(super) fn append(&mut self, path: &Path, content: &[u8], now: jiff::Timestamp) -> io::Result<()> {
        let found = self.find(path, true)?;
        let old = match found.node.map(|node| &node.content) {
            None => None,
            Some(Content::File(old)) => Some(old.len()),
            Some(_) => return Err(error(ErrorKind::IsADirectory, path)),
        };
        let more = blocks_bytes(old.unwrap_or(0) + content.len()) - blocks_bytes(old.unwrap_or(0));
        let (number, way) = (found.file_system, found.way);
        self.has_room(number, more, u64::from(old.is_none()), path)?;
        if old.is_none() {
            let node = self.node(Content::File(content.to_vec().into()), 0o644, now);
            self.put(number, &way, node);
            return Ok(());
        }
        let system = self.system_mut(number);
        if let Some(Node { content: Content::File(old), modified, .. }) = system.top.own(&way) {
            old.append(content);
            *modified = now;
            system.used_bytes += more;
        }
        Ok(())
    }

    pub(super) fn create_dir_all(&mut self, path: &Path, mode: u32, now: jiff::Timestamp) -> io::Result<()> {
        let is_directory =
            |files: &Self, path: &Path| files.existing(path, true).is_ok_and(|(_, node)| node.directory().is_some());
        let missing = path.ancestors().take_while(|part| !is_directory(self, part));
        let missing: Vec<&Path> = missing.collect();
        for part in missing.into_iter().rev() {
            let found = self.find(part, true)?;
            match found.node.map(Node::kind) {
                Some(EntryKind::Directory) => {}
                Some(_) => return Err(error(ErrorKind::AlreadyExists, part)),
                None => {
                    let (number, way) = (found.file_system, found.way);
                    self.has_room(number, 0, 1, part)?;
                    let node = self.node(Content::Directory(Directory::default()), mode, now);
                    self.put(number, &way, node);
                }
            }
        }
        Ok(())
    }

    pub(super) fn read_dir(&self, path: &Path) -> io::Result<Vec<(String, EntryKind)>> {
        let (_, node) = self.existing(path, true)?;
        let directory = node.directory().ok_or_else(|| error(ErrorKind::NotADirectory, path))?;
        Ok(directory.entries.iter().map(|(name, node)| (name.to_string_lossy().into_owned(), node.kind())).collect())
    }

    pub(super) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        Ok(self.existing(path, false)?.1.metadata())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let found = self.find(path, false)?;
        if found.existing(path)?.kind() == EntryKind::Directory {
            return Err(error(ErrorKind::IsADirectory, path));
        }
        let (number, way) = (found.file_system, found.way);
        self.take(number, &way);
        Ok(())
    }

    fn has_mount_below(&self, node: &Node) -> bool {
        node.any(&|directory| self.is_mounted(directory.mounted))
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let found = match self.find(path, false) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(node) = found.node else { return Ok(()) };
        if found.is_top() || self.has_mount_below(node) {
            return Err(error(ErrorKind::ResourceBusy, path));
        }
        let (number, way) = (found.file_system, found.way);
        self.take(number, &way);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let source = self.find(from, false)?;
        let node = source.existing(from)?;
        let moves_directory = node.kind() == EntryKind::Directory;
        let target = self.find(to, false)?;
        if target.node.is_some_and(|there| there.inode == node.inode) {
            return Ok(());
        }
        if source.is_top() || target.is_top() {
            return Err(error(ErrorKind::ResourceBusy, from));
        }
        if source.file_system != target.file_system {
            return Err(error(ErrorKind::CrossesDevices, to));
        }
        if moves_directory && target.passes(node.inode) {
            return Err(error(ErrorKind::InvalidInput, to));
        }
        if let Some(there) = target.node {
            match there.directory() {
                Some(_) if !moves_directory => return Err(error(ErrorKind::IsADirectory, to)),
                Some(directory) if !directory.entries.is_empty() => return Err(error(ErrorKind::DirectoryNotEmpty, to)),
                None if moves_directory => return Err(error(ErrorKind::NotADirectory, to)),
                _ => {}
            }
        }
        let (number, old, new) = (source.file_system, source.way, target.way);
        if let Some(node) = self.take(number, &old) {
            self.put(number, &new, Arc::unwrap_or_clone(node));
        }
        Ok(())
    }

    pub(super) fn symlink(&mut self, target: &Path, link: &Path, now: jiff::Timestamp) -> io::Result<()> {
        let found = self.find(link, false)?;
        if found.node.is_some() {
            return Err(error(ErrorKind::AlreadyExists, link));
        }
        let (number, way) = (found.file_system, found.way);
        self.has_room(number, 0, 1, link)?;
        let node = self.node(Content::Symlink(target.to_owned()), 0o777, now);
        self.put(number, &way, node);
        Ok(())
    }

    pub(super) fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        match &self.existing(link, false)?.1.content {
            Content::Symlink(target) => Ok(target.clone()),
            _ => Err(error(ErrorKind::InvalidInput, link)),
        }
    }

    pub(super) fn set_owner(&mut self, path: &Path, uid: Option<u32>, gid: Option<u32>, mode: Option<u32>) -> io::Result<()> {
        let found = self.find(path, false)?;
        found.existing(path)?;
        let (number, way) = (found.file_system, found.way);
        if let Some(node) = self.system_mut(number).top.own(&way) {
            node.uid = uid.unwrap_or(node.uid);
            node.gid = gid.unwrap_or(node.gid);
            node.mode = mode.map_or(node.mode, |mode| mode & 0o7777);
        }
        Ok(())
    }

    pub(super) fn usage(&self, path: &Path) -> io::Result<Usage> {
        Ok(self.usage_of(self.existing(path, true)?.0))
    }

    pub(super) fn tree_usage(&self, path: &Path) -> io::Result<(u64, u64)> {
        Ok(self.existing(path, false)?.1.usage())
    }

    pub(super) fn mount(&mut self, at: &Path, size_bytes: Option<u64>, now: jiff::Timestamp) -> io::Result<()> {
        let found = self.find(at, true)?;
        let node = found.existing(at)?;
        if node.kind() != EntryKind::Directory {
            return Err(error(ErrorKind::NotADirectory, at));
        }
        if found.is_top() || self.has_mount_below(node) {
            return Err(error(ErrorKind::ResourceBusy, at));
        }
        let (number, way) = (found.file_system, found.way);
        self.last_mount += 1;
        let mount = self.last_mount;
        if let Some(directory) = self.system_mut(number).top.own_directory(&way) {
            directory.mounted = mount;
        }
        let top = Arc::new(self.node(Content::Directory(Directory::default()), 0o1777, now));
        let capacity = size_bytes.unwrap_or(MEMORY_BYTES);
        self.systems.insert(mount, FileSystem { top, capacity, used_bytes: 0, used_inodes: 1 });
        Ok(())
    }

    /// Unmounts what has its top at a path; gives whether there was something.
    pub(super) fn unmount(&mut self, at: &Path) -> bool {
        match self.find(at, true) {
            Ok(found) if found.is_top() && found.file_system != 0 => {
                let number = found.file_system;
                self.systems.remove(&number);
                true
            }
            _ => false,
        }
    }
}
