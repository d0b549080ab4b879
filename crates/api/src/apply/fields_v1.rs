//! The written form of sets, `fieldsV1`: `{"f:spec": {"f:replicas": {}, "f:template": {".": {}, …}}}`.
//!
//! Source: structured-merge-diff fieldpath/serialize.go.

use serde_json::{Map, Value};

use super::element::PathElement;
use super::set::Set;

/// Why a text is not `fieldsV1`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// A name of less than two characters.
    #[error("key must be 2 characters long: {0}")]
    TooShort(String),
    /// A name whose type does not end.
    #[error("missing colon: {0}")]
    NoColon(String),
    /// A value, key or index that does not parse.
    #[error("parsing key as path element: {0}")]
    BadValue(String),
    /// Something other than an object.
    #[error("expected an object of fields")]
    NoObject,
}

impl Set {
    /// The set as `fieldsV1`.
    pub fn encode(&self) -> Value {
        let mut out = Map::new();
        for element in &self.members {
            if self.children.get(element).is_none_or(Set::is_empty) {
                out.insert(element.encode(), Value::Object(Map::new()));
            }
        }
        for (element, child) in self.children.iter().filter(|(_, child)| !child.is_empty()) {
            let mut below = child.encode();
            if let Some(below) = below.as_object_mut().filter(|_| self.members.contains(element)) {
                below.insert(".".into(), Value::Object(Map::new()));
            }
            out.insert(element.encode(), below);
        }
        Value::Object(out)
    }

    /// Reads `fieldsV1`. What a newer version may mean by an unknown type of element is skipped.
    ///
    /// # Errors
    /// What does not parse.
    pub fn decode(fields: &Value) -> Result<Self, FieldsError> {
        match fields {
            Value::Null => Ok(Self::default()),
            Value::Object(fields) => Ok(read(fields)?.0),
            _ => Err(FieldsError::NoObject),
        }
    }
}

/// What is below a place, and whether the place itself belongs to the set: it does with a dot, and with nothing below.
fn read(fields: &Map<String, Value>) -> Result<(Set, bool), FieldsError> {
    let (mut set, mut is_member) = (Set::default(), false);
    for (name, below) in fields {
        if name == "." {
            is_member = true;
            continue;
        }
        let Some(element) = PathElement::decode(name)? else { continue };
        let (child, child_is_member) = match below {
            Value::Object(below) => read(below)?,
            Value::Null => (Set::default(), true),
            _ => return Err(FieldsError::NoObject),
        };
        if child_is_member {
            set.members.insert(element.clone());
        }
        if !child.is_empty() {
            set.children.insert(element, child);
        }
    }
    let is_member = is_member || set.is_empty();
    Ok((set, is_member))
}
