//! Random writes, faults and restarts against a model that only knows maps.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daruma_store::embedded::{Backend, EmbeddedStore, Fault, MemoryBackend, Options};
use daruma_store::{Event, Expect, KeyValue, Outcome, Store, Write};
use daruma_world::World;
use futures::future::join_all;
use proptest::prelude::*;
use tokio::sync::mpsc;

#[derive(Debug, Clone, Copy)]
enum Expected {
    Any,
    Absent,
    /// The revision that is visible when the group starts.
    Seen,
}

#[derive(Debug, Clone)]
struct Op {
    key: u8,
    expected: Expected,
    /// `None` deletes.
    value: Option<u16>,
}

/// Writes that run at the same time, and what happens around them.
#[derive(Debug, Clone)]
struct Group {
    ops: Vec<Op>,
    fault: Option<Fault>,
    restart: bool,
    /// How far back a range looks.
    back: u64,
}

fn op() -> impl Strategy<Value = Op> {
    let expected = prop_oneof![Just(Expected::Any), Just(Expected::Absent), Just(Expected::Seen)];
    (0..6u8, expected, prop::option::weighted(0.7, any::<u16>())).prop_map(|(key, expected, value)| Op { key, expected, value })
}

fn group() -> impl Strategy<Value = Group> {
    let fault = prop_oneof![
        12 => Just(None),
        1 => Just(Some(Fault::Refuse)),
        1 => Just(Some(Fault::LoseAnswer)),
        2 => (0..6usize).prop_map(|changes| Some(Fault::Tear(changes))),
    ];
    let ops = prop::collection::vec(op(), 0..12);
    (ops, fault, prop::bool::weighted(0.15), 0..40u64).prop_map(|(ops, fault, restart, back)| Group { ops, fault, restart, back })
}

type Contents = BTreeMap<String, KeyValue>;

/// What the watch has told, revision by revision.
struct Model {
    /// The contents at each revision; the first is revision 0, when nothing was there.
    states: Vec<Contents>,
    /// The oldest revision that the running store knows.
    oldest: u64,
}

impl Model {
    fn newest(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn take(&mut self, event: &Event) {
        assert_eq!(event.revision, self.newest() + 1, "a gap or a repeat");
        let mut contents = self.states.last().unwrap().clone();
        assert_eq!(event.previous.as_ref(), contents.get(&event.key));
        match &event.value {
            None => drop(contents.remove(&event.key)),
            Some(value) => {
                let created = event.previous.as_ref().map_or(event.revision, |previous| previous.create_revision);
                assert_eq!((value.create_revision, value.mod_revision), (created, event.revision));
                contents.insert(event.key.clone(), value.clone());
            }
        }
        self.states.push(contents);
    }
}

async fn run(world: World, groups: Vec<Group>) {
    let memory = Arc::new(MemoryBackend::new());
    let backend: Arc<dyn Backend> = memory.clone();
    let open = async || EmbeddedStore::open(&world, backend.clone(), Options { batch: 5, ..Options::default() }).await.unwrap();
    let mut store = open().await;
    let mut model = Model { states: vec![Contents::new()], oldest: 0 };
    let mut watch = store.watch("/", 0).await.unwrap();
    for group in groups {
        memory.set_fault(group.fault);
        let seen = model.states.last().unwrap().clone();
        let answers = join_all(group.ops.iter().map(|op| {
            let key = format!("/{}", op.key);
            let expect = match op.expected {
                Expected::Any => Expect::Any,
                Expected::Absent => Expect::Absent,
                Expected::Seen => Expect::Revision(seen.get(&key).map_or(1, |seen| seen.mod_revision)),
            };
            let value = |value: u16| Write::Put { value: Bytes::from(value.to_string()), ttl_seconds: None };
            store.write(&key, expect, op.value.map_or(Write::Delete, value))
        }))
        .await;
        if group.restart {
            drop(store);
            memory.set_fault(None);
            store = open().await;
            // What a lost answer has left behind is told by no watch: the old one ended before it.
            catch_up_after_restart(&mut model, &mut watch, &store).await;
            watch = store.watch("/", model.newest()).await.unwrap();
        } else {
            memory.set_fault(None);
            world.sleep(Duration::from_secs(2)).await;
            drain(&mut model, &mut watch);
        }
        check(&model, &store, &group, &answers).await;
    }
}

fn drain(model: &mut Model, watch: &mut mpsc::Receiver<Vec<Event>>) {
    while let Ok(events) = watch.try_recv() {
        for event in &events {
            model.take(event);
        }
    }
}

async fn catch_up_after_restart(model: &mut Model, watch: &mut mpsc::Receiver<Vec<Event>>, store: &Arc<EmbeddedStore>) {
    drain(model, watch);
    let now = store.range("/", None, 0, None).await.unwrap();
    assert!(now.revision >= model.newest(), "an acknowledged revision is lost");
    let contents: Contents = now.items.into_iter().map(|item| (item.key.clone(), item)).collect();
    while model.newest() < now.revision {
        model.states.push(contents.clone());
    }
    model.oldest = now.revision;
}

async fn check(model: &Model, store: &Arc<EmbeddedStore>, group: &Group, answers: &[Result<Outcome, daruma_store::StoreError>]) {
    for (op, answer) in group.ops.iter().zip(answers) {
        match answer {
            Ok(Outcome::Committed { revision }) if *revision > model.oldest => {
                let state = model.states[*revision as usize].get(&format!("/{}", op.key));
                assert_eq!(state.map(|item| item.value.clone()), op.value.map(|value| Bytes::from(value.to_string())));
            }
            Ok(_) => {}
            Err(error) => assert!(group.fault.is_some(), "{error}"),
        }
    }
    let newest = model.newest();
    assert_eq!(store.revision().await.unwrap(), newest);
    assert_eq!(store.key_count(), model.states.last().unwrap().len());
    let then = newest.saturating_sub(group.back).max(model.oldest);
    for revision in [None, Some(then)] {
        let range = store.range("/", None, 0, revision).await.unwrap();
        let expected = &model.states[revision.unwrap_or(newest) as usize];
        assert_eq!(range.items.iter().collect::<Vec<_>>(), expected.values().collect::<Vec<_>>());
        let page = store.range("/", Some("/2"), 2, revision).await.unwrap();
        let after: Vec<_> = expected.range("/3".to_owned()..).map(|(_, item)| item.clone()).collect();
        assert_eq!(
            (page.items.len() as u64 + page.remaining, &page.items[..]),
            (after.len() as u64, &after[..after.len().min(2)])
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_its_model(seed in any::<u64>(), groups in prop::collection::vec(group(), 1..12)) {
        daruma_sim::run(seed, |world| run(world, groups));
    }
}
