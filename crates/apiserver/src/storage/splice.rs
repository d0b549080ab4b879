//! The stored form of an object: JSON that begins with a fixed head and carries no resourceVersion.
//! The revision is spliced in behind the head when the object is shown, so that the store's bytes
//! serve lists and watches without being decoded.
//!
//! Custom resources are stored in one version and shown in several, and what is stored may be older than the schema by
//! which it is shown: such objects are decoded and renewed each time (docs/decisions/2026-11-30-custom-resources.md).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use daruma_api::json::{self, Scanner};
use serde_json::Value;

/// Brings an object that was stored under an older schema, or in another version, to the form in which it is shown:
/// defaults are filled in, and what the schema does not know goes.
pub type Renew = Arc<dyn Fn(&mut Value) + Send + Sync>;

/// The first bytes of every shown object of one kind in one version: `{"kind":K,"apiVersion":V,"metadata":{`.
#[derive(Clone)]
pub struct Head {
    whole: Vec<u8>,
    /// Where an item of a list begins: at `"metadata":{`; those of custom resources have kind and apiVersion of their own.
    item: usize,
    /// The head in which objects are stored.
    stored: Vec<u8>,
    renewal: Option<Renewal>,
}

/// When and how stored objects are renewed.
#[derive(Clone)]
struct Renewal {
    /// Objects that were written before this revision are.
    before: u64,
    renew: Renew,
    api_version: String,
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Head").field(&String::from_utf8_lossy(&self.whole)).finish()
    }
}

/// Room for nearly every object while it is encoded.
const ROOM: usize = 8 << 10;

const PARTIAL: &[u8] = b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":";
const METADATA: &[u8] = b"\"metadata\":{";

impl Head {
    /// The head of `kind` in `api_version`.
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (whole, bare) = bytes(api_version, kind);
        Self { stored: whole.clone(), whole, item: bare, renewal: None }
    }

    /// The head of a custom `kind` that is shown in `api_version` and stored in `stored_version`. What was written
    /// before the revision `schema_revision` (or all, where the versions differ) is renewed when it is shown.
    pub fn custom(api_version: &str, stored_version: &str, kind: &str, schema_revision: u64, renew: Renew) -> Self {
        let ((whole, _), (stored, _)) = (bytes(api_version, kind), bytes(stored_version, kind));
        let before = if api_version == stored_version { schema_revision } else { u64::MAX };
        Self { whole, item: 0, stored, renewal: Some(Renewal { before, renew, api_version: api_version.to_owned() }) }
    }

    /// Whether objects are shown as they are stored, those of an older schema excepted.
    pub fn is_stored(&self) -> bool {
        self.whole == self.stored
    }

    /// Whether some objects are not shown as they are stored: those of custom resources.
    pub fn is_renewed(&self) -> bool {
        self.renewal.is_some()
    }

    /// Makes of an object that was encoded what [`Head::decode`] gives of the bytes at `revision`; `false` where it is
    /// something else.
    pub fn settle(&self, object: &mut Value, revision: u64) -> bool {
        if self.is_renewed() || !self.is_of(object) {
            return false;
        }
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return false };
        if metadata.values().any(Value::is_null) {
            metadata.retain(|_, value| !value.is_null());
        }
        metadata.remove("selfLink");
        metadata.insert("resourceVersion".into(), Value::String(revision.to_string()));
        true
    }

    /// Whether an object names the kind and version that are in the head.
    fn is_of(&self, object: &Value) -> bool {
        let name = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().as_bytes();
        let pieces = [b"{\"kind\":\"", name("kind"), b"\",\"apiVersion\":\"", name("apiVersion"), b"\",", METADATA];
        let rest = pieces.iter().try_fold(self.whole.as_slice(), |rest, piece| rest.strip_prefix(*piece));
        rest.is_some_and(<[u8]>::is_empty)
    }

    /// The stored form. `resourceVersion` and `selfLink` are left out.
    pub fn encode(&self, object: &Value) -> Bytes {
        encode(&self.stored, object)
    }

    /// Appends the whole object as of `revision`.
    pub fn splice(&self, stored: &[u8], revision: u64, out: &mut Vec<u8>) {
        self.splice_from(0, stored, revision, out);
    }

    /// Appends the object as it stands in a list: one of a built-in kind has neither `kind` nor `apiVersion` there.
    pub fn splice_item(&self, stored: &[u8], revision: u64, out: &mut Vec<u8>) {
        self.splice_from(self.item, stored, revision, out);
    }

    /// The whole object as of `revision`.
    pub fn show(&self, stored: &[u8], revision: u64) -> Bytes {
        let mut out = Vec::with_capacity(stored.len() + 48);
        self.splice(stored, revision, &mut out);
        Bytes::from(out)
    }

    /// An object that has been prepared, but not written, and so has no revision.
    pub fn show_unwritten(&self, prepared: &Bytes) -> Bytes {
        if self.is_stored() {
            return prepared.clone();
        }
        let object: Value = serde_json::from_slice(prepared).unwrap_or_default();
        encode(&self.whole, &object)
    }

    /// Appends `PartialObjectMetadata` of the object as of `revision`; the rest of it is not even read.
    ///
    /// # Errors
    /// Bytes that are not the stored form of an object.
    pub fn splice_partial(&self, stored: &[u8], revision: u64, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let begins_with_metadata = stored.strip_prefix(&self.stored[..self.stored.len() - 1]);
        let Some(metadata) = begins_with_metadata.and_then(|rest| Scanner::new(rest).value()) else {
            // Written by another hand, or in another version.
            let object = self.decode(stored, revision)?;
            write_partial(&object, out);
            return Ok(());
        };
        out.extend_from_slice(PARTIAL);
        out.extend_from_slice(b"{\"resourceVersion\":\"");
        out.extend_from_slice(itoa(revision, &mut [0; 20]));
        out.push(b'"');
        if metadata != b"{}" {
            out.push(b',');
        }
        out.extend_from_slice(&metadata[1..]);
        out.push(b'}');
        Ok(())
    }

    /// The decoded object as of `revision`.
    ///
    /// # Errors
    /// Bytes that are not the stored form of an object.
    pub fn decode(&self, stored: &[u8], revision: u64) -> Result<Value, serde_json::Error> {
        let mut object = json::parse::<Value>(stored)?;
        if let Some(renewal) = self.renewal.as_ref().filter(|renewal| renewal.concerns(stored, revision, &self.whole)) {
            renewal.apply(&mut object);
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), Value::String(revision.to_string()));
        }
        Ok(object)
    }

    /// The bytes to show, in this head's version.
    fn current<'a>(&self, stored: &'a [u8], revision: u64) -> Cow<'a, [u8]> {
        let Some(renewal) = self.renewal.as_ref().filter(|renewal| renewal.concerns(stored, revision, &self.whole)) else {
            return Cow::Borrowed(stored);
        };
        match serde_json::from_slice::<Value>(stored) {
            Ok(mut object) => {
                renewal.apply(&mut object);
                Cow::Owned(encode(&self.whole, &object).into())
            }
            Err(_) => Cow::Borrowed(stored),
        }
    }

    /// Appends what is behind the first `start` bytes of the head, which is either nothing or kind and version.
    fn splice_from(&self, start: usize, stored: &[u8], revision: u64, out: &mut Vec<u8>) {
        let stored = self.current(stored, revision);
        let Some(tail) = stored.strip_prefix(self.whole.as_slice()) else {
            // Written by another hand: decoded once, shown whole.
            let object = self.decode(&stored, revision).unwrap_or_default();
            out.extend_from_slice(object.to_string().as_bytes());
            return;
        };
        if start > 0 {
            out.push(b'{');
        }
        out.extend_from_slice(&self.whole[start..]);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(itoa(revision, &mut [0; 20]));
        out.push(b'"');
        if tail.first() != Some(&b'}') {
            out.push(b',');
        }
        out.extend_from_slice(tail);
    }
}

impl Renewal {
    /// Whether an object must be renewed: it is older than the schema, or in another version than it is shown in.
    fn concerns(&self, stored: &[u8], revision: u64, head: &[u8]) -> bool {
        revision < self.before || !stored.starts_with(head)
    }

    fn apply(&self, object: &mut Value) {
        (self.renew)(object);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("apiVersion".into(), self.api_version.clone().into());
        }
    }
}

/// A head, and where `"metadata":{` begins in it.
fn bytes(api_version: &str, kind: &str) -> (Vec<u8>, usize) {
    let mut whole = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",").into_bytes();
    let bare = whole.len();
    whole.extend_from_slice(METADATA);
    (whole, bare)
}

fn encode(head: &[u8], object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(ROOM);
    out.extend_from_slice(head);
    let mut first = true;
    for (key, value) in object["metadata"].as_object().into_iter().flatten() {
        if matches!(key.as_str(), "resourceVersion" | "selfLink") || value.is_null() {
            continue;
        }
        field(&mut out, &mut first, key, value);
    }
    out.push(b'}');
    first = false;
    for (key, value) in object.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            field(&mut out, &mut first, key, value);
        }
    }
    out.push(b'}');
    // What is kept is as long as it has to be: allocators leave a block as it is that becomes a little too large.
    Bytes::copy_from_slice(&out)
}

/// Appends `PartialObjectMetadata` of a decoded object.
pub fn write_partial(object: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(PARTIAL);
    let nothing = Value::Object(serde_json::Map::new());
    serde_json::to_writer(&mut *out, object.get("metadata").unwrap_or(&nothing)).expect("writing to memory does not fail");
    out.push(b'}');
}

fn field(out: &mut Vec<u8>, first: &mut bool, key: &str, value: &Value) {
    if !*first {
        out.push(b',');
    }
    *first = false;
    serde_json::to_writer(&mut *out, key).expect("writing to memory does not fail");
    out.push(b':');
    serde_json::to_writer(&mut *out, value).expect("writing to memory does not fail");
}

/// Decimal digits of `number` at the end of `buffer`.
fn itoa(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn round_trip() {
        let head = Head::new("v1", "Pod");
        let object = json!({"apiVersion": "v1", "kind": "Pod", "data": [1], "spec": {"a": "b\n"},
            "metadata": {"name": "x", "resourceVersion": "7", "selfLink": "/x"}});
        let stored = head.encode(&object);
        assert_eq!(stored, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"},"data":[1],"spec":{"a":"b\n"}}"#);
        assert_eq!(
            head.show(&stored, 120),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"120","name":"x"},"data":[1],"spec":{"a":"b\n"}}"#
        );
        let mut item = Vec::new();
        head.splice_item(&stored, 0, &mut item);
        assert_eq!(item, br#"{"metadata":{"resourceVersion":"0","name":"x"},"data":[1],"spec":{"a":"b\n"}}"#);
        let shown = |stored: &[u8]| {
            let mut out = Vec::new();
            head.splice_partial(stored, 5, &mut out).expect("it parses");
            String::from_utf8(out).expect("text")
        };
        let partial =
            |metadata: &str| format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#);
        assert_eq!(shown(&stored), partial(r#"{"resourceVersion":"5","name":"x"}"#));
        assert_eq!(shown(&head.encode(&json!({"metadata": {}}))), partial(r#"{"resourceVersion":"5"}"#));
        assert_eq!(shown(br#"{"metadata":{"name":"y"}}"#), partial(r#"{"name":"y","resourceVersion":"5"}"#));
        assert!(head.splice_partial(br#"{"kind":"Pod","apiVersion":"v1","metadata":{"#, 5, &mut Vec::new()).is_err());
        let mut foreign = Vec::new();
        head.splice_item(br#"{"metadata":{"name":"y"}}"#, 3, &mut foreign);
        assert_eq!(foreign, br#"{"metadata":{"name":"y","resourceVersion":"3"}}"#);
    }

    #[test]
    fn versions() {
        let renew: Renew = Arc::new(|object| {
            object["spec"].as_object_mut().expect("there").entry("replicas").or_insert(1.into());
        });
        let head = |version: &str| Head::custom(version, "g/v1", "K", 10, renew.clone());
        let (v1, v2) = (head("g/v1"), head("g/v2"));
        let object = json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "x"}, "spec": {}});
        let stored = v2.encode(&object);
        assert_eq!(stored, r#"{"kind":"K","apiVersion":"g/v1","metadata":{"name":"x"},"spec":{}}"#);
        for (head, revision, version, spec) in [
            (&v1, 10, "v1", "{}"),
            (&v1, 9, "v1", r#"{"replicas":1}"#),
            (&v2, 10, "v2", r#"{"replicas":1}"#),
            (&v2, 9, "v2", r#"{"replicas":1}"#),
        ] {
            let expected = format!(
                r#"{{"kind":"K","apiVersion":"g/{version}","metadata":{{"resourceVersion":"{revision}","name":"x"}},"spec":{spec}}}"#
            );
            assert_eq!(head.show(&stored, revision), expected);
            // Items of lists have a kind and a version, too.
            let mut item = Vec::new();
            head.splice_item(&stored, revision, &mut item);
            assert_eq!(String::from_utf8(item).expect("text"), expected);
            let decoded = head.decode(&stored, revision).expect("it parses");
            assert_eq!(decoded["apiVersion"], format!("g/{version}"));
        }
        // What was stored under an older storage version is shown in today's.
        let old = head("g/v2").show(br#"{"kind":"K","apiVersion":"g/v0","metadata":{"name":"x"},"spec":{}}"#, 20);
        assert!(old.starts_with(br#"{"kind":"K","apiVersion":"g/v2","#));
        assert_eq!(v2.show_unwritten(&stored), r#"{"kind":"K","apiVersion":"g/v2","metadata":{"name":"x"},"spec":{}}"#);
        let mut partial = Vec::new();
        v2.splice_partial(&stored, 3, &mut partial).expect("it parses");
        assert!(String::from_utf8(partial).expect("text").contains(r#""metadata":{"resourceVersion":"3","name":"x"}"#));
    }
}
