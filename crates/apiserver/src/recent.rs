//! A bounded memory of what was used lately.

use std::collections::HashMap;
use std::mem;

/// Values by key. When what was added since the last time weighs more than the limit, all goes that was not used since.
///
/// Keys may come from anybody: they are hashed under a secret, so that neither crowding them nor measuring times tells of
/// other keys. Invariant: the map is never gone through, for its order is by chance.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    young: HashMap<Box<[u8]>, Weighed<V>>,
    old: HashMap<Box<[u8]>, Weighed<V>>,
    limit: usize,
    added: usize,
}

#[derive(Debug)]
struct Weighed<V> {
    value: V,
    weight: usize,
}

/// What has been forgotten; to be dropped where nobody waits.
pub(crate) struct Forgotten<V> {
    _replaced: Option<V>,
    _unused: Generation<V>,
}

/// Values by key, with their weights.
type Generation<V> = HashMap<Box<[u8]>, Weighed<V>>;

impl<V: Clone> Recent<V> {
    /// Nothing yet. No more than twice `limit` is kept.
    pub(crate) fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), limit, added: 0 }
    }

    /// The value of a key, which counts as used.
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<V> {
        if let Some(found) = self.young.get(key) {
            return Some(found.value.clone());
        }
        let (key, Weighed { value, weight }) = self.old.remove_entry(key)?;
        self.put(key, value.clone(), weight);
        Some(value)
    }

    /// Sets the value of a key, unless it weighs more than the limit.
    pub(crate) fn insert(&mut self, key: &[u8], value: V, weight: usize) -> Forgotten<V> {
        let replaced = self.old.remove(key).map(|old| old.value);
        if weight > self.limit {
            let younger = self.young.remove(key).map(|young| young.value);
            return Forgotten { _replaced: younger.or(replaced), _unused: HashMap::new() };
        }
        let (younger, unused) = self.put(key.into(), value, weight);
        Forgotten { _replaced: younger.or(replaced), _unused: unused }
    }

    fn put(&mut self, key: Box<[u8]>, value: V, weight: usize) -> (Option<V>, Generation<V>) {
        let mut unused = HashMap::new();
        self.added += weight;
        if self.added > self.limit {
            unused = mem::replace(&mut self.old, mem::take(&mut self.young));
            self.added = weight;
        }
        let replaced = self.young.insert(key, Weighed { value, weight });
        (replaced.map(|young| young.value), unused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_goes() {
        let mut recent = Recent::new(2);
        recent.insert(b"a", 1, 1);
        recent.insert(b"b", 2, 1);
        recent.insert(b"c", 3, 1);
        assert_eq!(recent.get(b"a"), Some(1));
        // `a` was used since the last time, `b` was not.
        recent.insert(b"d", 4, 1);
        assert_eq!([b"a", b"b", b"c", b"d"].map(|key| recent.get(key)), [Some(1), None, Some(3), Some(4)]);
    }

    #[test]
    fn values_are_replaced() {
        let mut recent = Recent::new(2);
        recent.insert(b"a", 1, 1);
        recent.insert(b"a", 2, 1);
        recent.insert(b"a", 3, 1);
        assert_eq!(recent.get(b"a"), Some(3));
        // What is too heavy takes the place of what was there by leaving it empty.
        recent.insert(b"a", 4, 3);
        assert_eq!(recent.get(b"a"), None);
        assert!(recent.young.len() + recent.old.len() <= 1);
    }
}
