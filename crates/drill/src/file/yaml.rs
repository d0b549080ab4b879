//! YAML as a tree in which everything knows its line and column, and the substitution of parameters.

use std::collections::BTreeMap;
use std::fmt;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

/// Values of one file; aliases count as often as they are used, so that a small file cannot become a huge tree.
const MOST_NODES: usize = 1_000_000;
/// Levels of nesting.
const MOST_DEPTH: usize = 100;

/// A place in a file. Both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub at: Position,
    pub data: Data,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    /// `plain` scalars may be numbers and the like; quoted ones are text.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub at: Position,
    pub text: String,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: Option<Position>,
    pub message: String,
}

impl Fault {
    pub(super) fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at: Some(at), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// Reads all documents; empty ones are left out.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Fault> {
    let mut loader = Loader { events: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0 };
    let mut documents = Vec::new();
    while let Some((event, span)) = loader.next()? {
        if matches!(event, Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing)
        {
            continue;
        }
        let document = loader.node(event, span, 0)?;
        if !document.is_null() {
            documents.push(document);
        }
    }
    Ok(documents)
}

struct Loader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Fault> {
        self.events.next().transpose().map_err(|error| Fault::new((*error.marker()).into(), error.info()))
    }

    fn inside(&mut self, at: Position) -> Result<(Event<'a>, Span), Fault> {
        self.next()?.ok_or_else(|| Fault::new(at, "the file ends in the middle of this"))
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Fault> {
        let at = Position::from(span.start);
        self.count(at, 1)?;
        if depth > MOST_DEPTH {
            return Err(Fault::new(at, format!("more than {MOST_DEPTH} levels of nesting")));
        }
        let (anchor, data) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (anchor, Data::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain })
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.inside(at)?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                }
                (anchor, Data::List(items))
            }
            Event::MappingStart(anchor, _) => (anchor, Data::Map(self.entries(at, depth)?)),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Fault::new(at, "this alias has no anchor before it"));
                };
                self.count(at, node.size())?;
                return Ok(node);
            }
            _ => return Err(Fault::new(at, "a value is expected here")),
        };
        let node = Node { at, data };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entries(&mut self, at: Position, depth: usize) -> Result<Vec<(Key, Node)>, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.inside(at)?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let Event::Scalar(text, ..) = event else {
                return Err(Fault::new(span.start.into(), "keys are plain text here"));
            };
            let key = Key { at: span.start.into(), text: text.into_owned() };
            if entries.iter().any(|(other, _)| other.text == key.text) {
                return Err(Fault::new(key.at, format!("{:?} is said twice", key.text)));
            }
            let (event, span) = self.inside(at)?;
            let mut value = self.node(event, span, depth + 1)?;
            if value.is_null() {
                // An empty value has no place of its own: its key has.
                value.at = key.at;
            }
            entries.push((key, value));
        }
    }

    fn count(&mut self, at: Position, more: usize) -> Result<(), Fault> {
        self.nodes += more;
        if self.nodes > MOST_NODES { Err(Fault::new(at, "the file is too large")) } else { Ok(()) }
    }
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    fn size(&self) -> usize {
        match &self.data {
            Data::Scalar { .. } => 1,
            Data::List(items) => items.iter().map(Self::size).sum::<usize>() + 1,
            Data::Map(entries) => entries.iter().map(|(_, value)| value.size()).sum::<usize>() + 1,
        }
    }

    /// The value under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|(one, _)| one.text == key).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.data {
            Data::Map(entries) => entries.iter_mut().find(|(one, _)| one.text == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Where `path` (`spec.steps[2].target`) is, or as much of it as there is. A map's entry is where its key is. Keys may have dots
    /// in them: the longest that fits is meant.
    pub(super) fn position(&self, path: &str) -> Position {
        let (mut at, mut node, mut rest) = (self.at, self, path);
        loop {
            let next = match &node.data {
                Data::Scalar { .. } => None,
                Data::List(items) => rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).and_then(|(index, rest)| {
                    let item = items.get(index.parse::<usize>().ok()?)?;
                    Some((item.at, item, rest))
                }),
                Data::Map(entries) => {
                    let fits = entries.iter().filter_map(|(key, value)| {
                        let rest = rest.strip_prefix(key.text.as_str())?;
                        (rest.is_empty() || rest.starts_with(['.', '['])).then_some((key.at, value, rest))
                    });
                    fits.min_by_key(|(_, _, rest)| rest.len())
                }
            };
            let Some((place, inner, left)) = next else { return at };
            (at, node, rest) = (place, inner, left.strip_prefix('.').unwrap_or(left));
        }
    }

    /// Path of the innermost thing that begins at `at`; empty where there is none.
    pub(super) fn path_of(&self, at: Position) -> String {
        self.search(at, "").unwrap_or_default()
    }

    fn search(&self, at: Position, path: &str) -> Option<String> {
        match &self.data {
            Data::Scalar { .. } => {}
            Data::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(found) = item.search(at, &format!("{path}[{index}]")) {
                        return Some(found);
                    }
                }
            }
            Data::Map(entries) => {
                for (key, value) in entries {
                    let path = if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
                    if key.at == at {
                        return Some(path);
                    }
                    if let Some(found) = value.search(at, &path) {
                        return Some(found);
                    }
                }
            }
        }
        (self.at == at).then(|| path.to_owned())
    }

    /// Puts the values of parameters in the place of `${name}`; `$${` stands for `${`.
    pub(super) fn substitute(&mut self, values: &BTreeMap<String, String>) -> Result<(), Fault> {
        let at = self.at;
        match &mut self.data {
            Data::Scalar { text, .. } => {
                if text.contains("${") {
                    *text = substituted(text, values).map_err(|message| Fault::new(at, message))?;
                }
            }
            Data::List(items) => items.iter_mut().try_for_each(|item| item.substitute(values))?,
            Data::Map(entries) => entries.iter_mut().try_for_each(|(_, value)| value.substitute(values))?,
        }
        Ok(())
    }

    /// Moves all of it to one place: what was read from another file is where this file names it.
    pub(super) fn place(&mut self, at: Position) {
        self.at = at;
        match &mut self.data {
            Data::Scalar { .. } => {}
            Data::List(items) => items.iter_mut().for_each(|item| item.place(at)),
            Data::Map(entries) => {
                for (key, value) in entries {
                    key.at = at;
                    value.place(at);
                }
            }
        }
    }
}

fn substituted(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            output.push_str(before);
            output.push_str("${");
            rest = after;
            continue;
        }
        output.push_str(before);
        let Some(end) = after.find('}') else {
            return Err(format!("${{ without }} in {text:?}; write $${{ for the text itself"));
        };
        let name = &after[..end];
        let Some(value) = values.get(name) else {
            let known: Vec<&str> = values.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none is declared".to_owned() } else { format!("there are {}", known.join(", ")) };
            return Err(format!("unknown parameter {name:?}; {known} (spec.parameters); write $${{ for the text itself"));
        };
        output.push_str(value);
        rest = &after[end + 1..];
    }
    output.push_str(rest);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        documents(text).unwrap().remove(0)
    }

    #[test]
    fn places_and_paths() {
        let node = one("spec:\n  steps:\n  - fault: reset\n    target: {machine: w}\n  - sleep: 5s\n");
        for (path, line, column) in [
            ("spec", 1, 1),
            ("spec.steps[0]", 3, 5),
            ("spec.steps[0].target.machine", 4, 14),
            ("spec.steps[1].sleep", 5, 5),
            ("spec.steps[1].sleep.nothing", 5, 5),
            ("spec.steps[7]", 2, 3),
            ("", 1, 1),
        ] {
            assert_eq!(node.position(path), Position { line, column }, "{path}");
        }
        let dotted = one("set:\n  a: 1\n  a.b: {c: 2}\n  a.bc: 3\n");
        for (path, line, column) in
            [("set.a", 2, 3), ("set.a.b", 3, 3), ("set.a.b.c", 3, 9), ("set.a.bc", 4, 3), ("set.a.d", 2, 3)]
        {
            assert_eq!(dotted.position(path), Position { line, column }, "{path}");
        }
        assert_eq!(node.path_of(Position { line: 4, column: 14 }), "spec.steps[0].target.machine");
        assert_eq!(node.path_of(Position { line: 4, column: 23 }), "spec.steps[0].target.machine");
    }

    #[test]
    fn substitution() {
        let values: BTreeMap<String, String> = [("n".to_owned(), "4".to_owned())].into();
        for (text, expected) in [
            ("${n}", Ok("4")),
            ("a${n}b${n}", Ok("a4b4")),
            ("$${n}", Ok("${n}")),
            ("${m}", Err("unknown parameter")),
            ("${n", Err("without")),
        ] {
            let found = substituted(text, &values);
            match expected {
                Ok(expected) => assert_eq!(found.as_deref(), Ok(expected), "{text}"),
                Err(expected) => assert!(found.as_ref().is_err_and(|error| error.contains(expected)), "{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, expected, line, column) in [
            ("a: 1\nb: 2\na: 3\n", "said twice", 3, 1),
            ("a: [1, 2\n", "", 2, 1),
            ("a: *x\n", "", 1, 4),
            ("? [1]\n: 2\n", "plain text", 1, 3),
        ] {
            let fault = documents(text).unwrap_err();
            assert!(fault.message.contains(expected), "{text:?}: {fault}");
            assert_eq!(fault.at, Some(Position { line, column }), "{text:?}: {fault}");
        }
    }
}
