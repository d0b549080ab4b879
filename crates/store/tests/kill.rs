//! kill -9 in the midst of writing: what was acknowledged is there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use daruma_store::embedded::{EmbeddedStore, Options, RedbBackend};
use daruma_store::{Expect, Outcome, Store, Write};
use futures::future::join_all;

/// Names the store's file to the child.
const PATH: &str = "DARUMA_STORE_KILL_PATH";
/// Value length in bytes: several pages.
const LENGTH: usize = 10_000;

/// Runs in the child: writes and tells what is acknowledged, until it is killed.
#[test]
#[ignore = "started by the other test"]
fn child_that_writes() {
    let Ok(path) = std::env::var(PATH) else { return };
    daruma_sim::run(1, |world| async move {
        let backend = RedbBackend::open(PathBuf::from(path)).unwrap();
        let store = EmbeddedStore::open(&world, Arc::new(backend), Options::default()).await.unwrap();
        let start = store.revision().await.unwrap();
        join_all((0..8).map(async |writer| {
            for number in start.. {
                let key = format!("/{writer}/{}", number % 7);
                let value = Write::Put { value: Bytes::from(number.to_string().repeat(LENGTH / 8)), ttl_seconds: None };
                let Ok(Outcome::Committed { revision }) = store.write(&key, Expect::Any, value).await else {
                    panic!("no commit")
                };
                println!("\nACK {revision} {key} {number}");
            }
        }))
        .await;
    });
}

/// One life of the child, killed after so many acknowledgements; gives them.
fn killed_after(path: &Path, count: usize) -> Vec<(u64, String, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes", "--ignored", "--nocapture"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    while let Some(Ok(line)) = lines.next() {
        if let ["ACK", revision, key, number] = line.split(' ').collect::<Vec<_>>()[..] {
            acknowledged.push((revision.parse().unwrap(), key.to_owned(), number.to_owned()));
        }
        if acknowledged.len() == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= count, "the child ended by itself");
    acknowledged
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    for life in 0..12 {
        let acknowledged = killed_after(&path, 1 + life * 37);
        daruma_sim::run(1, |world| {
            let path = path.clone();
            async move {
                let backend = RedbBackend::open(&path).unwrap();
                let store = EmbeddedStore::open(&world, Arc::new(backend), Options::default()).await.unwrap();
                let newest = store.revision().await.unwrap();
                for (revision, key, number) in acknowledged {
                    assert!(revision <= newest, "life {life}: {revision} is lost, the newest is {newest}");
                    let found = store.get(&key).await.unwrap().unwrap();
                    assert!(found.mod_revision >= revision);
                    if found.mod_revision == revision {
                        assert_eq!(found.value, number.repeat(LENGTH / 8));
                    }
                }
                store.close().await;
            }
        });
    }
}
