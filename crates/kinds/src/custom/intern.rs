//! Names of custom resources that live as long as the program, as those of the built-in kinds do.
//!
//! What is kept here is never given back: each distinct value costs its memory once, however often a definition is
//! written. Definitions bring few of them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::kind::{Column, Names, Subresource};

static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
static LISTS: Mutex<BTreeSet<&'static [&'static str]>> = Mutex::new(BTreeSet::new());
static NAMES: Mutex<BTreeSet<&'static Names>> = Mutex::new(BTreeSet::new());
static COLUMNS: Mutex<BTreeSet<&'static [Column]>> = Mutex::new(BTreeSet::new());
static SUBRESOURCES: Mutex<BTreeSet<&'static [Subresource]>> = Mutex::new(BTreeSet::new());

/// A text.
pub(super) fn text(value: &str) -> &'static str {
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = texts.get(value) {
        return known;
    }
    let kept: &'static str = Box::leak(value.into());
    texts.insert(kept);
    kept
}

/// Texts in their order.
pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> &'static [&'static str] {
    slice(&LISTS, values.into_iter().map(text).collect())
}

/// Names of a kind.
pub(super) fn names(value: Names) -> &'static Names {
    let mut known = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(&value) {
        return known;
    }
    let kept: &'static Names = Box::leak(Box::new(value));
    known.insert(kept);
    kept
}

/// Columns in their order.
pub(super) fn columns(values: Vec<Column>) -> &'static [Column] {
    slice(&COLUMNS, values)
}

/// Subresources in their order.
pub(super) fn subresources(values: Vec<Subresource>) -> &'static [Subresource] {
    slice(&SUBRESOURCES, values)
}

fn slice<T: Ord>(known: &'static Mutex<BTreeSet<&'static [T]>>, values: Vec<T>) -> &'static [T] {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(values.as_slice()) {
        return known;
    }
    let kept: &'static [T] = Box::leak(values.into_boxed_slice());
    known.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_kept_once() {
        let (one, other) = (texts(["crontabs", "ct"]), texts([String::from("crontabs").as_str(), "ct"]));
        assert!(std::ptr::eq(one, other));
        assert!(std::ptr::eq(one[0], text("crontabs")));
        assert_eq!(columns(Vec::new()), &[]);
    }
}
