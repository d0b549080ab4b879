//! Reads labels and selectable fields out of stored JSON; everything else is skipped, not decoded.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What selectors ask an object for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extracted {
    /// Labels, by key.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Values of the extractor's paths; empty where missing.
    pub fields: Vec<Box<str>>,
}

/// Paths to be read.
#[derive(Debug, Clone)]
pub struct Extractor {
    root: Node,
    count: usize,
}

#[derive(Debug, Clone, Default)]
struct Node {
    children: BTreeMap<&'static str, Node>,
    field: Option<usize>,
    labels: bool,
}

impl Extractor {
    /// Reads `metadata.labels` and the dotted `paths`.
    pub fn new(paths: &[&'static str]) -> Self {
        let mut root = Node::default();
        root.children.entry("metadata").or_default().children.entry("labels").or_default().labels = true;
        for (index, path) in paths.iter().enumerate() {
            let mut node = &mut root;
            for part in path.split('.') {
                node = node.children.entry(part).or_default();
            }
            node.field = Some(index);
        }
        Self { root, count: paths.len() }
    }

    /// Reads a stored object. What cannot be read is empty.
    pub fn extract(&self, stored: &[u8]) -> Extracted {
        let mut found = Extracted { labels: Vec::new(), fields: vec![Box::from(""); self.count] };
        let mut reader = serde_json::Deserializer::from_slice(stored);
        if let Err(error) = (At { node: &self.root, found: &mut found }).deserialize(&mut reader) {
            tracing::warn!(%error, "a stored object does not parse");
        }
        found.labels.sort();
        found
    }
}

struct At<'a> {
    node: &'a Node,
    found: &'a mut Extracted,
}

impl At<'_> {
    fn scalar(self, text: &str) {
        if let Some(index) = self.node.field {
            self.found.fields[index] = text.into();
        }
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(text);
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.scalar(if value { "true" } else { "false" });
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.scalar(&value.to_string());
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.scalar(&value.to_string());
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.scalar(&value.to_string());
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.node.labels {
            while let Some((key, value)) = map.next_entry::<Box<str>, Option<Box<str>>>()? {
                self.found.labels.push((key, value.unwrap_or_default()));
            }
            return Ok(());
        }
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.node.children.get(key.as_ref()) {
                Some(node) => map.next_value_seed(At { node, found: &mut *self.found })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extracting() {
        let extractor = Extractor::new(&["spec.nodeName", "status.phase", "spec.hostNetwork"]);
        let found = extractor.extract(
            br#"{"kind":"Pod","metadata":{"name":"a","labels":{"b":"c","a":"\u0041"},"annotations":{"x":"y"}},
            "spec":{"containers":[{"a":[1]}],"nodeName":"n","hostNetwork":true},"status":null}"#,
        );
        let labels: Vec<(&str, &str)> = found.labels.iter().map(|(key, value)| (key.as_ref(), value.as_ref())).collect();
        assert_eq!(labels, [("a", "A"), ("b", "c")]);
        let fields: Vec<&str> = found.fields.iter().map(AsRef::as_ref).collect();
        assert_eq!(fields, ["n", "", "true"]);
    }
}
