//! Keys that end by themselves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daruma_world::World;

use super::{committed, delete, events, get, put, write};
use crate::{Expect, Store, Write};

fn living(seconds: u64) -> Write {
    Write::Put { value: Bytes::from_static(b"leased"), ttl_seconds: Some(seconds) }
}

pub(super) async fn a_key_ends_after_its_time(world: World, store: Arc<dyn Store>) {
    let key = "/ends/key";
    let revision = committed(write(&store, key, Expect::Absent, living(2)).await);
    let mut receiver = store.watch("/ends/", revision).await.expect("the store works");
    let started = world.monotonic();
    world.sleep(Duration::from_millis(1500)).await;
    assert!(get(&store, key).await.is_some(), "it ended too early");
    let told = &events(&world, &mut receiver, 1).await[0];
    assert_eq!((told.key.as_str(), told.value.as_ref()), (key, None));
    assert_eq!(told.previous.as_ref().map(|previous| previous.mod_revision), Some(revision));
    assert!(world.monotonic().saturating_sub(started) >= Duration::from_millis(1900));
    assert_eq!(get(&store, key).await, None);
}

pub(super) async fn a_write_renews_or_ends_the_lease(world: World, store: Arc<dyn Store>) {
    let (renewed, kept, anew) = ("/renew/renewed", "/renew/kept", "/renew/anew");
    for key in [renewed, kept, anew] {
        committed(write(&store, key, Expect::Any, living(3)).await);
    }
    world.sleep(Duration::from_millis(1500)).await;
    committed(write(&store, renewed, Expect::Any, living(3)).await);
    put(&store, kept, "for ever").await;
    delete(&store, anew).await;
    let last = put(&store, anew, "for ever").await;
    let mut receiver = store.watch("/renew/", last).await.expect("the store works");
    world.sleep(Duration::from_millis(2200)).await;
    assert!(get(&store, renewed).await.is_some(), "the write did not renew the lease");
    assert_eq!(events(&world, &mut receiver, 1).await[0].key, renewed);
    assert!(get(&store, kept).await.is_some() && get(&store, anew).await.is_some());
}
