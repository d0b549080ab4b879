//! A bounded map that forgets what was not used for longest.

use std::collections::BTreeMap;
use std::sync::Arc;

/// At most `capacity` entries; reading and writing an entry makes it the newest.
pub(super) struct Lru<V> {
    capacity: usize,
    tick: u64,
    entries: BTreeMap<Arc<str>, (u64, V)>,
    order: BTreeMap<u64, Arc<str>>,
}

impl<V> Lru<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, tick: 0, entries: BTreeMap::new(), order: BTreeMap::new() }
    }

    /// The entry of `key`, made by `default` where there is none.
    pub(super) fn entry(&mut self, key: &str, default: impl FnOnce() -> V) -> &mut V {
        self.tick += 1;
        let tick = self.tick;
        let known = match self.entries.get_key_value(key) {
            Some((known, (old, _))) => {
                self.order.remove(old);
                known.clone()
            }
            None => {
                if self.entries.len() >= self.capacity
                    && let Some((_, oldest)) = self.order.pop_first()
                {
                    self.entries.remove(&oldest);
                }
                key.into()
            }
        };
        self.order.insert(tick, known.clone());
        let entry = self.entries.entry(known).or_insert_with(|| (tick, default()));
        entry.0 = tick;
        &mut entry.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_least_recently_used() {
        let mut lru = Lru::new(2);
        *lru.entry("a", || 0) = 1;
        *lru.entry("b", || 0) = 2;
        assert_eq!(*lru.entry("a", || 0), 1);
        *lru.entry("c", || 0) = 3;
        assert_eq!(*lru.entry("a", || 0), 1);
        assert_eq!(*lru.entry("b", || 0), 0);
        assert_eq!((lru.entries.len(), lru.order.len()), (2, 2));
    }
}
