//! Path elements and paths, as messages show them and as `fieldsV1` writes them.
//!
//! Source: structured-merge-diff fieldpath/element.go and serialize-pe.go.

use std::fmt;

use serde_json::{Map, Value};

use super::fields_v1::FieldsError;
use super::literal::Literal;

/// One step into an object. The order is that of the original: fields, keys, values, indices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A member of a struct or map.
    Field(Box<str>),
    /// An element of a list of type `map`: its keys, sorted by name.
    Key(Box<[(Box<str>, Literal)]>),
    /// An element of a list of type `set`.
    Value(Literal),
    /// A place in a list.
    Index(i64),
}

impl PathElement {
    /// A member.
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// The element as a member name of `fieldsV1`.
    pub(super) fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => {
                let keys: Map<String, Value> = keys.iter().map(|(name, value)| (name.to_string(), value.0.clone())).collect();
                format!("k:{}", Value::Object(keys))
            }
            Self::Value(value) => format!("v:{}", value.0),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads a member name of `fieldsV1`; `None` for a type of element that is not known, which is skipped.
    ///
    /// # Errors
    /// A name without a type, and a value that does not parse.
    pub(super) fn decode(text: &str) -> Result<Option<Self>, FieldsError> {
        let mut characters = text.chars();
        let (Some(kind), Some(colon)) = (characters.next(), characters.next()) else {
            return Err(FieldsError::TooShort(text.to_owned()));
        };
        if colon != ':' {
            return Err(FieldsError::NoColon(text.to_owned()));
        }
        let rest = characters.as_str();
        let parsed = |text: &str| serde_json::from_str::<Value>(text).map_err(|_| FieldsError::BadValue(text.to_owned()));
        Ok(Some(match kind {
            'f' => Self::field(rest),
            'v' => Self::Value(Literal(parsed(rest)?)),
            'i' => Self::Index(rest.parse().map_err(|_| FieldsError::BadValue(rest.to_owned()))?),
            'k' => match parsed(rest)? {
                Value::Object(keys) => Self::Key(keys.into_iter().map(|(name, value)| (name.into(), Literal(value))).collect()),
                _ => return Err(FieldsError::BadValue(rest.to_owned())),
            },
            _ => return Ok(None),
        }))
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The way from an object's root to one of its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<PathElement>);

impl Path {
    /// A path of members.
    pub fn fields(names: &[&str]) -> Self {
        Self(names.iter().map(|name| PathElement::field(name)).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}
