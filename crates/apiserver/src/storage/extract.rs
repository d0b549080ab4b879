//! Reads labels and selectable fields out of stored JSON; everything else is skipped, not decoded.

use daruma_api::json::{Scanner, unescaped};
use serde_json::Value;

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
    children: Vec<(&'static str, Node)>,
    field: Option<usize>,
    labels: bool,
}

impl Node {
    fn child(&mut self, name: &'static str) -> &mut Self {
        let at = self.children.iter().position(|(one, _)| *one == name).unwrap_or_else(|| {
            self.children.push((name, Self::default()));
            self.children.len() - 1
        });
        &mut self.children[at].1
    }
}

/// Where reading has ended.
enum End {
    /// Behind the value.
    Behind,
    /// In the middle of an object of which nothing more is wanted.
    Inside,
}

impl Extractor {
    /// Reads `metadata.labels` and the dotted `paths`.
    pub fn new(paths: &[&'static str]) -> Self {
        let mut root = Node::default();
        root.child("metadata").child("labels").labels = true;
        for (index, path) in paths.iter().enumerate() {
            path.split('.').fold(&mut root, Node::child).field = Some(index);
        }
        Self { root, count: paths.len() }
    }

    /// Reads a stored object, no further than there is something to be found. What cannot be read is empty.
    pub fn extract(&self, stored: &[u8]) -> Extracted {
        let mut found = Extracted { labels: Vec::new(), fields: vec![Box::from(""); self.count] };
        if found.read(&self.root, &mut Scanner::new(stored)).is_none() {
            tracing::warn!("a stored object does not parse");
        }
        found.labels.sort();
        found
    }
}

impl Extracted {
    fn read(&mut self, node: &Node, scanner: &mut Scanner<'_>) -> Option<End> {
        if let Some(field) = node.field {
            self.fields[field] = scalar(scanner.clone().value()?)?;
        }
        if (node.children.is_empty() && !node.labels) || scanner.enter().is_none() {
            scanner.value()?;
            return Some(End::Behind);
        }
        let mut wanted = node.children.len();
        while let Some(name) = scanner.member()? {
            if node.labels {
                let value = scalar(scanner.value()?)?;
                self.labels.push((unescaped(name)?.into(), value));
                continue;
            }
            let Some((_, child)) = node.children.iter().find(|(one, _)| one.as_bytes() == name) else {
                scanner.value()?;
                continue;
            };
            let end = self.read(child, scanner)?;
            wanted -= 1;
            if wanted == 0 {
                return Some(End::Inside);
            }
            if let End::Inside = end {
                scanner.leave()?;
            }
        }
        Some(End::Behind)
    }
}

/// A text, a number, `true` or `false` as selectors compare it; empty for all else.
fn scalar(written: &[u8]) -> Option<Box<str>> {
    match written.first()? {
        b'"' => Some(unescaped(&written[1..written.len() - 1])?.into()),
        b'{' | b'[' | b'n' => Some(Box::default()),
        _ => match serde_json::from_slice(written).ok()? {
            Value::Number(number) if number.is_f64() => Some(number.as_f64()?.to_string().into()),
            other => Some(other.to_string().into()),
        },
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
