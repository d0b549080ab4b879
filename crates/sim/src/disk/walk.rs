//! Finding the way: symbolic links, dots and mounts. No hard links.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::files::{Files, error};
use super::node::{Content, Node, Way};

/// Symbolic links followed on one way.
const LINKS: u32 = 40;
/// Room for the steps of most paths.
const STEPS: usize = 12;

/// One step down.
struct Step<'a> {
    file_system: u64,
    name: &'a OsStr,
    node: &'a Node,
}

/// The steps of a path, and its last name where that is missing.
struct Walk<'a> {
    steps: Vec<Step<'a>>,
    missing: Option<&'a OsStr>,
}

/// Where a path leads, for whoever changes something there.
pub(super) struct Found<'a> {
    /// Number of the file system.
    pub(super) file_system: u64,
    /// The way down in that file system, with the last name where that is missing.
    pub(super) way: Way,
    /// What is there; `None` where only the last name is missing.
    pub(super) node: Option<&'a Node>,
    steps: Vec<Step<'a>>,
}

impl<'a> Found<'a> {
    /// What is there.
    pub(super) fn existing(&self, path: &Path) -> io::Result<&'a Node> {
        self.node.ok_or_else(|| error(ErrorKind::NotFound, path))
    }

    /// Whether the path leads through a directory, or to it.
    pub(super) fn passes(&self, inode: u64) -> bool {
        self.steps.iter().any(|step| step.node.inode == inode)
    }

    /// Whether this is the top of a file system.
    pub(super) fn is_top(&self) -> bool {
        self.way.is_top()
    }
}

impl Files {
    /// Follows a path; the last component's symbolic link on request.
    pub(super) fn find<'a>(&'a self, path: &'a Path, follow_last: bool) -> io::Result<Found<'a>> {
        Ok(self.walk(path, follow_last)?.found())
    }

    /// What is at a path, and the number of its file system.
    pub(super) fn existing<'a>(&'a self, path: &'a Path, follow_last: bool) -> io::Result<(u64, &'a Node)> {
        let walk = self.walk(path, follow_last)?;
        match walk.missing {
            Some(_) => Err(error(ErrorKind::NotFound, path)),
            None => Ok((walk.last().file_system, walk.last().node)),
        }
    }

    fn walk<'a>(&'a self, path: &'a Path, follow_last: bool) -> io::Result<Walk<'a>> {
        if !path.is_absolute() {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("{} is not absolute", path.display())));
        }
        let mut rest = Rest::default();
        rest.add(path);
        let mut steps = Vec::with_capacity(STEPS);
        steps.push(Step { file_system: 0, name: OsStr::new(""), node: self.top(0) });
        let mut links = 0;
        while let Some(name) = rest.next() {
            if name == ".." {
                if steps.len() > 1 {
                    steps.pop();
                }
                continue;
            }
            let here = steps.last().expect("the top is never left");
            let Some(directory) = here.node.directory() else { return Err(error(ErrorKind::NotADirectory, path)) };
            let Some(child) = directory.entries.get(name) else {
                if rest.is_empty() {
                    return Ok(Walk { steps, missing: Some(name) });
                }
                return Err(error(ErrorKind::NotFound, path));
            };
            match &child.content {
                Content::Symlink(target) if follow_last || !rest.is_empty() => {
                    links += 1;
                    if links > LINKS {
                        return Err(io::Error::other(format!("{}: too many symbolic links", path.display())));
                    }
                    if target.is_absolute() {
                        steps.truncate(1);
                    }
                    rest.add(target);
                }
                Content::Directory(directory) if self.is_mounted(directory.mounted) => {
                    steps.push(Step { file_system: directory.mounted, name, node: self.top(directory.mounted) });
                }
                _ => steps.push(Step { file_system: here.file_system, name, node: child }),
            }
        }
        Ok(Walk { steps, missing: None })
    }
}

/// What is still to go. Nothing of it is empty or begins with a slash, or with a dot that leads nowhere.
#[derive(Default)]
struct Rest<'a> {
    next: Option<&'a [u8]>,
    /// What comes behind it, the first last: the rest of the path, and of each symbolic link on the way.
    behind: Vec<&'a [u8]>,
}

impl<'a> Rest<'a> {
    fn add(&mut self, path: &'a Path) {
        self.add_bytes(path.as_os_str().as_bytes());
    }

    fn add_bytes(&mut self, mut path: &'a [u8]) {
        while let [b'/', rest @ ..] = path.strip_prefix(b".").filter(|rest| matches!(rest, [] | [b'/', ..])).unwrap_or(path) {
            path = rest;
        }
        if path == b"." {
            return;
        }
        if !path.is_empty() {
            self.behind.extend(self.next.replace(path));
        }
    }

    fn is_empty(&self) -> bool {
        self.next.is_none()
    }

    /// Takes the next name.
    fn next(&mut self) -> Option<&'a OsStr> {
        let path = self.next.take()?;
        self.next = self.behind.pop();
        let (name, behind) = path.split_at(memchr::memchr(b'/', path).unwrap_or(path.len()));
        self.add_bytes(behind);
        Some(OsStr::from_bytes(name))
    }
}

impl<'a> Walk<'a> {
    fn last(&self) -> &Step<'a> {
        self.steps.last().expect("the top is never left")
    }

    fn found(self) -> Found<'a> {
        let last = self.last();
        let own = self.steps.iter().rposition(|step| step.file_system != last.file_system).map_or(0, |other| other + 1);
        // The first of a file system is its top, which has no name in it.
        let names = self.steps[own + 1..].iter().map(|step| step.name).chain(self.missing);
        let way = Way::of(names);
        let node = if self.missing.is_none() { Some(last.node) } else { None };
        Found { file_system: last.file_system, way, node, steps: self.steps }
    }
}
