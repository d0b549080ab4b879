//! Files. Every call runs on tokio's blocking threads.
#![expect(clippy::disallowed_methods, reason = "blocking calls of the real world run here")]

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use daruma_world::Disk;
use daruma_world::disk::{EntryKind, Metadata, Usage, WriteOptions};
use futures::FutureExt;
use futures::future::BoxFuture;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The file system of this process.
pub struct LinuxDisk;

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> BoxFuture<'static, io::Result<T>> {
    async move { tokio::task::spawn_blocking(work).await.map_err(io::Error::other)? }.boxed()
}

impl Disk for LinuxDisk {
    fn read(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let path = path.to_owned();
        blocking(move || fs::read(path))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let path = path.to_owned();
        blocking(move || {
            let mut file = fs::File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut content = Vec::new();
            file.take(len as u64).read_to_end(&mut content)?;
            Ok(content)
        })
    }

    fn write(&self, path: &Path, content: Vec<u8>, options: WriteOptions) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        blocking(move || replace(&path, &content, options))
    }

    fn append(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        blocking(move || fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(&content))
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        blocking(move || fs::DirBuilder::new().recursive(true).mode(mode).create(path))
    }

    fn read_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<(String, EntryKind)>>> {
        let path = path.to_owned();
        blocking(move || {
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                entries.push((entry.file_name().to_string_lossy().into_owned(), kind(entry.file_type()?)));
            }
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(entries)
        })
    }

    fn metadata(&self, path: &Path) -> BoxFuture<'static, io::Result<Metadata>> {
        let path = path.to_owned();
        blocking(move || {
            let facts = fs::symlink_metadata(path)?;
            Ok(Metadata {
                kind: kind(facts.file_type()),
                len: facts.len(),
                mode: facts.mode() & 0o7777,
                inode: facts.ino(),
                modified: facts.modified()?.try_into().map_err(io::Error::other)?,
            })
        })
    }

    fn remove_file(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        blocking(move || fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        blocking(move || match fs::symlink_metadata(&path) {
            Ok(facts) => remove_tree(&path, facts.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'static, io::Result<()>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || fs::rename(from, to))
    }

    fn symlink(&self, target: &Path, link: &Path) -> BoxFuture<'static, io::Result<()>> {
        let (target, link) = (target.to_owned(), link.to_owned());
        blocking(move || std::os::unix::fs::symlink(target, link))
    }

    fn read_link(&self, link: &Path) -> BoxFuture<'static, io::Result<PathBuf>> {
        let link = link.to_owned();
        blocking(move || fs::read_link(link))
    }

    fn set_owner(
        &self,
        path: &Path,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: Option<u32>,
    ) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        blocking(move || {
            std::os::unix::fs::lchown(&path, uid, gid)?;
            match mode {
                Some(mode) => fs::set_permissions(&path, fs::Permissions::from_mode(mode)),
                None => Ok(()),
            }
        })
    }

    fn usage(&self, path: &Path) -> BoxFuture<'static, io::Result<Usage>> {
        let path = path.to_owned();
        blocking(move || {
            let facts = nix::sys::statvfs::statvfs(&path)?;
            let block = facts.fragment_size();
            Ok(Usage {
                capacity_bytes: facts.blocks() * block,
                available_bytes: facts.blocks_available() * block,
                inodes: facts.files(),
                inodes_free: facts.files_free(),
            })
        })
    }

    fn tree_usage(&self, path: &Path) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        let path = path.to_owned();
        blocking(move || {
            let device = fs::symlink_metadata(&path)?.dev();
            let mut sum = (0, 0);
            add_usage(&path, device, &mut sum)?;
            Ok(sum)
        })
    }

    fn mount_memory(&self, at: &Path, size_bytes: Option<u64>) -> BoxFuture<'static, io::Result<()>> {
        let at = at.to_owned();
        blocking(move || {
            let options = size_bytes.map(|size| format!("size={size}"));
            Ok(mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), options.as_deref())?)
        })
    }

    fn unmount(&self, at: &Path) -> BoxFuture<'static, io::Result<()>> {
        let at = at.to_owned();
        blocking(move || match umount2(&at, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}

fn replace(path: &Path, content: &[u8], options: WriteOptions) -> io::Result<()> {
    let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.{number}", std::process::id()));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(options.mode).open(&temporary)?;
        file.write_all(content)?;
        // The umask may have taken bits away.
        file.set_permissions(fs::Permissions::from_mode(options.mode))?;
        if options.durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The file may not be there; the first error is the one to report.
        let _ = fs::remove_file(&temporary);
    } else if options.durable
        && let Some(parent) = path.parent()
    {
        fs::File::open(parent)?.sync_all()?;
    }
    written
}

/// Removes a tree, unmounting nothing and never leaving the file system `device`.
fn remove_tree(path: &Path, device: u64) -> io::Result<()> {
    let facts = fs::symlink_metadata(path)?;
    if !facts.is_dir() {
        return fs::remove_file(path);
    }
    if facts.dev() != device {
        return Err(io::Error::other(format!("{} is a mount point", path.display())));
    }
    for entry in fs::read_dir(path)? {
        remove_tree(&entry?.path(), device)?;
    }
    fs::remove_dir(path)
}

fn add_usage(path: &Path, device: u64, sum: &mut (u64, u64)) -> io::Result<()> {
    let facts = match fs::symlink_metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if facts.dev() != device {
        return Ok(());
    }
    sum.0 += facts.blocks() * 512;
    sum.1 += 1;
    if facts.is_dir() {
        for entry in fs::read_dir(path)? {
            add_usage(&entry?.path(), device, sum)?;
        }
    }
    Ok(())
}

fn kind(of: fs::FileType) -> EntryKind {
    if of.is_file() {
        EntryKind::File
    } else if of.is_dir() {
        EntryKind::Directory
    } else if of.is_symlink() {
        EntryKind::Symlink
    } else {
        EntryKind::Other
    }
}
