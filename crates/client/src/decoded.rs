//! Objects that a neighbour in the same process has decoded already.
//!
//! Where clients and server share a process, as in the virtual world, every informer of a collection receives the same
//! bytes, and whoever wrote an object gets them first. A server puts one [`DecodedObjects`] into the extensions of its
//! responses, and writers and informers then keep one object between them. It changes no behaviour: these objects are read
//! only.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use daruma_api::json;
use foldhash::{fast, quality};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Entries before the first sweep for those that nobody keeps any more.
const FIRST_SWEEP: usize = 1024;

/// With fewer objects of a type than this the time of a copy is worth more than the room that it saves.
const CROWD: usize = 2_000;

/// A smaller object's lists have little room to spare.
const BULKY_BYTES: usize = 1024;

/// So many of the objects that were decoded last are kept: whoever wrote one often lets it go before the watches tell of it.
const LAST: usize = 16;

/// Type, length and two independent hashes of the text: 128 bits, so that two texts never meet by chance.
#[derive(PartialEq, Eq, Hash, Clone, Copy)]
struct Key {
    of: TypeId,
    length: usize,
    hashes: [u64; 2],
}

/// Of an object that is written like this behind its kind and version.
fn key<K: 'static>(content: &[u8]) -> Key {
    let hash = |seed| quality::FixedState::with_seed(seed).hash_one(content);
    Key { of: TypeId::of::<K>(), length: content.len(), hashes: [hash(0), hash(1)] }
}

/// What was decoded and is still kept by somebody.
#[derive(Default)]
pub struct DecodedObjects {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// A hundred thousand, looked up for each event of each informer; their order is never seen.
    objects: HashMap<Key, Weak<dyn Any + Send + Sync>, fast::FixedState>,
    last: VecDeque<Arc<dyn Any + Send + Sync>>,
    sweep_at: usize,
    /// How many of each type there were at the last sweep.
    crowds: HashMap<TypeId, usize, fast::FixedState>,
}

impl Kept {
    fn get<K: Any + Send + Sync>(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.get(key)?.upgrade()?.downcast().ok()
    }

    fn insert(&mut self, key: Key, object: Weak<dyn Any + Send + Sync>) {
        self.objects.insert(key, object);
        if self.objects.len() > self.sweep_at {
            self.sweep();
        }
    }

    /// Keeps an object for a while; gives the one that is not kept any longer.
    fn keep(&mut self, object: Arc<dyn Any + Send + Sync>) -> Option<Arc<dyn Any + Send + Sync>> {
        self.last.push_back(object);
        if self.last.len() > LAST { self.last.pop_front() } else { None }
    }

    /// Forgets what nobody keeps: it is a shell of its size until then.
    fn sweep(&mut self) {
        self.crowds.clear();
        self.objects.retain(|key, object| {
            let is_kept = object.strong_count() > 0;
            *self.crowds.entry(key.of).or_default() += usize::from(is_kept);
            is_kept
        });
        self.sweep_at = (self.objects.len() * 5 / 4).max(FIRST_SWEEP);
    }
}

impl DecodedObjects {
    /// Tells the document of an object as it stands in a list, without kind and version. As long as somebody keeps the
    /// document the object is made of it, which takes half of what the text would.
    pub fn offer(&self, item: &[u8], document: &Arc<Value>) {
        let Some(content) = item.strip_prefix(b"{") else { return };
        let weak: Weak<Value> = Arc::downgrade(document);
        self.kept().insert(key::<Value>(content), weak);
    }

    /// The object that `text` says, decoded now or before.
    pub(crate) fn get<K: DeserializeOwned + Clone + Send + Sync + 'static>(
        &self,
        text: &[u8],
    ) -> Result<Arc<K>, serde_json::Error> {
        let key = key::<K>(without_type(text));
        let (document, is_crowded) = {
            let kept = self.kept();
            if let Some(object) = kept.get::<K>(&key) {
                return Ok(object);
            }
            let document = kept.get::<Value>(&Key { of: TypeId::of::<Value>(), ..key });
            (document, kept.crowds.get(&key.of).is_some_and(|crowd| *crowd > CROWD))
        };
        let object: Arc<K> = match document.and_then(|document| K::deserialize(&*document).ok()) {
            Some(object) => Arc::new(object),
            None if is_crowded && text.len() >= BULKY_BYTES => fresh(text)?,
            None => json::parse(text).map(Arc::new)?,
        };
        let weak: Weak<K> = Arc::downgrade(&object);
        let mut kept = self.kept();
        kept.insert(key, weak);
        let forgotten = kept.keep(object.clone());
        drop(kept);
        // What is large takes its time to go, and nobody has to wait for that.
        drop(forgotten);
        Ok(object)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object in a list has no kind and version, in an event it has: for a Rust type it is one and the same.
fn without_type(text: &[u8]) -> &[u8] {
    behind_type(text).or_else(|| text.strip_prefix(b"{")).unwrap_or(text)
}

/// What follows kind and version where an object begins with them, as servers write it.
fn behind_type(text: &[u8]) -> Option<&[u8]> {
    let (_, rest) = split_at_quote(text.strip_prefix(b"{\"kind\":\"")?)?;
    let (_, rest) = split_at_quote(rest.strip_prefix(b",\"apiVersion\":\"")?)?;
    rest.strip_prefix(b",")
}

/// What is before and behind the first quote.
pub(crate) fn split_at_quote(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'"', text)?;
    Some((&text[..at], &text[at + 1..]))
}

/// A decoder's lists have room for four where there is one; those of a clone have room for what they hold.
fn fresh<K: DeserializeOwned + Clone>(text: &[u8]) -> Result<Arc<K>, serde_json::Error> {
    json::parse::<K>(text).map(|object| Arc::new(object.clone()))
}

/// An object for keeping: shared with others where the server offers it.
pub(crate) fn decode<K: DeserializeOwned + Clone + Send + Sync + 'static>(
    text: &[u8],
    shared: Option<&DecodedObjects>,
) -> Result<Arc<K>, serde_json::Error> {
    match shared {
        Some(shared) => shared.get(text),
        None => fresh(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{DecodedObjects, FIRST_SWEEP, LAST};
    use std::sync::Arc;

    #[test]
    fn one_text_is_one_object_while_somebody_keeps_it() {
        let decoded = DecodedObjects::default();
        let first: Arc<Vec<u32>> = decoded.get(b"[1,2]").expect("it decodes");
        assert!(Arc::ptr_eq(&first, &decoded.get(b"[1,2]").expect("it decodes")));
        // Another text, and the same text for another type, are other objects.
        assert_eq!(*decoded.get::<Vec<u32>>(b"[1,3]").expect("it decodes"), [1, 3]);
        assert_eq!(*decoded.get::<Vec<u64>>(b"[1,2]").expect("it decodes"), [1, 2]);
        assert!(decoded.get::<Vec<u32>>(b"[1").is_err());
    }

    #[test]
    fn what_was_decoded_last_is_kept() {
        let decoded = DecodedObjects::default();
        let let_go = Arc::downgrade(&decoded.get::<u32>(b"7").expect("it decodes"));
        for number in 10..10 + LAST {
            assert!(let_go.upgrade().is_some(), "{number}");
            decoded.get::<u32>(number.to_string().as_bytes()).expect("it decodes");
        }
        assert!(let_go.upgrade().is_none());
    }

    #[test]
    fn of_a_list_and_of_a_watch() {
        use daruma_api::core::v1::ConfigMap;
        let decoded = DecodedObjects::default();
        let event = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"x":"y"}}"#;
        let first: Arc<ConfigMap> = decoded.get(event.as_bytes()).expect("it decodes");
        let item = r#"{"metadata":{"name":"a"},"data":{"x":"y"}}"#;
        assert!(Arc::ptr_eq(&first, &decoded.get(item.as_bytes()).expect("it decodes")));
        let other = r#"{"metadata":{"name":"b"},"data":{"x":"y"}}"#;
        assert_eq!(decoded.get::<ConfigMap>(other.as_bytes()).expect("it decodes").metadata.name.as_deref(), Some("b"));
    }

    #[test]
    fn what_is_told_is_not_read() {
        use daruma_api::core::v1::ConfigMap;
        let decoded = DecodedObjects::default();
        let item = r#"{"metadata":{"name":"a"},"data":{"x":"y"}}"#;
        // Told otherwise than it is written, for one to see what was read.
        let document = Arc::new(serde_json::json!({"metadata": {"name": "a"}, "data": {"x": "told"}}));
        decoded.offer(item.as_bytes(), &document);
        let read = |decoded: &DecodedObjects| {
            let object: Arc<ConfigMap> = decoded.get(item.as_bytes()).expect("it decodes");
            object.data.as_ref().expect("data")["x"].clone()
        };
        assert_eq!(read(&decoded), "told");
        // A document that does not fit the type, or has gone, is passed over.
        for document in [Some(Arc::new(serde_json::json!({"data": 1}))), None] {
            let decoded = DecodedObjects::default();
            decoded.offer(item.as_bytes(), document.as_ref().unwrap_or(&Arc::default()));
            assert_eq!(read(&decoded), "y");
        }
    }

    #[test]
    fn what_nobody_keeps_is_forgotten() {
        let decoded = DecodedObjects::default();
        let kept: Arc<u32> = decoded.get(b"7").expect("it decodes");
        for number in 0..10 * FIRST_SWEEP {
            decoded.get::<u32>(number.to_string().as_bytes()).expect("it decodes");
        }
        assert!(decoded.kept().objects.len() <= FIRST_SWEEP + LAST + 1);
        assert!(Arc::ptr_eq(&kept, &decoded.get(b"7").expect("it decodes")));
    }
}
