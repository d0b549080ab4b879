//! Ranges, now and then.

use std::sync::Arc;

use daruma_world::World;

use super::{delete, put};
use crate::{Range, Store, StoreError};

async fn range(store: &Arc<dyn Store>, prefix: &str, after: Option<&str>, limit: usize, revision: Option<u64>) -> Range {
    store.range(prefix, after, limit, revision).await.expect("the store works")
}

/// `key=value` of each item.
fn texts(range: &Range) -> Vec<String> {
    range.items.iter().map(|item| format!("{}={}", item.key, String::from_utf8_lossy(&item.value))).collect()
}

pub(super) async fn a_range_is_in_order_and_ends_with_its_prefix(_: World, store: Arc<dyn Store>) {
    for key in ["/order/b", "/order/a/2", "/order/a0", "/order/a/1", "/order/a", "/orders/x"] {
        put(&store, key, "v").await;
    }
    let revision = store.revision().await.expect("the store works");
    for (prefix, expected) in [
        ("/order/", &["/order/a=v", "/order/a/1=v", "/order/a/2=v", "/order/a0=v", "/order/b=v"][..]),
        ("/order/a/", &["/order/a/1=v", "/order/a/2=v"]),
        ("/order/c", &[]),
    ] {
        let found = range(&store, prefix, None, 0, None).await;
        assert_eq!(texts(&found), expected, "{prefix}");
        assert_eq!((found.revision, found.remaining), (revision, 0));
    }
}

pub(super) async fn pages_cover_everything_once(_: World, store: Arc<dyn Store>) {
    for number in 0..10 {
        put(&store, &format!("/pages/{number}"), "old").await;
    }
    let first = range(&store, "/pages/", None, 4, None).await;
    assert_eq!((texts(&first).len(), first.remaining), (4, 6));
    // What happens between two pages does not show.
    put(&store, "/pages/5", "new").await;
    delete(&store, "/pages/6").await;
    put(&store, "/pages/99", "new").await;
    let mut seen = texts(&first);
    let mut after = first.items[3].key.clone();
    loop {
        let page = range(&store, "/pages/", Some(&after), 4, Some(first.revision)).await;
        assert_eq!(page.revision, first.revision);
        assert_eq!(page.remaining, 10u64.saturating_sub(seen.len() as u64 + page.items.len() as u64));
        seen.extend(texts(&page));
        match page.items.last() {
            Some(last) if page.remaining > 0 => after.clone_from(&last.key),
            _ => break,
        }
    }
    let expected: Vec<String> = (0..10).map(|number| format!("/pages/{number}=old")).collect();
    assert_eq!(seen, expected);
    assert_eq!(texts(&range(&store, "/pages/", Some("/pages/8"), 0, None).await), ["/pages/9=old", "/pages/99=new"]);
    assert_eq!(range(&store, "/pages/", Some("/page"), 0, None).await.items.len(), 10);
    assert_eq!(range(&store, "/pages/", Some("/pages0"), 0, None).await.items.len(), 0);
}

pub(super) async fn a_past_revision_shows_what_was(_: World, store: Arc<dyn Store>) {
    let mut then = Vec::new();
    then.push((store.revision().await.expect("the store works"), vec![]));
    then.push((put(&store, "/past/a", "1").await, vec!["/past/a=1"]));
    then.push((put(&store, "/past/b", "2").await, vec!["/past/a=1", "/past/b=2"]));
    then.push((put(&store, "/past/a", "3").await, vec!["/past/a=3", "/past/b=2"]));
    then.push((delete(&store, "/past/a").await, vec!["/past/b=2"]));
    then.push((put(&store, "/past/c", "4").await, vec!["/past/b=2", "/past/c=4"]));
    then.push((put(&store, "/past/a", "5").await, vec!["/past/a=5", "/past/b=2", "/past/c=4"]));
    for (revision, expected) in &then {
        let found = range(&store, "/past/", None, 0, Some(*revision)).await;
        assert_eq!((texts(&found), found.revision), (expected.iter().map(ToString::to_string).collect(), *revision));
    }
    let (third, _) = then[3];
    let item = &range(&store, "/past/a", None, 0, Some(third)).await.items[0];
    assert_eq!((item.create_revision, item.mod_revision), (then[1].0, third));
}

pub(super) async fn a_future_revision_is_an_error(_: World, store: Arc<dyn Store>) {
    let newest = store.revision().await.expect("the store works");
    let answer = store.range("/", None, 0, Some(newest + 7)).await;
    assert!(
        matches!(answer, Err(StoreError::Future { requested, newest: told }) if requested == newest + 7 && told == newest),
        "{answer:?}"
    );
}
