//! What the numbers of protobuf fields mean: `data/protobuf.txt`, parsed once.
//!
//! Invariant: no message contains itself, however deep, so decoding needs no limit of its own; a test walks the table.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// All messages that clients may send.
pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(include_str!("../../data/protobuf.txt")));

/// Messages, and which of them are kinds.
#[derive(Debug)]
pub(super) struct Table {
    messages: Vec<Message>,
    kinds: BTreeMap<(&'static str, &'static str), usize>,
}

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    /// Name of the Go type.
    #[cfg(test)]
    pub name: &'static str,
    /// Whether JSON shows the only field, a list, in place of the message.
    pub is_list: bool,
    /// Sorted by number.
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    /// Number on the wire.
    pub number: u32,
    /// Name in JSON; empty where the members of the inner message are the outer one's own.
    pub name: &'static str,
    /// How many values, and whether a zero is told from nothing.
    pub shape: Shape,
    /// What a value is.
    pub holds: Holds,
    /// Whether JSON shows a zero value (the Go field has no `omitempty`).
    pub shows_zero: bool,
}

/// How a field holds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One, always on the wire, zero or not.
    Plain,
    /// One or none.
    Pointer,
    /// A list.
    List,
    /// By text keys.
    Map,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Text,
    Bool,
    Int32,
    Int64,
    /// Base64 in JSON.
    Bytes,
    /// A message around a text.
    Quantity,
    /// A message of both and which of them counts.
    IntOrString,
    /// Seconds since the epoch; RFC 3339 in JSON.
    Time,
    /// The same with microseconds.
    MicroTime,
    /// A message around a JSON text (`RawExtension`, `FieldsV1`).
    Json,
    /// A message of the table.
    Message(usize),
}

impl Message {
    /// The field of a number.
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.binary_search_by_key(&number, |field| field.number).ok().map(|index| &self.fields[index])
    }
}

impl Table {
    /// A message by index.
    pub(super) fn message(&self, index: usize) -> &Message {
        &self.messages[index]
    }

    /// The message of a kind. Options are kinds of every group version.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<usize> {
        self.kinds.get(&(api_version, kind)).or_else(|| self.kinds.get(&("*", kind))).copied()
    }

    /// All kinds: `apiVersion`, `kind`, message.
    #[cfg(test)]
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&'static str, &'static str, usize)> {
        self.kinds.iter().map(|((api_version, kind), index)| (*api_version, *kind, *index))
    }

    /// Panics where the text is not in its form or names what it does not hold: it is part of the program.
    fn parse(text: &'static str) -> Self {
        let lines = || {
            let mut section = ("", "");
            text.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| match line.strip_prefix('@') {
                Some(header) => {
                    section = header.split_once(' ').expect("a section has a name and a group version");
                    None
                }
                None => Some((section, line.split_once(' ').unwrap_or((line, "")))),
            })
        };
        let mut indices = BTreeMap::new();
        let mut kinds = BTreeMap::new();
        for (index, ((package, api_version), (title, _))) in lines().enumerate() {
            let name = title.trim_start_matches('+').trim_end_matches("[]");
            indices.insert((package, name), index);
            if title.starts_with('+') {
                kinds.insert((api_version, name), index);
            }
        }
        let messages = lines().map(|((package, _), (title, fields))| Message {
            #[cfg(test)]
            name: title.trim_start_matches('+').trim_end_matches("[]"),
            is_list: title.ends_with("[]"),
            fields: fields.split_ascii_whitespace().map(|field| Field::parse(field, package, &indices)).collect(),
        });
        Self { messages: messages.collect(), kinds }
    }
}

impl Field {
    fn parse(text: &'static str, package: &str, indices: &BTreeMap<(&str, &str), usize>) -> Self {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().expect("a field has a number, a name and a type");
        let (number, name, holds) = (part(), part(), part());
        let (holds, shows_zero) = holds.strip_suffix('!').map_or((holds, false), |holds| (holds, true));
        let (shape, holds) = [("*", Shape::Pointer), ("[]", Shape::List), ("{}", Shape::Map)]
            .into_iter()
            .find_map(|(prefix, shape)| Some((shape, holds.strip_prefix(prefix)?)))
            .unwrap_or((Shape::Plain, holds));
        let holds = match holds {
            "string" => Holds::Text,
            "bool" => Holds::Bool,
            "int32" => Holds::Int32,
            "int64" => Holds::Int64,
            "bytes" => Holds::Bytes,
            "Quantity" => Holds::Quantity,
            "IntOrString" => Holds::IntOrString,
            "Time" => Holds::Time,
            "MicroTime" => Holds::MicroTime,
            "Json" => Holds::Json,
            message => {
                let key = message.split_once('.').unwrap_or((package, message));
                Holds::Message(*indices.get(&key).unwrap_or_else(|| panic!("no message {key:?} in the protobuf table")))
            }
        };
        Self { number: number.parse().expect("a field's number is a number"), name, shape, holds, shows_zero }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{self, Arena, Node};

    #[test]
    fn every_message_is_well_formed_and_ends() {
        fn walk(index: usize, path: &mut Vec<usize>, seen: &mut [bool]) {
            let message = TABLE.message(index);
            assert!(!path.contains(&index), "{} contains itself", message.name);
            if std::mem::replace(&mut seen[index], true) {
                return;
            }
            path.push(index);
            assert!(message.fields.is_sorted_by(|one, other| one.number < other.number), "{}", message.name);
            assert!(!message.is_list || message.fields.len() == 1, "{}", message.name);
            for field in &message.fields {
                let inlined = matches!((field.shape, field.holds), (Shape::Plain, Holds::Message(_)));
                assert!(!field.name.is_empty() || inlined, "{} {}", message.name, field.number);
                if let Holds::Message(inner) = field.holds {
                    walk(inner, path, seen);
                }
            }
            path.pop();
        }
        let mut seen = vec![false; TABLE.messages.len()];
        for (_, _, index) in TABLE.kinds() {
            walk(index, &mut Vec::new(), &mut seen);
        }
        let idle: Vec<_> = TABLE.messages.iter().zip(seen).filter(|(_, seen)| !seen).map(|(message, _)| message.name).collect();
        assert!(idle.is_empty(), "no kind needs {idle:?}");
    }

    #[test]
    fn every_kind_is_there() {
        let stored = crate::ALL.iter().map(|kind| kind.names());
        for names in stored.chain(crate::VIRTUAL) {
            let api_version = daruma_api::gvk::api_version(names.group, names.version);
            // A schema holds schemas, which the table does not allow; typed Go clients of definitions speak JSON.
            if names.kind == "CustomResourceDefinition" {
                assert!(TABLE.kind(&api_version, names.kind).is_none());
                continue;
            }
            assert!(TABLE.kind(&api_version, names.kind).is_some(), "{api_version} {}", names.kind);
        }
        for (api_version, kind) in [
            ("policy/v1", "Eviction"),
            ("autoscaling/v1", "Scale"),
            ("authentication.k8s.io/v1", "TokenRequest"),
            ("apps/v1", "DeleteOptions"),
        ] {
            assert!(TABLE.kind(api_version, kind).is_some(), "{api_version} {kind}");
        }
        assert!(TABLE.kind("v1", "Container").is_none(), "a message is no kind");
        assert!(TABLE.kind("v2", "Pod").is_none());
    }

    /// Members and their types agree with the schemas, which have another source.
    #[test]
    fn fields_agree_with_the_schemas() {
        let mut compared = 0;
        for (api_version, kind, index) in TABLE.kinds() {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let Some(arena) = schema::arena(group, version) else {
                assert!(matches!(api_version, "*" | "events.k8s.io/v1"), "{api_version} is not served");
                continue;
            };
            let root = arena.root(kind).unwrap_or_else(|| panic!("{api_version} {kind} has a schema"));
            compare(arena, root, index, kind);
            compared += 1;
        }
        assert!(compared > 20, "{compared} kinds compared");
    }

    fn compare(arena: &Arena, schema: u32, message: usize, path: &str) {
        let mut members = BTreeMap::new();
        members_of(message, &mut members);
        let schema = arena.get(schema);
        let known = |name: &&str| !matches!(*name, "apiVersion" | "kind") || members.contains_key(*name);
        let expected: Vec<&str> = schema.fields.iter().map(|field| field.name.as_ref()).filter(known).collect();
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), expected, "{path}");
        for field in &schema.fields {
            let Some(member) = members.get(field.name.as_ref()) else { continue };
            let path = format!("{path}.{}", field.name);
            let node = match (&field.node, member.shape) {
                (Node::List(inner), Shape::List) | (Node::Map(inner), Shape::Map) => inner,
                (node, Shape::Plain | Shape::Pointer) => node,
                (node, shape) => panic!("{path}: {node:?} as {shape:?}"),
            };
            match (node, member.holds) {
                (Node::Struct(inner), Holds::Message(message)) => compare(arena, *inner, message, &path),
                (Node::List(_), Holds::Message(message)) => assert!(TABLE.message(message).is_list, "{path}"),
                (Node::Text, Holds::Text)
                | (Node::Bool, Holds::Bool)
                | (Node::Int32, Holds::Int32)
                | (Node::Int64, Holds::Int64)
                | (Node::Bytes, Holds::Bytes)
                | (Node::Quantity, Holds::Quantity)
                | (Node::IntOrString, Holds::IntOrString)
                | (Node::Time, Holds::Time)
                | (Node::MicroTime, Holds::MicroTime)
                | (Node::Any | Node::Map(_), Holds::Json) => {}
                (node, holds) => panic!("{path}: {node:?} as {holds:?}"),
            }
        }
    }

    fn members_of(message: usize, members: &mut BTreeMap<&'static str, &'static Field>) {
        for field in &TABLE.message(message).fields {
            match field.holds {
                Holds::Message(inner) if field.name.is_empty() => members_of(inner, members),
                _ => assert!(members.insert(field.name, field).is_none(), "{} twice", field.name),
            }
        }
    }
}
