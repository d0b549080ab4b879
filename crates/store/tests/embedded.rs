//! The embedded engine: conformance on both backends, faults, crashes, restarts, bounds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daruma_store::embedded::{Backend, EmbeddedStore, Fault, MemoryBackend, Options, RedbBackend};
use daruma_store::{Expect, Outcome, Store, StoreError, Write, conformance};
use daruma_world::World;
use futures::future::join_all;

fn put(text: impl Into<String>) -> Write {
    Write::Put { value: Bytes::from(text.into()), ttl_seconds: None }
}

async fn open(world: &World, backend: &Arc<dyn Backend>) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(world, backend.clone(), Options::default()).await.unwrap()
}

async fn conforms(world: World, backend: Arc<dyn Backend>) {
    let store = open(&world, &backend).await;
    for case in conformance::ALL {
        (case.run)(world.clone(), store.clone()).await;
    }
    store.close().await;
}

#[test]
fn conforms_on_memory() {
    daruma_sim::run_seeds(1, 50, |world| conforms(world, Arc::new(MemoryBackend::new())));
}

#[test]
fn conforms_on_redb() {
    daruma_sim::run_seeds(1, 3, |world| async move {
        let directory = tempfile::tempdir().unwrap();
        conforms(world, Arc::new(RedbBackend::open(directory.path().join("store.redb")).unwrap())).await;
    });
}

/// What is acknowledged is there after a restart, at the same revision; older history is not.
async fn survives_a_restart(world: World, reopen: impl Fn() -> Arc<dyn Backend>) {
    let backend = reopen();
    let store = open(&world, &backend).await;
    for number in 0..20 {
        store.write(&format!("/a/{number:02}"), Expect::Absent, put(number.to_string())).await.unwrap();
    }
    store.write("/a/03", Expect::Any, Write::Delete).await.unwrap();
    let leased = Write::Put { value: Bytes::from_static(b"l"), ttl_seconds: Some(100) };
    store.write("/a/leased", Expect::Any, leased).await.unwrap();
    let before = store.range("/", None, 0, None).await.unwrap();
    store.close().await;
    assert!(matches!(store.write("/a/x", Expect::Any, put("x")).await, Err(StoreError::Disk(_))));
    drop((store, backend));

    world.sleep(Duration::from_secs(60)).await;
    let backend = reopen();
    let store = open(&world, &backend).await;
    assert_eq!(store.range("/", None, 0, None).await.unwrap(), before);
    assert_eq!(store.revision().await.unwrap(), before.revision);
    let error = store.watch("/", before.revision - 1).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Compacted { oldest, .. } if oldest == before.revision));
    let mut watch = store.watch("/", before.revision).await.unwrap();
    world.sleep(Duration::from_secs(41)).await;
    let events = watch.recv().await.unwrap();
    assert_eq!((events[0].key.as_str(), events[0].revision), ("/a/leased", before.revision + 1));
    store.close().await;
    assert_eq!(watch.recv().await, None);
}

#[test]
fn memory_survives_a_restart() {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    daruma_sim::run(1, |world| survives_a_restart(world, || backend.clone()));
}

#[test]
fn redb_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    daruma_sim::run(1, |world| survives_a_restart(world, || Arc::new(RedbBackend::open(&path).unwrap())));
}

#[test]
fn nothing_shows_before_it_is_durable() {
    daruma_sim::run_seeds(1, 50, |world| async move {
        let memory = Arc::new(MemoryBackend::new());
        let store = open(&world, &(memory.clone() as Arc<dyn Backend>)).await;
        store.write("/a", Expect::Any, put("old")).await.unwrap();
        let mut watch = store.watch("/", 0).await.unwrap();
        assert_eq!(watch.recv().await.unwrap().len(), 1);
        memory.set_fault(Some(Fault::Refuse));
        // The second depends on the first, so it must fail with it, and not report a conflict.
        let answers = join_all([
            store.write("/a", Expect::Revision(1), put("new")),
            store.write("/a", Expect::Revision(1), put("newer")),
            store.write("/b", Expect::Absent, put("b")),
        ]);
        for answer in answers.await {
            assert!(matches!(answer, Err(StoreError::Disk(_)) | Ok(Outcome::Conflict { current: Some(_) })), "{answer:?}");
        }
        assert_eq!(store.get("/a").await.unwrap().unwrap().value, "old");
        assert_eq!((store.revision().await.unwrap(), store.key_count()), (1, 1));
        memory.set_fault(None);
        world.sleep(Duration::from_secs(2)).await;
        assert_eq!(store.write("/a", Expect::Revision(1), put("new")).await.unwrap(), Outcome::Committed { revision: 2 });
        assert_eq!(watch.recv().await.unwrap()[0].revision, 2);
    });
}

#[test]
fn a_lost_answer_is_found_out() {
    daruma_sim::run(1, |world| async move {
        let memory = Arc::new(MemoryBackend::new());
        let store = open(&world, &(memory.clone() as Arc<dyn Backend>)).await;
        memory.set_fault(Some(Fault::LoseAnswer));
        assert!(store.write("/a", Expect::Absent, put("a")).await.is_err());
        memory.set_dead(true);
        world.sleep(Duration::from_secs(5)).await;
        assert!(store.write("/a", Expect::Absent, put("a")).await.is_err());
        memory.set_dead(false);
        memory.set_fault(None);
        world.sleep(Duration::from_secs(2)).await;
        let Outcome::Conflict { current: Some(kept) } = store.write("/a", Expect::Absent, put("b")).await.unwrap() else {
            panic!("the durable write is not seen");
        };
        assert_eq!((kept.value, kept.mod_revision), (Bytes::from_static(b"a"), 1));
    });
}

#[test]
fn a_torn_commit_loses_only_what_was_not_acknowledged() {
    daruma_sim::run_seeds(1, 200, |world| async move {
        let memory = Arc::new(MemoryBackend::new());
        let store = open(&world, &(memory.clone() as Arc<dyn Backend>)).await;
        let torn = memory.clone();
        let (cut_after, kept) = (world.random.below(60), world.random.below(8) as usize);
        let writers = (0..8u64).map(|writer| {
            let (store, torn, world) = (store.clone(), torn.clone(), world.clone());
            async move {
                let mut acknowledged = Vec::new();
                for number in 0..20u64 {
                    let key = format!("/{}", (writer * 7 + number) % 13);
                    match store.write(&key, Expect::Any, put(format!("{writer}-{number}"))).await {
                        Ok(Outcome::Committed { revision }) => acknowledged.push((revision, key, format!("{writer}-{number}"))),
                        Ok(Outcome::Conflict { .. }) => panic!("any state is expected"),
                        Err(_) => {
                            torn.set_dead(true);
                            break;
                        }
                    }
                    if writer * 20 + number == cut_after {
                        torn.set_fault(Some(Fault::Tear(kept)));
                    }
                    world.sleep(Duration::from_millis(world.random.below(3))).await;
                }
                acknowledged
            }
        });
        let acknowledged: Vec<_> = join_all(writers).await.into_iter().flatten().collect();
        drop(store);
        memory.set_dead(false);
        memory.set_fault(None);
        let store = open(&world, &(memory.clone() as Arc<dyn Backend>)).await;
        let revision = store.revision().await.unwrap();
        for (acknowledged, key, value) in acknowledged {
            assert!(acknowledged <= revision);
            let found = store.get(&key).await.unwrap().unwrap();
            assert!(
                found.mod_revision > acknowledged || (found.mod_revision, &found.value[..]) == (acknowledged, value.as_bytes())
            );
        }
        assert_eq!(store.write("/next", Expect::Absent, put("x")).await.unwrap(), Outcome::Committed { revision: revision + 1 });
    });
}

#[test]
fn history_is_bounded_in_bytes() {
    daruma_sim::run(1, |world| async move {
        let options = Options { history_bytes: 100_000, ..Options::default() };
        let store = EmbeddedStore::open(&world, Arc::new(MemoryBackend::new()), options).await.unwrap();
        let mut slow = store.watch("/", 0).await.unwrap();
        for _ in 0..1500 {
            store.write("/a", Expect::Any, put("x".repeat(1000))).await.unwrap();
        }
        assert!(store.history_bytes() <= 100_000 && store.history_bytes() > 90_000, "{}", store.history_bytes());
        let oldest = match store.range("/", None, 0, Some(1)).await {
            Err(StoreError::Compacted { requested: 1, oldest }) => oldest,
            other => panic!("{other:?}"),
        };
        assert_eq!(oldest, 1500 - store.history_len() as u64);
        assert_eq!(store.range("/", None, 0, Some(oldest)).await.unwrap().items[0].mod_revision, oldest);
        let mut watch = store.watch("/", oldest).await.unwrap();
        assert_eq!(watch.recv().await.unwrap().len() as u64, 1500 - oldest);
        // A receiver that does not receive gets what fits, then the end.
        let mut told = 0;
        while let Some(events) = slow.recv().await {
            told += events.len();
            assert_eq!(events[0].revision, told as u64);
        }
        assert_eq!((told, store.watch_count()), (1024, 1));
    });
}
