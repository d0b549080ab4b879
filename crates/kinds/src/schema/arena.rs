//! The compact form of the schemas that decoding and patching walk: structs in one
//! vector, fields sorted by name, references as indices. No descriptions.

use std::collections::BTreeMap;

use daruma_api::apply::{ListKey, ListKind};
use serde_json::{Map, Value};

use super::facts::{self, FieldFacts};

/// Schemas of all group versions.
#[derive(Debug)]
pub struct Arena {
    structs: Vec<Struct>,
    roots: BTreeMap<Box<str>, Node>,
}

/// One object schema.
#[derive(Debug)]
pub struct Struct {
    /// Last part of the schema's name: the name of the Go type.
    pub name: Box<str>,
    /// Members, sorted by name.
    pub fields: Box<[Field]>,
    /// Whether apply replaces it as a whole.
    pub atomic: bool,
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
    /// What apply does otherwise than by the node alone.
    pub apply: Option<Box<ApplyFacts>>,
}

/// How apply treats a member. What has none of this: lists are replaced, objects merged, and both may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyFacts {
    /// How a list merges.
    pub list: ListKind,
    /// Keys of a list of kind [`ListKind::Map`].
    pub keys: Box<[ListKey]>,
    /// Whether a map is replaced as a whole.
    pub atomic: bool,
    /// Whether Go holds the struct by value: it is there with its parent.
    pub by_value: bool,
}

/// Structs that Go holds by value, by the type that holds them (those with `default: {}` in the real server's documents).
static BY_VALUE: &[(&str, &[&str])] = &[
    ("Container", &["resources"]),
    ("ContainerStatus", &["lastState", "state"]),
    ("DaemonSetSpec", &["template", "updateStrategy"]),
    ("DeploymentSpec", &["strategy", "template"]),
    ("Endpoint", &["conditions"]),
    ("EphemeralContainer", &["resources"]),
    ("Event", &["source"]),
    ("NodeDaemonEndpoints", &["kubeletEndpoint"]),
    ("NodeStatus", &["daemonEndpoints", "nodeInfo"]),
    ("PersistentVolumeClaimSpec", &["resources"]),
    ("PersistentVolumeClaimTemplate", &["metadata", "spec"]),
    ("PodTemplateSpec", &["metadata", "spec"]),
    ("ReplicaSetSpec", &["template"]),
    ("ServiceStatus", &["loadBalancer"]),
    ("StatefulSetSpec", &["template", "updateStrategy"]),
    ("WeightedPodAffinityTerm", &["podAffinityTerm"]),
];
/// Those of every kind.
const OF_KINDS: [&str; 3] = ["metadata", "spec", "status"];

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
    /// An object with known members, or a value of another type (`JSONSchemaPropsOrBool`). Apply replaces it as a whole.
    StructOr(u32),
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
        match self.root_node(kind)? {
            Node::Struct(index) => Some(*index),
            _ => None,
        }
    }

    /// The node of a kind.
    pub fn root_node(&self, kind: &str) -> Option<&Node> {
        self.roots.get(kind)
    }

    /// A struct by index.
    pub fn get(&self, index: u32) -> &Struct {
        &self.structs[index as usize]
    }

    /// From generated schemas.
    pub(super) fn build(definitions: &Map<String, Value>) -> Self {
        let names: BTreeMap<&str, u32> = definitions
            .iter()
            .filter(|(name, schema)| leaf(name).is_none() && schema.get("properties").is_some())
            .enumerate()
            .map(|(index, (name, _))| (name.as_str(), u32::try_from(index).unwrap_or(u32::MAX)))
            .collect();
        let mut structs = Vec::with_capacity(names.len());
        let mut roots = BTreeMap::new();
        for (name, index) in &names {
            let own = facts::of(name);
            let last = name.rsplit('.').next().unwrap_or(name);
            let properties = definitions.get(*name).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
            let fields = properties.into_iter().flatten().map(|(field, schema)| {
                let by_value = (!own.gvk.is_empty() && OF_KINDS.contains(&field.as_str()))
                    || BY_VALUE.iter().any(|(holder, held)| *holder == last && held.contains(&field.as_str()));
                let own = own.fields.get(field);
                let strategies = own.and_then(|own| own.patch.as_deref()).unwrap_or_default();
                let follows = |strategy: &str| strategies.split(',').any(|one| one == strategy);
                Field {
                    name: field.as_str().into(),
                    node: node(schema, &names, definitions),
                    merges: follows("merge"),
                    replaces: follows("replace"),
                    merge_key: own.and_then(|own| own.merge_key.as_deref()).unwrap_or_default().into(),
                    apply: apply_facts(schema, own, by_value),
                }
            });
            let atomic = own.map_type.as_deref() == Some(ATOMIC);
            structs.push(Struct { name: last.into(), fields: fields.collect(), atomic });
            // Kinds that other groups lend (Scale, Eviction, DeleteOptions) are found as well.
            if own.gvk.iter().any(|gvk| gvk.split_once(' ').is_some_and(|(_, kind)| kind == last)) {
                roots.insert(last.into(), Node::Struct(*index));
            }
        }
        Self { structs, roots }
    }
}

const ATOMIC: &str = "atomic";

/// What apply must know of a member (kube-openapi pkg/schemaconv/smd.go: the list's type, else the patch strategy).
fn apply_facts(schema: &Value, own: Option<&FieldFacts>, by_value: bool) -> Option<Box<ApplyFacts>> {
    let none = FieldFacts::default();
    let own = own.unwrap_or(&none);
    let patches = matches!(own.patch.as_deref(), Some("merge" | "merge,retainKeys"));
    let is_list = schema.get("type").and_then(Value::as_str) == Some("array");
    let (list, names): (_, Vec<&str>) = match (own.list.as_deref(), own.merge_key.as_deref()) {
        _ if !is_list => (ListKind::Atomic, Vec::new()),
        (Some("map"), _) => (ListKind::Map, own.keys.iter().map(String::as_str).collect()),
        (Some("set"), _) => (ListKind::Set, Vec::new()),
        (None, Some(key)) if patches => (ListKind::Map, vec![key]),
        (None, None) if patches => (ListKind::Set, Vec::new()),
        _ => (ListKind::Atomic, Vec::new()),
    };
    let item = || schema.pointer("/items/$ref")?.as_str()?.rsplit('/').next();
    let item = if names.is_empty() { None } else { item().map(facts::of) };
    let default = |name: &str| item.as_ref()?.fields.get(name)?.default.clone();
    let keys = names.into_iter().map(|name| ListKey { name: name.into(), default: default(name) }).collect();
    let atomic = own.map.as_deref() == Some(ATOMIC);
    let says_something = list != ListKind::Atomic || atomic || by_value;
    says_something.then(|| Box::new(ApplyFacts { list, keys, atomic, by_value }))
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

/// The node of a type that is a struct or something else.
fn either(schema: &Value, names: &BTreeMap<&str, u32>) -> Option<Node> {
    let first = schema.pointer("/oneOf/0/$ref").and_then(Value::as_str)?;
    names.get(first.rsplit('/').next()?).map(|index| Node::StructOr(*index))
}

fn node(schema: &Value, names: &BTreeMap<&str, u32>, definitions: &Map<String, Value>) -> Node {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        if let Some(leaf) = leaf(name) {
            return leaf;
        }
        return match (names.get(name), definitions.get(name)) {
            (Some(index), _) => Node::Struct(*index),
            (None, Some(target)) => either(target, names).unwrap_or_else(|| node(target, names, definitions)),
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
