//! Work inside another network namespace.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::oneshot;

/// Runs blocking `work` on a thread of its own inside the network namespace at `path` (`None`: that of
/// this process). The thread ends with the work, so no other work ever sees its namespace.
pub async fn run_inside<T, F>(path: Option<PathBuf>, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("network-namespace".into()).spawn(move || {
        let entered = path.map_or(Ok(()), |path| enter(&open(&path)?));
        // The receiver is gone when the caller was dropped; nobody waits then.
        let _ = sender.send(entered.and_then(|()| work()));
    })?;
    receiver.await.map_err(|_| io::Error::other("the thread in the network namespace died"))?
}

/// Runs `work` on this very thread inside `namespace` and comes back, so no thread is needed.
///
/// # Errors
/// Those of `work` as they are; those of entering and returning have no number of the system's.
pub(crate) fn visit<T>(namespace: &File, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let home = current()?;
    enter(namespace)?;
    let result = work();
    enter(&home)?;
    result
}

/// The same inside a new network namespace, which lives as long as something holds it open.
pub(crate) fn visit_new<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let home = current()?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| io::Error::other(format!("make a network namespace: {error}")))?;
    let result = work();
    enter(&home)?;
    result
}

/// The network namespace of this thread.
pub(crate) fn current() -> io::Result<File> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// Opens the network namespace at `path`.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|error| io::Error::new(error.kind(), format!("open network namespace {}: {error}", path.display())))
}

/// Writes a parameter below `/proc/sys/net`, e.g. `ipv4/ip_forward`: that file system shows the namespace of
/// the thread that opens the file. Where it is `optional`, a kernel that lacks it is fine.
pub(crate) fn set_kernel_parameter(name: &str, value: &str, optional: bool) -> io::Result<()> {
    match fs::write(Path::new("/proc/sys/net").join(name), value) {
        Err(error) if optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| io::Error::other(format!("enter a network namespace: {error}")))
}
