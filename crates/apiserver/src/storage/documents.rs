//! Objects as they were decoded or encoded lately: what has just been written is what is read before the next write.
//!
//! Invariant: custom resources are not here. How they are decoded changes with their definitions.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::Value;

use super::{Head, Item};
use crate::recent::Recent;

/// Bytes of stored forms whose decoded ones are kept, at most twice. These are up to twenty times as large; where little is
/// written they are few, for what is not used goes with what is written.
const LIMIT_BYTES: usize = 192 << 10;

/// Decoded objects by store key.
pub struct RecentDocuments(Mutex<Recent<Arc<Decoded>>>);

struct Decoded {
    revision: u64,
    stored: Bytes,
    object: Arc<Value>,
}

impl Default for RecentDocuments {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(LIMIT_BYTES)))
    }
}

impl fmt::Debug for RecentDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentDocuments").finish_non_exhaustive()
    }
}

impl RecentDocuments {
    /// What [`Head::decode`] gives.
    ///
    /// # Errors
    /// Bytes that are not the stored form of an object.
    pub fn get(&self, head: &Head, key: &str, stored: &Bytes, revision: u64) -> Result<Arc<Value>, serde_json::Error> {
        if let Some(known) = self.known(head, key, stored, revision) {
            return Ok(known);
        }
        let object = Arc::new(head.decode(stored, revision)?);
        if !head.is_renewed() {
            self.insert(key, stored, revision, object.clone());
        }
        Ok(object)
    }

    /// An object of the watch cache below `prefix`, where it is known. Nothing is kept: this is for those who go through many.
    pub fn of_item(&self, head: &Head, prefix: &str, item: &Item) -> Option<Arc<Value>> {
        self.known(head, &[prefix, &item.key].concat(), &item.value, item.revision)
    }

    fn known(&self, head: &Head, key: &str, stored: &Bytes, revision: u64) -> Option<Arc<Value>> {
        if head.is_renewed() {
            return None;
        }
        let known = self.0.lock().expect("no panic while held").get(key.as_bytes())?;
        (known.revision == revision && known.stored == *stored).then(|| known.object.clone())
    }

    /// Keeps an object that was encoded to `stored` and written at `revision`; gives it as [`Head::decode`] would.
    pub fn written(&self, head: &Head, key: &str, stored: &Bytes, revision: u64, mut object: Value) -> Option<Arc<Value>> {
        if !head.settle(&mut object, revision) {
            return None;
        }
        debug_assert_eq!(head.encode(&object), *stored, "{key}");
        let object = Arc::new(object);
        self.insert(key, stored, revision, object.clone());
        Some(object)
    }

    fn insert(&self, key: &str, stored: &Bytes, revision: u64, object: Arc<Value>) {
        let decoded = Arc::new(Decoded { revision, stored: stored.clone(), object });
        let forgotten = self.0.lock().expect("no panic while held").insert(key.as_bytes(), decoded, stored.len());
        // What is large takes its time to go, and nobody has to wait for that.
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_written_is_what_is_decoded() {
        let (head, decoded) = (Head::new("v1", "Pod"), RecentDocuments::default());
        let object = json!({"kind": "Pod", "apiVersion": "v1", "spec": null, "metadata": {"name": "a", "labels": null,
            "selfLink": "/x", "resourceVersion": "1"}});
        let stored = head.encode(&object);
        decoded.written(&head, "a", &stored, 7, object);
        let first = decoded.get(&head, "a", &stored, 7).expect("it parses");
        assert_eq!(*first, head.decode(&stored, 7).expect("it parses"));
        assert!(Arc::ptr_eq(&first, &decoded.get(&head, "a", &stored, 7).expect("it parses")));
        // Another revision, or other bytes, are another object.
        for (stored, revision) in [(&stored, 8), (&head.encode(&json!({"metadata": {"name": "b"}})), 8)] {
            let got = decoded.get(&head, "a", stored, revision).expect("it parses");
            assert_eq!(*got, head.decode(stored, revision).expect("it parses"));
        }
        assert!(decoded.get(&head, "a", &Bytes::from_static(b"{"), 9).is_err());
    }

    #[test]
    fn of_another_kind() {
        let (head, decoded) = (Head::new("v1", "Pod"), RecentDocuments::default());
        let object = json!({"kind": "Po", "apiVersion": "v1", "metadata": {}});
        let stored = head.encode(&object);
        decoded.written(&head, "a", &stored, 7, object);
        assert_eq!(decoded.get(&head, "a", &stored, 7).expect("it parses")["kind"], "Pod");
    }
}
