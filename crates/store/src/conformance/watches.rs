//! Watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_world::World;
use futures::future::join_all;
use tokio::sync::mpsc;

use super::{delete, events, get, key_value, put};
use crate::{Event, Store, StoreError};

async fn watch(store: &Arc<dyn Store>, prefix: &str, revision: u64) -> mpsc::Receiver<Vec<Event>> {
    store.watch(prefix, revision).await.expect("the store works")
}

pub(super) async fn a_watch_tells_what_was_and_what_is(world: World, store: Arc<dyn Store>) {
    let key = "/told/key";
    let before = store.revision().await.expect("the store works");
    let mut receiver = watch(&store, "/told/", before).await;
    let first = put(&store, key, "one").await;
    put(&store, "/other/key", "x").await;
    let second = put(&store, key, "two").await;
    let third = delete(&store, key).await;
    let fourth = put(&store, key, "four").await;
    let (one, two) = (key_value(key, "one", first, first), key_value(key, "two", first, second));
    let event = |revision, value, previous| Event { key: key.into(), revision, value, previous };
    let expected = [
        event(first, Some(one.clone()), None),
        event(second, Some(two.clone()), Some(one)),
        event(third, None, Some(two)),
        event(fourth, Some(key_value(key, "four", fourth, fourth)), None),
    ];
    assert_eq!(events(&world, &mut receiver, 4).await, expected);
}

pub(super) async fn a_watch_begins_where_it_is_told(world: World, store: Arc<dyn Store>) {
    let before = store.revision().await.expect("the store works");
    let mut revisions = Vec::new();
    for number in 0..4 {
        revisions.push(put(&store, &format!("/begin/{number}"), "old").await);
    }
    let mut starts = vec![before];
    starts.extend(&revisions);
    let mut receivers = Vec::new();
    for start in starts {
        receivers.push(watch(&store, "/begin/", start).await);
    }
    revisions.push(put(&store, "/begin/new", "new").await);
    for (skipped, mut receiver) in receivers.into_iter().enumerate() {
        let told = events(&world, &mut receiver, revisions.len() - skipped).await;
        let told: Vec<u64> = told.iter().map(|event| event.revision).collect();
        assert_eq!(told, revisions[skipped..], "watch from {skipped}");
    }
}

pub(super) async fn a_watch_under_load_has_no_gaps(world: World, store: Arc<dyn Store>) {
    const WRITERS: usize = 8;
    const WRITES: usize = 40;
    let before = store.revision().await.expect("the store works");
    let early = watch(&store, "/load/", before).await;
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        async move {
            for number in 0..WRITES {
                let key = format!("/load/{}", (writer + number) % 5);
                put(&store, &key, &format!("{writer}-{number}")).await;
            }
        }
    });
    let late = async {
        // Registers while the writers are at work.
        while store.revision().await.expect("the store works") < before + 20 {
            world.sleep(std::time::Duration::from_millis(1)).await;
        }
        let start = store.revision().await.expect("the store works") - 10;
        (start, watch(&store, "/load/", start).await)
    };
    let (_, (start, late)) = futures::future::join(join_all(writers), late).await;
    for (start, mut receiver) in [(before, early), (start, late)] {
        let count = WRITERS * WRITES - (start - before) as usize;
        let told = events(&world, &mut receiver, count).await;
        let mut known: BTreeMap<&str, u64> = BTreeMap::new();
        for (event, expected) in told.iter().zip(start + 1..) {
            assert_eq!(event.revision, expected, "a gap or a repeat");
            let previous = event.previous.as_ref().map(|previous| previous.mod_revision);
            if let Some(last) = known.insert(&event.key, event.revision) {
                assert_eq!(previous, Some(last));
            }
        }
        for (key, last) in known {
            assert_eq!(get(&store, key).await.expect("nobody deletes it").mod_revision, last);
        }
    }
}

pub(super) async fn a_watch_of_the_future_is_an_error(_: World, store: Arc<dyn Store>) {
    let newest = store.revision().await.expect("the store works");
    let answer = store.watch("/", newest + 1).await.map(|_| ());
    assert!(matches!(answer, Err(StoreError::Future { requested, .. }) if requested == newest + 1), "{answer:?}");
}
