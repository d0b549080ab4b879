//! Reading a JSON body once: the document and the members that appear twice in it.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A document and its repeated members, each as the real server words it: `duplicate field "spec.replicas"`.
/// The last of several equal members counts.
///
/// # Errors
/// What is not JSON.
pub fn parse(body: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = read(&mut deserializer)?;
    deserializer.end()?;
    Ok(read)
}

/// The same from any format.
///
/// # Errors
/// What the format does not allow.
pub fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<(Value, Vec<String>), D::Error> {
    let mut duplicates = Vec::new();
    let value = Reader { trail: &Trail::Start, duplicates: &mut duplicates }.deserialize(deserializer)?;
    Ok((value, duplicates))
}

/// The repeated members of a document; none where it is not JSON.
pub fn duplicate_fields(body: &[u8]) -> Vec<String> {
    parse(body).map(|(_, duplicates)| duplicates).unwrap_or_default()
}

/// Where the walk is.
pub(super) enum Trail<'a> {
    /// At the document itself.
    Start,
    /// In a member.
    Member(&'a Trail<'a>, &'a str),
    /// In an element.
    Item(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    /// The path without indices, as Go's decoder has it.
    pub(super) fn members(&self) -> String {
        match self {
            Trail::Start => String::new(),
            Trail::Item(parent, _) => parent.members(),
            Trail::Member(parent, name) => match parent.members() {
                path if path.is_empty() => (*name).to_owned(),
                path => format!("{path}.{name}"),
            },
        }
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trail::Start => Ok(()),
            Trail::Member(Trail::Start, name) => f.write_str(name),
            Trail::Member(parent, name) => write!(f, "{parent}.{name}"),
            Trail::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Reader<'a> {
    trail: &'a Trail<'a>,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let trail = Trail::Item(self.trail, list.len());
            match items.next_element_seed(Reader { trail: &trail, duplicates: self.duplicates })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let trail = Trail::Member(self.trail, &key);
            let value = members.next_value_seed(Reader { trail: &trail, duplicates: self.duplicates })?;
            if object.contains_key(&key) {
                let text = format!("duplicate field \"{trail}\"");
                if !self.duplicates.contains(&text) {
                    self.duplicates.push(text);
                }
            }
            if object.len() > 1_000_000 {
                return Err(A::Error::custom("too many members"));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicates() {
        let body = br#"{"a":1,"b":{"c":1,"c":2},"a":{"d":3},"e":[{"f":1,"f":1},{"f":1}]}"#;
        let (value, duplicates) = parse(body).expect("JSON");
        assert_eq!(value, json!({"a": {"d": 3}, "b": {"c": 2}, "e": [{"f": 1}, {"f": 1}]}));
        assert_eq!(duplicates, ["duplicate field \"b.c\"", "duplicate field \"a\"", "duplicate field \"e[0].f\""]);
        assert!(parse(b"{").is_err());
        assert!(parse(b"{} x").is_err());
        assert!(duplicate_fields(br#"{"a":[1,-2,1.5,true,null,"x"]}"#).is_empty());
    }
}
