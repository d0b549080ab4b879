//! The compact form of a group version's schemas that decoding and patching walk: structs in one
//! vector, fields sorted by name, references as indices. No descriptions.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::facts::{self, SchemaFacts};

/// Schemas of one group version.
#[derive(Debug)]
pub struct Arena {
    structs: Vec<Struct>,
    roots: BTreeMap<Box<str>, u32>,
}

/// One object schema.
#[derive(Debug)]
pub struct Struct {
    /// Last part of the schema's name: the name of the Go type.
    pub name: Box<str>,
    /// Members, sorted by name.
    pub fields: Box<[Field]>,
}

/// One member.
#[derive(Debug)]
pub struct Field {
    /// As in JSON.
    pub name: Box<str>,
    /// What it holds.
    pub node: Node,
    /// Whether strategic merge patches merge the list (else replace it).
    pub merges: bool,
    /// Whether they replace the object as a whole (else merge it).
    pub replaces: bool,
    /// Which member identifies the list's elements; empty for lists of plain values.
    pub merge_key: Box<str>,
}

/// What a value may be.
#[derive(Debug, Clone)]
pub enum Node {
    /// Anything.
    Any,
    /// A string.
    Text,
    /// Seconds since the epoch as RFC 3339.
    Time,
    /// The same with microseconds.
    MicroTime,
    /// Base64.
    Bytes,
    /// A resource quantity.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// A boolean.
    Bool,
    /// 32-bit whole number.
    Int32,
    /// 64-bit whole number.
    Int64,
    /// A number.
    Float,
    /// An object with known members.
    Struct(u32),
    /// A list.
    List(Box<Node>),
    /// An object with free keys.
    Map(Box<Node>),
}

impl Struct {
    /// A member by name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|field| field.name.as_ref().cmp(name)).ok().map(|index| &self.fields[index])
    }
}

impl Arena {
    /// The struct of a kind.
    pub fn root(&self, kind: &str) -> Option<u32> {
        self.roots.get(kind).copied()
    }

    /// A struct by index.
    pub fn get(&self, index: u32) -> &Struct {
        &self.structs[index as usize]
    }

    /// From generated schemas.
    pub(super) fn build(definitions: &Map<String, Value>) -> Self {
        let facts = facts::read();
        let none = SchemaFacts::default();
        let names: BTreeMap<&str, u32> = definitions
            .iter()
            .filter(|(name, schema)| leaf(name).is_none() && schema.get("properties").is_some())
            .enumerate()
            .map(|(index, (name, _))| (name.as_str(), u32::try_from(index).unwrap_or(u32::MAX)))
            .collect();
        let mut structs = Vec::with_capacity(names.len());
        let mut roots = BTreeMap::new();
        for (name, index) in &names {
            let own = facts.get(*name).unwrap_or(&none);
            let properties = definitions.get(*name).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
            let fields = properties.into_iter().flatten().map(|(field, schema)| {
                let own = own.fields.get(field);
                let strategies = own.and_then(|own| own.patch.as_deref()).unwrap_or_default();
                let follows = |strategy: &str| strategies.split(',').any(|one| one == strategy);
                Field {
                    name: field.as_str().into(),
                    node: node(schema, &names, definitions),
                    merges: follows("merge"),
                    replaces: follows("replace"),
                    merge_key: own.and_then(|own| own.merge_key.as_deref()).unwrap_or_default().into(),
                }
            });
            let last = name.rsplit('.').next().unwrap_or(name);
            structs.push(Struct { name: last.into(), fields: fields.collect() });
            // Kinds that other groups lend (Scale, Eviction, DeleteOptions) are found as well.
            if own.gvk.iter().any(|gvk| gvk.split_once(' ').is_some_and(|(_, kind)| kind == last)) {
                roots.insert(last.into(), *index);
            }
        }
        Self { structs, roots }
    }
}

/// The node of a schema that is a plain value under a name of its own.
fn leaf(name: &str) -> Option<Node> {
    Some(match name.rsplit('.').next()? {
        "Time" => Node::Time,
        "MicroTime" => Node::MicroTime,
        "Quantity" => Node::Quantity,
        "IntOrString" => Node::IntOrString,
        "RawExtension" | "FieldsV1" => Node::Any,
        _ => return None,
    })
}

fn node(schema: &Value, names: &BTreeMap<&str, u32>, definitions: &Map<String, Value>) -> Node {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        if let Some(leaf) = leaf(name) {
            return leaf;
        }
        return match (names.get(name), definitions.get(name)) {
            (Some(index), _) => Node::Struct(*index),
            (None, Some(target)) => node(target, names, definitions),
            (None, None) => Node::Any,
        };
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("type"), text("format")) {
        ("string", "byte") => Node::Bytes,
        ("string", _) => Node::Text,
        ("boolean", _) => Node::Bool,
        ("integer", "int64") => Node::Int64,
        ("integer", _) => Node::Int32,
        ("number", _) => Node::Float,
        ("array", _) => Node::List(Box::new(schema.get("items").map_or(Node::Any, |items| node(items, names, definitions)))),
        ("object", _) => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => Node::Map(Box::new(node(values, names, definitions))),
            _ => Node::Any,
        },
        _ => Node::Any,
    }
}
