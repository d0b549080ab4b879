//! Objects as typed Go clients send them: protobuf, decoded into the JSON document that is stored.
//!
//! The form is that of apimachinery pkg/runtime/serializer/protobuf/protobuf.go: four bytes of prefix, a
//! `runtime.Unknown` that names the kind, and in it the object. What its numbers mean says one table
//! (`data/protobuf.txt`). Objects are only read: answers are JSON.

mod message;
mod table;
mod wire;

use serde_json::{Map, Value};

use wire::{Payload, Reader};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const PREFIX: &[u8] = b"k8s\0";

/// Why a text is no object.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nothing was sent.
    #[error("empty data")]
    Empty,
    /// Another form, or none.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// The prefix alone.
    #[error("empty body")]
    NoBody,
    /// The message that names the kind is broken.
    #[error(transparent)]
    Envelope(#[from] Malformed),
    /// No kind is named.
    #[error("Object 'Kind' is missing")]
    MissingKind,
    /// No group version is named.
    #[error("Object 'apiVersion' is missing")]
    MissingVersion,
    /// A kind that is not served.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// As sent.
        api_version: String,
        /// As sent.
        kind: String,
    },
    /// The object is broken.
    #[error("{kind} in version {version:?} cannot be handled as a {kind}: {source}")]
    Object {
        /// Its kind.
        kind: String,
        /// Its version, without the group.
        version: String,
        /// What is wrong.
        source: Malformed,
    },
}

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It ends inside a field.
    #[error("unexpected EOF")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A field number that cannot be.
    #[error("proto: illegal tag {0}")]
    Tag(u64),
    /// A wire type that there is not.
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    /// The end of a group that did not begin.
    #[error("proto: unexpected end of group")]
    EndGroup,
    /// A field in a form other than its type's.
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    FieldType {
        /// Name in JSON.
        field: String,
        /// As sent.
        wire_type: u8,
    },
    /// Neither a number nor a string.
    #[error("{field}: impossible IntOrString.Type {kind}")]
    IntOrString {
        /// Name in JSON.
        field: &'static str,
        /// As sent.
        kind: u64,
    },
    /// Before or after all that RFC 3339 can say.
    #[error("{field}: {source}")]
    Time {
        /// Name in JSON.
        field: &'static str,
        /// What is out of range.
        source: jiff::Error,
    },
    /// Embedded JSON that does not parse.
    #[error("{field}: {source}")]
    Json {
        /// Name in JSON.
        field: &'static str,
        /// Where it breaks off.
        source: serde_json::Error,
    },
}

/// Decodes an object of a served kind; `apiVersion` and `kind` are those that it names.
///
/// # Errors
/// [`DecodeError`]
pub fn decode(content: &[u8]) -> Result<Value, DecodeError> {
    if content.is_empty() {
        return Err(DecodeError::Empty);
    }
    let body = content.strip_prefix(PREFIX).ok_or(DecodeError::Prefix)?;
    if body.is_empty() {
        return Err(DecodeError::NoBody);
    }
    let Envelope { api_version, kind, raw } = Envelope::read(body)?;
    if kind.is_empty() {
        return Err(DecodeError::MissingKind);
    }
    if api_version.is_empty() {
        return Err(DecodeError::MissingVersion);
    }
    let Some(index) = table::TABLE.kind(&api_version, &kind) else {
        return Err(DecodeError::UnknownKind { api_version, kind });
    };
    let mut members = Map::new();
    if let Err(source) = message::decode(&table::TABLE, index, raw, &mut members) {
        let version = api_version.rsplit('/').next().unwrap_or_default().to_owned();
        return Err(DecodeError::Object { kind, version, source });
    }
    members.insert("apiVersion".into(), api_version.into());
    members.insert("kind".into(), kind.into());
    Ok(Value::Object(members))
}

/// `runtime.Unknown`: `typeMeta` 1 (of `apiVersion` 1 and `kind` 2), `raw` 2. Encoding (3) and type (4) of the content are
/// not looked at, as in the original (apimachinery pkg/runtime/types.go).
#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut envelope = Self::default();
        let mut reader = Reader::new(body);
        while let Some((number, payload)) = reader.next()? {
            match (number, payload) {
                (1, Payload::Bytes(type_meta)) => {
                    let mut reader = Reader::new(type_meta);
                    while let Some((number, payload)) = reader.next()? {
                        match (number, payload) {
                            (1, Payload::Bytes(value)) => envelope.api_version = message::text(value),
                            (2, Payload::Bytes(value)) => envelope.kind = message::text(value),
                            _ => {}
                        }
                    }
                }
                (2, Payload::Bytes(raw)) => envelope.raw = raw,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests;
