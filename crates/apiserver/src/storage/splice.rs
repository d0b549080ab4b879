//! The stored form of an object: JSON that begins with a fixed head and carries no resourceVersion.
//! The revision is spliced in behind the head when the object is shown, so that the store's bytes
//! serve lists and watches without being decoded.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

/// The first bytes of every stored object of one kind: `{"kind":K,"apiVersion":V,"metadata":{`.
#[derive(Debug, Clone)]
pub struct Head {
    whole: Vec<u8>,
    /// Where `"metadata":{` begins.
    bare: usize,
}

/// Room for nearly every object while it is encoded.
const ROOM: usize = 8 << 10;

const PARTIAL: &[u8] = b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":";
const METADATA: &[u8] = b"\"metadata\":{";

impl Head {
    /// The head of `kind` in `api_version`.
    pub fn new(api_version: &str, kind: &str) -> Self {
        let mut whole = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",").into_bytes();
        let bare = whole.len();
        whole.extend_from_slice(METADATA);
        Self { whole, bare }
    }

    /// The stored form. `resourceVersion` and `selfLink` are left out.
    pub fn encode(&self, object: &Value) -> Bytes {
        let mut out = Vec::with_capacity(ROOM);
        out.extend_from_slice(&self.whole);
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

    /// Appends the whole object as of `revision`.
    pub fn splice(&self, stored: &[u8], revision: u64, out: &mut Vec<u8>) {
        self.splice_from(0, stored, revision, out);
    }

    /// Appends the object without `kind` and `apiVersion`, as it stands in a list.
    pub fn splice_item(&self, stored: &[u8], revision: u64, out: &mut Vec<u8>) {
        out.push(b'{');
        self.splice_from(self.bare, stored, revision, out);
    }

    /// The whole object as of `revision`.
    pub fn show(&self, stored: &[u8], revision: u64) -> Bytes {
        let mut out = Vec::with_capacity(stored.len() + 48);
        self.splice(stored, revision, &mut out);
        Bytes::from(out)
    }

    /// Appends `PartialObjectMetadata` of the object as of `revision`; the rest of it is not even read.
    ///
    /// # Errors
    /// Bytes that are not the stored form of an object.
    pub fn splice_partial(&self, stored: &[u8], revision: u64, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let metadata = match stored.strip_prefix(&self.whole[..self.whole.len() - 1]) {
            Some(begins_with_metadata) => {
                let mut values = serde_json::Deserializer::from_slice(begins_with_metadata).into_iter::<&RawValue>();
                values.next().transpose()?.map_or("{}", RawValue::get)
            }
            // Written by another hand.
            None => {
                let object = self.decode(stored, revision)?;
                write_partial(&object, out);
                return Ok(());
            }
        };
        out.extend_from_slice(PARTIAL);
        out.extend_from_slice(b"{\"resourceVersion\":\"");
        out.extend_from_slice(itoa(revision, &mut [0; 20]));
        out.push(b'"');
        if metadata != "{}" {
            out.push(b',');
        }
        out.extend_from_slice(&metadata.as_bytes()[1..]);
        out.push(b'}');
        Ok(())
    }

    /// The decoded object as of `revision`.
    ///
    /// # Errors
    /// Bytes that are not the stored form of an object.
    pub fn decode(&self, stored: &[u8], revision: u64) -> Result<Value, serde_json::Error> {
        let mut object: Value = serde_json::from_slice(stored)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), Value::String(revision.to_string()));
        }
        Ok(object)
    }

    fn splice_from(&self, start: usize, stored: &[u8], revision: u64, out: &mut Vec<u8>) {
        if !stored.starts_with(&self.whole) {
            // Written by another hand: decoded once, shown whole.
            out.truncate(out.len().saturating_sub(usize::from(start > 0)));
            let object = self.decode(stored, revision).unwrap_or_default();
            out.extend_from_slice(object.to_string().as_bytes());
            return;
        }
        out.extend_from_slice(&self.whole[start..]);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(itoa(revision, &mut [0; 20]));
        out.push(b'"');
        let tail = &stored[self.whole.len()..];
        if tail.first() != Some(&b'}') {
            out.push(b',');
        }
        out.extend_from_slice(tail);
    }
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
}
