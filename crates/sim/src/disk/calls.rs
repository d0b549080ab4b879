//! [`Disk`] for a scope: the calls of a process on its machine's disk.
//!
//! Reading and writing to the page cache takes no time; a durable write takes the time of a flush. In
//! a dead scope nothing is done and nothing completes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daruma_world::Disk;
use daruma_world::disk::{EntryKind, Metadata, Usage, WriteOptions};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::files::Files;
use crate::clock::{Sleep, wall_clock};
use crate::handle::Handle;

impl Handle {
    /// Does `work` when the call is polled, at the time it then is.
    fn read_call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let scope = self.scope.clone();
        async move {
            if scope.is_dead() {
                return std::future::pending().await;
            }
            work(&scope.place.disk.state().files)
        }
        .boxed()
    }

    fn change_call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Files, jiff::Timestamp) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let scope = self.scope.clone();
        async move {
            if scope.is_dead() {
                return std::future::pending().await;
            }
            let now = wall_clock(scope.core.now(), scope.place.offset_ms());
            scope.place.disk.change(scope.core.now_ns(), |files| work(files, now))
        }
        .boxed()
    }
}

impl Disk for Handle {
    fn read(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let path = path.to_owned();
        self.read_call(move |files| files.file(&path).map(|content| content.read(0, usize::MAX)))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let path = path.to_owned();
        self.read_call(move |files| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            Ok(files.file(&path)?.read(start, len))
        })
    }

    fn write(&self, path: &Path, content: Vec<u8>, options: WriteOptions) -> BoxFuture<'static, io::Result<()>> {
        let (scope, path) = (self.scope.clone(), path.to_owned());
        async move {
            if options.durable {
                // The content is on the platter when the call completes, not when it is made: a power cut
                // in between leaves what was there before.
                let time = scope.place.disk.flush_time();
                if time > Duration::ZERO {
                    Sleep::new(&scope, time).await;
                }
            }
            if scope.is_dead() {
                return std::future::pending().await;
            }
            let now = wall_clock(scope.core.now(), scope.place.offset_ms());
            scope.place.disk.write(&path, content, options, scope.core.now_ns(), now)
        }
        .boxed()
    }

    fn append(&self, path: &Path, content: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.change_call(move |files, now| files.append(&path, &content, now))
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.change_call(move |files, now| files.create_dir_all(&path, mode, now))
    }

    fn read_dir(&self, path: &Path) -> BoxFuture<'static, io::Result<Vec<(String, EntryKind)>>> {
        let path = path.to_owned();
        self.read_call(move |files| files.read_dir(&path))
    }

    fn metadata(&self, path: &Path) -> BoxFuture<'static, io::Result<Metadata>> {
        let path = path.to_owned();
        self.read_call(move |files| files.metadata(&path))
    }

    fn remove_file(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.change_call(move |files, _| files.remove_file(&path))
    }

    fn remove_dir_all(&self, path: &Path) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.change_call(move |files, _| files.remove_dir_all(&path))
    }

    fn rename(&self, from: &Path, to: &Path) -> BoxFuture<'static, io::Result<()>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change_call(move |files, _| files.rename(&from, &to))
    }

    fn symlink(&self, target: &Path, link: &Path) -> BoxFuture<'static, io::Result<()>> {
        let (target, link) = (target.to_owned(), link.to_owned());
        self.change_call(move |files, now| files.symlink(&target, &link, now))
    }

    fn read_link(&self, link: &Path) -> BoxFuture<'static, io::Result<PathBuf>> {
        let link = link.to_owned();
        self.read_call(move |files| files.read_link(&link))
    }

    fn set_owner(
        &self,
        path: &Path,
        uid: Option<u32>,
        gid: Option<u32>,
        mode: Option<u32>,
    ) -> BoxFuture<'static, io::Result<()>> {
        let path = path.to_owned();
        self.change_call(move |files, _| files.set_owner(&path, uid, gid, mode))
    }

    fn usage(&self, path: &Path) -> BoxFuture<'static, io::Result<Usage>> {
        let path = path.to_owned();
        self.read_call(move |files| files.usage(&path))
    }

    fn tree_usage(&self, path: &Path) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        let path = path.to_owned();
        self.read_call(move |files| files.tree_usage(&path))
    }

    fn mount_memory(&self, at: &Path, size_bytes: Option<u64>) -> BoxFuture<'static, io::Result<()>> {
        let at = at.to_owned();
        self.change_call(move |files, now| files.mount(&at, size_bytes, now))
    }

    fn unmount(&self, at: &Path) -> BoxFuture<'static, io::Result<()>> {
        let at = at.to_owned();
        self.change_call(move |files, _| {
            files.unmount(&at);
            Ok(())
        })
    }

    fn changes(&self) -> Option<u64> {
        Some(self.scope.place.disk.changes())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;

    use daruma_world::disk::{EntryKind, WriteOptions};

    use super::super::{Burden, SimDisk};

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
            assert_eq!(disk.rename(path("/var"), path("/var/lib/x")).await.unwrap_err().kind(), ErrorKind::InvalidInput);

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

    #[test]
    fn paths_with_dots_and_slashes() {
        crate::run(1, |world| async move {
            let disk = &world.disk;
            let path = Path::new;
            disk.create_dir_all(path("/var//lib/./.v1/"), 0o755).await.unwrap();
            disk.write(path("/var/lib/.v1/..key"), b"one".to_vec(), WriteOptions::default()).await.unwrap();
            disk.symlink(path("./.v1/."), path("/var/lib/near")).await.unwrap();
            disk.symlink(path("/var/../var/lib/near/"), path("/far")).await.unwrap();
            for at in ["/var/lib/.v1/..key", "/../var/lib/../lib//.v1/./..key/", "/var/lib/near/..key", "/far/../.v1/..key/."] {
                assert_eq!(disk.read(path(at)).await.unwrap(), b"one", "{at}");
            }
            for (at, wanted) in [
                ("/var/lib/v1/..key", ErrorKind::NotFound),
                ("/var/lib/.v1/..key/x", ErrorKind::NotADirectory),
                ("var/lib", ErrorKind::InvalidInput),
                ("", ErrorKind::InvalidInput),
            ] {
                assert_eq!(disk.read(path(at)).await.unwrap_err().kind(), wanted, "{at}");
            }
            assert_eq!(disk.metadata(path("/far/.")).await.unwrap().kind, EntryKind::Symlink);
            assert_eq!(disk.metadata(path("/far/..")).await.unwrap().kind, EntryKind::Directory);
        });
    }

    #[test]
    fn whatever_changes_is_counted() {
        crate::run(1, |world| async move {
            let disk = &world.disk;
            let mut last = disk.changes();
            let mut has_changed = move || std::mem::replace(&mut last, disk.changes()) != disk.changes();
            assert!(!has_changed());
            disk.create_dir_all(Path::new("/var/log"), 0o755).await.unwrap();
            assert!(has_changed());
            disk.append(Path::new("/var/log/a"), b"line".to_vec()).await.unwrap();
            assert!(has_changed());
            disk.read(Path::new("/var/log/a")).await.unwrap();
            disk.usage(Path::new("/var/log")).await.unwrap();
            assert!(!has_changed());
        });
        let disk = SimDisk::new(1 << 30, 1, true, jiff::Timestamp::UNIX_EPOCH);
        let count = |change: &dyn Fn()| {
            let before = disk.changes();
            change();
            disk.changes() - before
        };
        assert_eq!(count(&|| disk.press(1, Burden::Fill(4096, 0))), 1);
        assert_eq!(count(&|| disk.press(1, Burden::Fill(4096, 0))), 0);
        assert_eq!(count(&|| disk.release(1)), 1);
        assert!(count(&|| disk.power_cut(0, false)) > 0);
    }
}
