//! A world on tokio, with as much as the engine needs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use daruma_world::containers::SandboxNetwork;
use daruma_world::disk::{EntryKind, Metadata, Usage, WriteOptions};
use daruma_world::net::{Datagrams, Listener, Stream};
use daruma_world::{Clock, Disk, Net, Random, Task, Tasks, World};
use futures::FutureExt;
use futures::future::BoxFuture;

struct Real(Instant, AtomicU64);

/// The world of the tests.
pub fn world() -> World {
    let seed = std::process::id().into();
    let real = Arc::new(Real(Instant::now(), AtomicU64::new(seed)));
    World { clock: real.clone(), random: real.clone(), tasks: real.clone(), disk: real.clone(), net: real }
}

impl Clock for Real {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

impl Random for Real {
    fn next_u64(&self) -> u64 {
        // SplitMix64 over a counter and the clock: two engines of one process must not repeat ids.
        let mut z = self.1.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) ^ (jiff::Timestamp::now().as_nanosecond() as u64);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Tasks for Real {
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let handle = tokio::spawn(future).abort_handle();
        Task::new(move || handle.abort())
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        tokio::task::spawn_blocking(work).map(|_| ()).boxed()
    }
}

impl Net for Real {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        async move { Ok(Box::new(tokio::net::TcpStream::connect(to).await?) as Box<dyn Stream>) }.boxed()
    }
    fn listen(&self, _at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        none()
    }
    fn bind_udp(&self, _at: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        none()
    }
}

fn none<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
    futures::future::ready(Err(io::ErrorKind::Unsupported.into())).boxed()
}

/// The engine works on the file system itself.
impl Disk for Real {
    fn read(&self, _: &Path) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        none()
    }
    fn read_at(&self, _: &Path, _: u64, _: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        none()
    }
    fn write(&self, _: &Path, _: Vec<u8>, _: WriteOptions) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn append(&self, _: &Path, _: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn create_dir_all(&self, _: &Path, _: u32) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn read_dir(&self, _: &Path) -> BoxFuture<'static, io::Result<Vec<(String, EntryKind)>>> {
        none()
    }
    fn metadata(&self, _: &Path) -> BoxFuture<'static, io::Result<Metadata>> {
        none()
    }
    fn remove_file(&self, _: &Path) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn remove_dir_all(&self, _: &Path) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn rename(&self, _: &Path, _: &Path) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn symlink(&self, _: &Path, _: &Path) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn read_link(&self, _: &Path) -> BoxFuture<'static, io::Result<PathBuf>> {
        none()
    }
    fn set_owner(&self, _: &Path, _: Option<u32>, _: Option<u32>, _: Option<u32>) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn usage(&self, _: &Path) -> BoxFuture<'static, io::Result<Usage>> {
        none()
    }
    fn tree_usage(&self, _: &Path) -> BoxFuture<'static, io::Result<(u64, u64)>> {
        none()
    }
    fn mount_memory(&self, _: &Path, _: Option<u64>) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
    fn unmount(&self, _: &Path) -> BoxFuture<'static, io::Result<()>> {
        none()
    }
}

/// A pod network of loopback cards only.
pub struct NoNetwork;

impl SandboxNetwork for NoNetwork {
    fn problem(&self) -> BoxFuture<'static, Option<String>> {
        futures::future::ready(None).boxed()
    }
    fn attach(&self, _: &str, namespace: PathBuf) -> BoxFuture<'static, Result<Vec<IpAddr>, String>> {
        let there = namespace.exists();
        futures::future::ready(if there { Ok(vec!["10.244.0.2".parse().unwrap()]) } else { Err("no name space".to_owned()) })
            .boxed()
    }
    fn detach(&self, _: &str) -> BoxFuture<'static, Result<(), String>> {
        futures::future::ready(Ok(())).boxed()
    }
}
