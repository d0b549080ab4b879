//! Measures the embedded engine on a real disk: durable writes of 1 KiB by concurrent writers, ranges,
//! reopening after a clean end and after a crash, memory.
//!
//! `store_bench [DIRECTORY]`; the directory's file system is what is measured.
#![expect(clippy::disallowed_methods, reason = "a measurement needs the real clock and threads")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use daruma_store::embedded::{Backend, BackendError, Batch, EmbeddedStore, Loaded, Options, RedbBackend};
use daruma_store::{Expect, Store, Write};
use daruma_world::{Clock, Task, Tasks, World};
use futures::FutureExt;
use futures::future::BoxFuture;

struct RealClock(Instant);

impl Clock for RealClock {
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

struct RealTasks;

impl Tasks for RealTasks {
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let task = tokio::spawn(future);
        Task::new(move || task.abort())
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = tokio::task::spawn_blocking(work);
        async move { task.await.expect("the work does not panic") }.boxed()
    }
}

/// Counts and times the commits of the backend behind it.
struct Timed {
    backend: RedbBackend,
    /// Commits, changes, nanoseconds.
    sums: Mutex<(u64, u64, u128)>,
}

impl Backend for Timed {
    fn load(&self) -> Result<Loaded, BackendError> {
        self.backend.load()
    }
    fn commit(&self, batch: &Batch) -> Result<(), BackendError> {
        let started = Instant::now();
        let result = self.backend.commit(batch);
        let mut sums = self.sums.lock().expect("no panic while held");
        *sums = (sums.0 + 1, sums.1 + batch.changes.len() as u64, sums.2 + started.elapsed().as_nanos());
        result
    }
    fn revision(&self) -> Result<u64, BackendError> {
        self.backend.revision()
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|count| count.parse().ok()).unwrap_or_default()
}

async fn write_all(store: &Arc<EmbeddedStore>, writers: usize, total: usize, size: usize) -> (f64, Duration) {
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                for number in 0..total / writers {
                    let key = format!("/registry/pods/default/pod-{writer}-{number}");
                    let value = Write::Put { value: Bytes::from(vec![b'x'; size]), ttl_seconds: None };
                    let began = Instant::now();
                    store.write(&key, Expect::Any, value).await.expect("the disk works");
                    latencies.push(began.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a writer does not panic"));
    }
    latencies.sort_unstable();
    (total as f64 / started.elapsed().as_secs_f64(), latencies[latencies.len() * 99 / 100])
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let directory = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(directory).expect("the directory can be written to");
    let path = directory.path().join("store.redb");
    // Disk and sockets are not used.
    let mut world: World = daruma_sim::run(0, |world| async move { world });
    world.clock = Arc::new(RealClock(Instant::now()));
    world.tasks = Arc::new(RealTasks);
    let open = || async {
        let started = Instant::now();
        let backend: Arc<dyn Backend> = Arc::new(RedbBackend::open(&path).expect("the file opens"));
        let store = EmbeddedStore::open(&world, backend, Options::default()).await.expect("the file loads");
        (store, started.elapsed())
    };
    let (store, took) = open().await;
    println!("created in {took:?}");
    let empty = resident_kib();
    write_all(&store, 32, 12_000, 4096).await;
    println!("12,000 values of 4 KiB (48,000 KiB): {} KiB more than empty", resident_kib() - empty);
    let started = Instant::now();
    let range = store.range("/registry/pods/", None, 0, None).await.expect("the store works");
    println!("range of {}: {:?}", range.items.len(), started.elapsed());
    write_all(&store, 32, 20_000, 1024).await;
    let crashed = directory.path().join("crashed.redb");
    std::fs::copy(&path, &crashed).expect("there is room");
    println!("history {} bytes, {} changes", store.history_bytes(), store.history_len());
    store.close().await;
    drop(store);
    let (store, took) = open().await;
    println!("opened {} keys after a clean end in {took:?}", store.key_count());
    store.close().await;
    drop(store);
    std::fs::rename(&crashed, &path).expect("the copy is there");
    let (store, took) = open().await;
    println!("opened {} keys after a crash in {took:?}; {} KiB resident", store.key_count(), resident_kib());
    store.close().await;
    drop(store);
    std::fs::remove_file(&path).expect("the file is there");

    let timed = Arc::new(Timed { backend: RedbBackend::open(&path).expect("the file opens"), sums: Mutex::default() });
    let store = EmbeddedStore::open(&world, timed.clone(), Options::default()).await.expect("the file loads");
    for (writers, total) in [(1, 2_000), (32, 64_000), (128, 64_000)] {
        let (rate, p99) = write_all(&store, writers, total, 1024).await;
        let (commits, changes, nanos) = std::mem::take(&mut *timed.sums.lock().expect("no panic while held"));
        let (per_commit, mean) = (changes as f64 / commits as f64, Duration::from_nanos((nanos / u128::from(commits)) as u64));
        println!("{writers} writers, 1 KiB: {rate:.0}/s, p99 {p99:?}; {per_commit:.1} changes and {mean:?} a commit");
    }
}
