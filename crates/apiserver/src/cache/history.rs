//! What has happened, kept so that a watcher of one object, or of what is filed under one value, finds it without a look at
//! the rest.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::filter::{Filter, IndexKey};
use super::resource_cache::Change;
use crate::storage::Item;

/// A change, with digests of what watchers are filed under.
#[derive(Debug)]
pub(super) struct Past {
    /// The change.
    pub change: Arc<Change>,
    name: u64,
    /// The indexed field, now and before.
    field: [u64; 2],
}

impl Past {
    /// `indexed` is the number of the field by which objects are filed.
    pub(super) fn new(change: Arc<Change>, indexed: Option<usize>) -> Self {
        let of = |item: &Option<Arc<Item>>| match (item, indexed) {
            (Some(item), Some(field)) => digest(item.field(field)),
            _ => 0,
        };
        let name = digest(change.key.split_once('/').map_or(&*change.key, |(_, name)| name));
        Self { name, field: [of(&change.item), of(&change.previous)], change }
    }
}

/// What lets all changes through that a filter may select, and few others.
pub(super) enum Sieve {
    All,
    Name(u64),
    Field(u64),
}

impl Sieve {
    pub(super) fn of(filter: &Filter, indexed: Option<usize>) -> Self {
        match filter.index_key() {
            Some(IndexKey::Name(name)) => Self::Name(digest(&name)),
            Some(IndexKey::Field(field, value)) if Some(field) == indexed => Self::Field(digest(&value)),
            _ => Self::All,
        }
    }

    pub(super) fn may_pass(&self, past: &Past) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => past.name == *name,
            Self::Field(value) => past.field.contains(value),
        }
    }
}

fn digest(text: &str) -> u64 {
    FixedState::default().hash_one(text)
}

#[cfg(test)]
mod tests {
    use daruma_api::selector::Selector;

    use super::*;
    use crate::storage::Extractor;

    fn item(key: &str, node: &str) -> Option<Arc<Item>> {
        let value = format!("{{\"spec\":{{\"nodeName\":\"{node}\"}}}}");
        Some(Arc::new(Item::new(key, 1, value.into(), &Extractor::new(&["spec.nodeName"]))))
    }

    #[track_caller]
    fn check(fields: &str, past: &Past, passes: bool) {
        let fields = Selector::parse_fields(fields).expect("a selector");
        let filter =
            Filter::new("", Selector::default(), fields, |field| (field == "spec.nodeName").then_some(0)).expect("known fields");
        assert_eq!(Sieve::of(&filter, Some(0)).may_pass(past), passes);
        // What is selected always passes.
        assert!(passes || past.change.seen_through(&filter).is_none());
    }

    #[test]
    fn nothing_that_is_selected_is_kept_back() {
        let moved = Change { revision: 2, key: "d/a".into(), item: item("d/a", "n"), previous: item("d/a", "m") };
        let past = Past::new(Arc::new(moved), Some(0));
        for fields in ["", "spec.nodeName=n", "spec.nodeName=m", "spec.nodeName!=x", "metadata.name=a", "metadata.name!=b"] {
            check(fields, &past, true);
        }
        check("spec.nodeName=x", &past, false);
        check("metadata.name=d", &past, false);
        let gone = Past::new(Arc::new(Change { revision: 3, key: "b".into(), item: None, previous: item("b", "") }), Some(0));
        check("metadata.name=b", &gone, true);
        check("spec.nodeName=", &gone, true);
        check("spec.nodeName=n", &gone, false);
    }
}
