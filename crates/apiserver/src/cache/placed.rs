//! Objects filed by one field: the pods of a node, without a look at the pods of the others.

use std::sync::Arc;

use crate::storage::Item;

/// Keys by the value of one selectable field. A clone costs nothing and does not change any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Placed {
    field: Option<usize>,
    keys: imbl::OrdMap<Box<str>, imbl::OrdSet<Arc<str>>>,
}

impl Placed {
    /// By this field; by none, nothing is ever filed.
    pub(super) fn by(field: Option<usize>) -> Self {
        Self { field, ..Self::default() }
    }

    /// The field.
    pub(super) fn field(&self) -> Option<usize> {
        self.field
    }

    /// The keys of objects whose field has this value, in order.
    pub(super) fn keys(&self, value: &str) -> impl Iterator<Item = &Arc<str>> + Send {
        self.keys.get(value).into_iter().flatten()
    }

    /// An object has taken the place of its earlier state; either may be missing.
    pub(super) fn change(&mut self, before: Option<&Arc<Item>>, now: Option<&Arc<Item>>) {
        let Some(field) = self.field else { return };
        let (old, new) = (before.map(|item| item.field(field)), now.map(|item| item.field(field)));
        if old == new {
            return;
        }
        if let (Some(value), Some(item)) = (old, before)
            && let Some(keys) = self.keys.get_mut(value)
        {
            keys.remove(&item.key);
            if keys.is_empty() {
                self.keys.remove(value);
            }
        }
        if let (Some(value), Some(item)) = (new, now) {
            match self.keys.get_mut(value) {
                Some(keys) => {
                    keys.insert(item.key.clone());
                }
                None => {
                    self.keys.insert(value.into(), imbl::OrdSet::unit(item.key.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Extractor;

    fn pod(key: &str, node: &str) -> Arc<Item> {
        let value = format!("{{\"spec\":{{\"nodeName\":\"{node}\"}}}}");
        Arc::new(Item::new(key, 1, value.into(), &Extractor::new(&["spec.nodeName"])))
    }

    #[track_caller]
    fn check(placed: &Placed, node: &str, expected: &[&str]) {
        assert_eq!(placed.keys(node).map(AsRef::as_ref).collect::<Vec<&str>>(), expected, "{node}");
    }

    #[test]
    fn objects_move() {
        let mut placed = Placed::by(Some(0));
        let (waiting, bound) = (pod("d/b", ""), pod("d/b", "n"));
        placed.change(None, Some(&waiting));
        placed.change(None, Some(&pod("d/a", "n")));
        check(&placed, "", &["d/b"]);
        let before = placed.clone();
        placed.change(Some(&waiting), Some(&bound));
        check(&placed, "n", &["d/a", "d/b"]);
        check(&placed, "", &[]);
        check(&before, "n", &["d/a"]);
        placed.change(Some(&bound), None);
        check(&placed, "n", &["d/a"]);
        let mut none = Placed::default();
        none.change(None, Some(&bound));
        check(&none, "n", &[]);
    }
}
