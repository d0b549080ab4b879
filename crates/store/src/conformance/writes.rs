//! Writes and their expectations.

use std::sync::Arc;

use daruma_world::World;
use futures::future::join_all;

use super::{committed, delete, get, key_value, put, value, write};
use crate::{Expect, Outcome, Store, Write};

pub(super) async fn a_write_needs_its_expectation(_: World, store: Arc<dyn Store>) {
    let key = "/expectation/key";
    let conflict = |current| Outcome::Conflict { current };
    assert_eq!(get(&store, key).await, None);
    assert_eq!(write(&store, key, Expect::Revision(1), value("x")).await, conflict(None));
    assert_eq!(write(&store, key, Expect::Any, Write::Delete).await, conflict(None));

    let first = committed(write(&store, key, Expect::Absent, value("one")).await);
    let one = key_value(key, "one", first, first);
    assert_eq!(get(&store, key).await.as_ref(), Some(&one));
    assert_eq!(write(&store, key, Expect::Absent, value("x")).await, conflict(Some(one.clone())));
    assert_eq!(write(&store, key, Expect::Revision(first + 1), value("x")).await, conflict(Some(one)));

    let second = committed(write(&store, key, Expect::Revision(first), value("two")).await);
    let two = key_value(key, "two", first, second);
    assert_eq!(write(&store, key, Expect::Revision(first), Write::Delete).await, conflict(Some(two.clone())));
    assert_eq!(get(&store, key).await, Some(two));

    let third = committed(write(&store, key, Expect::Revision(second), Write::Delete).await);
    assert!(third > second && second > first);
    assert_eq!(get(&store, key).await, None);
}

pub(super) async fn a_key_made_anew_has_a_new_creation(_: World, store: Arc<dyn Store>) {
    let key = "/anew/key";
    let first = put(&store, key, "one").await;
    delete(&store, key).await;
    let third = put(&store, key, "three").await;
    assert!(third > first);
    assert_eq!(get(&store, key).await, Some(key_value(key, "three", third, third)));
    let fourth = put(&store, key, "four").await;
    assert_eq!(get(&store, key).await, Some(key_value(key, "four", third, fourth)));
}

pub(super) async fn every_change_takes_the_next_revision(_: World, store: Arc<dyn Store>) {
    let before = store.revision().await.expect("the store works");
    assert_eq!(put(&store, "/next/a", "1").await, before + 1);
    assert_eq!(put(&store, "/next/a", "1").await, before + 2);
    let refused = write(&store, "/next/a", Expect::Absent, value("x")).await;
    assert!(matches!(refused, Outcome::Conflict { .. }));
    assert_eq!(delete(&store, "/next/a").await, before + 3);
    assert_eq!(store.revision().await.expect("the store works"), before + 3);
}

pub(super) async fn one_of_many_concurrent_writers_wins(_: World, store: Arc<dyn Store>) {
    let key = "/race/key";
    let outcomes = join_all((0..32).map(|number| {
        let store = store.clone();
        async move { write(&store, key, Expect::Absent, value(&number.to_string())).await }
    }));
    let outcomes = outcomes.await;
    let winners: Vec<usize> =
        (0..outcomes.len()).filter(|number| matches!(outcomes[*number], Outcome::Committed { .. })).collect();
    let [winner] = winners[..] else { panic!("{} winners: {outcomes:?}", winners.len()) };
    let kept = get(&store, key).await.expect("somebody won");
    assert_eq!(kept.value, winner.to_string());
    for outcome in outcomes {
        match outcome {
            Outcome::Committed { revision } => assert_eq!(revision, kept.mod_revision),
            Outcome::Conflict { current } => assert_eq!(current.as_ref(), Some(&kept)),
        }
    }
}

pub(super) async fn concurrent_increments_are_not_lost(_: World, store: Arc<dyn Store>) {
    let key = "/increments/key";
    put(&store, key, "0").await;
    let workers = (0..8).map(|_| {
        let store = store.clone();
        async move {
            for _ in 0..10 {
                let mut current = get(&store, key).await;
                loop {
                    let seen = current.expect("nobody deletes it");
                    let number: u32 = String::from_utf8_lossy(&seen.value).parse().expect("it is a number");
                    let next = value(&(number + 1).to_string());
                    match write(&store, key, Expect::Revision(seen.mod_revision), next).await {
                        Outcome::Committed { .. } => break,
                        Outcome::Conflict { current: newer } => current = newer,
                    }
                }
            }
        }
    });
    join_all(workers).await;
    assert_eq!(get(&store, key).await.expect("nobody deletes it").value, "80");
}
