//! What every engine must do: cases that run against any [`Store`] in any world.
//!
//! A case uses keys below its own name and tolerates others beside them, so that all can run on one
//! store, one after another. A case fails by panicking.

mod leases;
mod ranges;
mod watches;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daruma_world::World;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{Event, Expect, KeyValue, Outcome, Store, Write};

/// One thing that every engine must do.
pub struct Case {
    /// Says what, in words.
    pub name: &'static str,
    /// Checks it.
    pub run: fn(World, Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($module:ident::$function:ident),* $(,)?) => {
        &[$(Case { name: stringify!($function), run: |world, store| $module::$function(world, store).boxed() }),*]
    };
}

/// Every case.
pub static ALL: &[Case] = cases![
    writes::a_write_needs_its_expectation,
    writes::a_key_made_anew_has_a_new_creation,
    writes::every_change_takes_the_next_revision,
    writes::one_of_many_concurrent_writers_wins,
    writes::concurrent_increments_are_not_lost,
    ranges::a_range_is_in_order_and_ends_with_its_prefix,
    ranges::pages_cover_everything_once,
    ranges::a_past_revision_shows_what_was,
    ranges::a_future_revision_is_an_error,
    watches::a_watch_tells_what_was_and_what_is,
    watches::a_watch_begins_where_it_is_told,
    watches::a_watch_under_load_has_no_gaps,
    watches::a_watch_of_the_future_is_an_error,
    leases::a_key_ends_after_its_time,
    leases::a_write_renews_or_ends_the_lease,
];

/// The longest that an engine may take for anything here.
const PATIENCE: Duration = Duration::from_secs(20);

async fn write(store: &Arc<dyn Store>, key: &str, expect: Expect, write: Write) -> Outcome {
    store.write(key, expect, write).await.expect("the store works")
}

fn value(text: &str) -> Write {
    Write::Put { value: Bytes::copy_from_slice(text.as_bytes()), ttl_seconds: None }
}

/// Sets a key; gives the revision.
async fn put(store: &Arc<dyn Store>, key: &str, text: &str) -> u64 {
    committed(write(store, key, Expect::Any, value(text)).await)
}

/// Deletes a key that is there; gives the revision.
async fn delete(store: &Arc<dyn Store>, key: &str) -> u64 {
    committed(write(store, key, Expect::Any, Write::Delete).await)
}

fn committed(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict { current } => panic!("a conflict with {current:?}"),
    }
}

async fn get(store: &Arc<dyn Store>, key: &str) -> Option<KeyValue> {
    store.get(key).await.expect("the store works")
}

fn key_value(key: &str, text: &str, create_revision: u64, mod_revision: u64) -> KeyValue {
    KeyValue { key: key.into(), value: Bytes::copy_from_slice(text.as_bytes()), create_revision, mod_revision }
}

/// The next `count` events.
async fn events(world: &World, receiver: &mut mpsc::Receiver<Vec<Event>>, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch = world.timeout(PATIENCE, receiver.recv()).await.expect("an event arrives in time");
        events.extend(batch.expect("the watch stays open"));
    }
    assert_eq!(events.len(), count, "more events than there should be: {events:?}");
    events
}
