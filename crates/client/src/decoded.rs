//! Objects that a neighbour in the same process has decoded already.
//!
//! Where clients and server share a process, as in the virtual world, every informer of a collection receives the same
//! bytes, and whoever wrote an object gets them first. A server puts one [`DecodedObjects`] into the extensions of its
//! responses, and writers and informers then keep one object between them. It changes no behaviour: these objects are read
//! only.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use foldhash::{fast, quality};
use serde::de::DeserializeOwned;

/// Entries before the first sweep for those that nobody keeps any more.
const FIRST_SWEEP: usize = 1024;

/// With fewer objects of a type than this the time of a copy is worth more than the room that it saves.
const CROWD: usize = 2_000;

/// A smaller object's lists have little room to spare.
const BULKY_BYTES: usize = 1024;

/// Type, length and two independent hashes of the text: 128 bits, so that two texts never meet by chance.
type Key = (TypeId, usize, u64, u64);

/// What was decoded and is still kept by somebody.
#[derive(Default)]
pub struct DecodedObjects {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// A hundred thousand, looked up for each event of each informer; their order is never seen.
    objects: HashMap<Key, Weak<dyn Any + Send + Sync>, fast::FixedState>,
    sweep_at: usize,
    /// How many of each type there were at the last sweep.
    crowds: HashMap<TypeId, usize, fast::FixedState>,
}

impl Kept {
    /// Forgets what nobody keeps: it is a shell of its size until then.
    fn sweep(&mut self) {
        self.crowds.clear();
        self.objects.retain(|(of, ..), object| {
            let is_kept = object.strong_count() > 0;
            *self.crowds.entry(*of).or_default() += usize::from(is_kept);
            is_kept
        });
        self.sweep_at = (self.objects.len() * 5 / 4).max(FIRST_SWEEP);
    }
}

impl DecodedObjects {
    /// The object that `text` says, decoded now or before.
    pub(crate) fn get<K: DeserializeOwned + Clone + Send + Sync + 'static>(
        &self,
        text: &str,
    ) -> Result<Arc<K>, serde_json::Error> {
        let content = without_type(text);
        let key = (TypeId::of::<K>(), content.len(), hash(0, content), hash(1, content));
        let (known, is_crowded) = {
            let kept = self.kept();
            (kept.objects.get(&key).and_then(Weak::upgrade), kept.crowds.get(&key.0).is_some_and(|crowd| *crowd > CROWD))
        };
        if let Some(object) = known.and_then(|object| object.downcast::<K>().ok()) {
            return Ok(object);
        }
        let is_tight = is_crowded && text.len() >= BULKY_BYTES;
        let object: Arc<K> = if is_tight { fresh(text)? } else { serde_json::from_str(text).map(Arc::new)? };
        let weak: Weak<K> = Arc::downgrade(&object);
        let mut kept = self.kept();
        kept.objects.insert(key, weak);
        if kept.objects.len() > kept.sweep_at {
            kept.sweep();
        }
        Ok(object)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object in a list has no kind and version, in an event it has: for a Rust type it is one and the same.
fn without_type(text: &str) -> &str {
    behind_type(text).or_else(|| text.strip_prefix('{')).unwrap_or(text)
}

/// What follows kind and version where an object begins with them, as servers write it.
fn behind_type(text: &str) -> Option<&str> {
    let (_, rest) = text.strip_prefix("{\"kind\":\"")?.split_once('"')?;
    let (_, rest) = rest.strip_prefix(",\"apiVersion\":\"")?.split_once('"')?;
    rest.strip_prefix(',')
}

fn hash(seed: u64, text: &str) -> u64 {
    quality::FixedState::with_seed(seed).hash_one(text)
}

/// A decoder's lists have room for four where there is one; those of a clone have room for what they hold.
fn fresh<K: DeserializeOwned + Clone>(text: &str) -> Result<Arc<K>, serde_json::Error> {
    serde_json::from_str::<K>(text).map(|object| Arc::new(object.clone()))
}

/// An object for keeping: shared with others where the server offers it.
pub(crate) fn decode<K: DeserializeOwned + Clone + Send + Sync + 'static>(
    text: &str,
    shared: Option<&DecodedObjects>,
) -> Result<Arc<K>, serde_json::Error> {
    match shared {
        Some(shared) => shared.get(text),
        None => fresh(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{DecodedObjects, FIRST_SWEEP};
    use std::sync::Arc;

    #[test]
    fn one_text_is_one_object_while_somebody_keeps_it() {
        let decoded = DecodedObjects::default();
        let first: Arc<Vec<u32>> = decoded.get("[1,2]").expect("it decodes");
        assert!(Arc::ptr_eq(&first, &decoded.get("[1,2]").expect("it decodes")));
        // Another text, and the same text for another type, are other objects.
        assert_eq!(*decoded.get::<Vec<u32>>("[1,3]").expect("it decodes"), [1, 3]);
        assert_eq!(*decoded.get::<Vec<u64>>("[1,2]").expect("it decodes"), [1, 2]);
        assert!(decoded.get::<Vec<u32>>("[1").is_err());
    }

    #[test]
    fn of_a_list_and_of_a_watch() {
        use daruma_api::core::v1::ConfigMap;
        let decoded = DecodedObjects::default();
        let event = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"x":"y"}}"#;
        let first: Arc<ConfigMap> = decoded.get(event).expect("it decodes");
        let item = r#"{"metadata":{"name":"a"},"data":{"x":"y"}}"#;
        assert!(Arc::ptr_eq(&first, &decoded.get(item).expect("it decodes")));
        let other = r#"{"metadata":{"name":"b"},"data":{"x":"y"}}"#;
        assert_eq!(decoded.get::<ConfigMap>(other).expect("it decodes").metadata.name.as_deref(), Some("b"));
    }

    #[test]
    fn what_nobody_keeps_is_forgotten() {
        let decoded = DecodedObjects::default();
        let kept: Arc<u32> = decoded.get("7").expect("it decodes");
        for number in 0..10 * FIRST_SWEEP {
            decoded.get::<u32>(&number.to_string()).expect("it decodes");
        }
        assert!(decoded.kept().objects.len() <= FIRST_SWEEP + 1);
        assert!(Arc::ptr_eq(&kept, &decoded.get("7").expect("it decodes")));
    }
}
