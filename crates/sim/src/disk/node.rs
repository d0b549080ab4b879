//! What a file system is made of. Nodes are shared between a file system and its past: whoever changes
//! one copies the way down to it, so keeping the past costs what has changed since.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_world::disk::{EntryKind, Metadata};
use litemap::LiteMap;

/// The way down from the top of a file system.
#[derive(Clone, Default)]
pub(super) struct Way {
    /// Names with slashes between them.
    joined: Vec<u8>,
}

impl Way {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a OsStr>) -> Self {
        let mut joined = Vec::with_capacity(WAY_BYTES);
        for name in names {
            if !joined.is_empty() {
                joined.push(b'/');
            }
            joined.extend_from_slice(name.as_bytes());
        }
        Self { joined }
    }

    pub(super) fn is_top(&self) -> bool {
        self.joined.is_empty()
    }

    /// Its last name, and the way to the directory that this is in.
    fn split_last(&self) -> Option<(&[u8], &OsStr)> {
        let joined = self.joined.as_slice();
        match memchr::memrchr(b'/', joined) {
            Some(slash) => Some((&joined[..slash], OsStr::from_bytes(&joined[slash + 1..]))),
            None if joined.is_empty() => None,
            None => Some((&[], OsStr::from_bytes(joined))),
        }
    }

    /// The path of the directory that its end is in.
    pub(super) fn above(&self) -> PathBuf {
        let above = self.split_last().map_or(&[][..], |(above, _)| above);
        Path::new("/").join(OsStr::from_bytes(above))
    }
}

/// Space is counted in blocks of so many bytes.
const BLOCK: u64 = 4096;
/// Room for the names of most ways.
const WAY_BYTES: usize = 128;
/// Bytes that an append may have to copy.
const PART: usize = 2048;

/// Bytes on the disk of content of this length.
pub(super) fn blocks_bytes(len: usize) -> u64 {
    (len as u64).div_ceil(BLOCK) * BLOCK
}

/// What a file contains, in parts: who appends to a file that the past remembers copies its last part only.
#[derive(Clone, Default)]
pub(super) struct Bytes {
    parts: Vec<Arc<Vec<u8>>>,
    len: usize,
}

impl Bytes {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn append(&mut self, content: &[u8]) {
        self.len += content.len();
        match self.parts.last_mut() {
            Some(last) if last.len() + content.len() <= PART => {
                Arc::make_mut(last).extend_from_slice(content);
            }
            _ => self.parts.push(Arc::new(content.to_vec())),
        }
    }

    /// At most `len` bytes from `offset` on.
    pub(super) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let (start, end) = (offset.min(self.len), offset.saturating_add(len).min(self.len));
        let mut content = Vec::with_capacity(end - start);
        let mut at = 0;
        for part in &self.parts {
            if at >= end {
                break;
            }
            let (from, to) = (start.saturating_sub(at).min(part.len()), (end - at).min(part.len()));
            content.extend_from_slice(&part[from..to]);
            at += part.len();
        }
        content
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(content: Vec<u8>) -> Self {
        let len = content.len();
        Self { parts: if content.is_empty() { Vec::new() } else { vec![Arc::new(content)] }, len }
    }
}

#[derive(Clone)]
pub(super) enum Content {
    File(Bytes),
    Directory(Directory),
    Symlink(PathBuf),
}

#[derive(Clone, Default)]
pub(super) struct Directory {
    /// In order, and in one block: most directories have one entry. A copy of the directory shares the names.
    pub(super) entries: LiteMap<Arc<OsStr>, Arc<Node>>,
    /// Number of the file system that is mounted here, if it still is; 0 for none.
    pub(super) mounted: u64,
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) inode: u64,
    pub(super) modified: jiff::Timestamp,
}

impl Node {
    pub(super) fn kind(&self) -> EntryKind {
        match self.content {
            Content::File(_) => EntryKind::File,
            Content::Directory(_) => EntryKind::Directory,
            Content::Symlink(_) => EntryKind::Symlink,
        }
    }

    pub(super) fn metadata(&self) -> Metadata {
        let len = match &self.content {
            Content::File(content) => content.len() as u64,
            Content::Directory(_) => 0,
            Content::Symlink(target) => target.as_os_str().len() as u64,
        };
        Metadata { kind: self.kind(), len, mode: self.mode, inode: self.inode, modified: self.modified }
    }

    pub(super) fn directory(&self) -> Option<&Directory> {
        if let Content::Directory(directory) = &self.content { Some(directory) } else { None }
    }

    fn directory_mut(&mut self) -> Option<&mut Directory> {
        if let Content::Directory(directory) = &mut self.content { Some(directory) } else { None }
    }

    /// The node at the end of a way down, made this file system's own.
    pub(super) fn own<'a>(self: &'a mut Arc<Self>, way: &Way) -> Option<&'a mut Self> {
        self.own_at(&way.joined)
    }

    fn own_at<'a>(self: &'a mut Arc<Self>, mut way: &[u8]) -> Option<&'a mut Self> {
        let mut node = Arc::make_mut(self);
        while !way.is_empty() {
            let end = memchr::memchr(b'/', way).unwrap_or(way.len());
            node = Arc::make_mut(node.directory_mut()?.entries.get_mut(OsStr::from_bytes(&way[..end]))?);
            way = way.get(end + 1..).unwrap_or_default();
        }
        Some(node)
    }

    /// The directory at the end of a way down, made this file system's own.
    pub(super) fn own_directory<'a>(self: &'a mut Arc<Self>, way: &Way) -> Option<&'a mut Directory> {
        self.own(way)?.directory_mut()
    }

    /// The directory that the end of a way down is in, made this file system's own, and the last name.
    pub(super) fn own_above<'a, 'w>(self: &'a mut Arc<Self>, way: &'w Way) -> Option<(&'a mut Directory, &'w OsStr)> {
        let (above, name) = way.split_last()?;
        Some((self.own_at(above)?.directory_mut()?, name))
    }

    /// Bytes and inodes of the node and all below it.
    pub(super) fn usage(&self) -> (u64, u64) {
        match &self.content {
            Content::File(content) => (blocks_bytes(content.len()), 1),
            Content::Symlink(_) => (0, 1),
            Content::Directory(directory) => {
                let below = directory.entries.values().map(|node| node.usage());
                below.fold((0, 1), |(bytes, inodes), (more, nodes)| (bytes + more, inodes + nodes))
            }
        }
    }

    /// Whether the node, or one below it, satisfies `test`.
    pub(super) fn any(&self, test: &dyn Fn(&Directory) -> bool) -> bool {
        self.directory().is_some_and(|directory| test(directory) || directory.entries.values().any(|node| node.any(test)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_one_file() {
        let (mut file, mut expected) = (Bytes::from(Vec::new()), Vec::new());
        for number in 0..200_usize {
            let line = vec![number as u8; number * 7 % 97];
            file.append(&line);
            expected.extend(line);
        }
        assert!(file.parts.len() > 2 && file.len() == expected.len());
        assert_eq!(file.read(0, usize::MAX), expected);
        for (offset, len) in [(0, 1), (2047, 2), (1000, 5000), (expected.len() - 1, 9), (expected.len() + 5, 1)] {
            let start = offset.min(expected.len());
            assert_eq!(file.read(offset, len), expected[start..(start + len).min(expected.len())], "{offset} {len}");
        }
        assert_eq!(Bytes::from(b"abc".to_vec()).read(1, 1), b"b");
    }
}
