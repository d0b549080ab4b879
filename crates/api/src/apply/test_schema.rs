//! A small type for tests, in the manner of a Deployment.

use serde_json::Value;

use super::schema::{ListKey, ListKind, Scalar, Schema, Shape};

/// A type as data.
#[derive(Debug, Default)]
pub(super) struct Type {
    shape: Kind,
    fields: Vec<(&'static str, Type)>,
    of: Option<Box<Type>>,
    keys: Vec<ListKey>,
    always: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum Kind {
    #[default]
    Text,
    Number,
    List(ListKind),
    Map(bool),
    Deduced,
}

impl Schema for &Type {
    fn shape(self) -> Shape<Self> {
        match self.shape {
            Kind::Text => Shape::Scalar(Scalar::Text),
            Kind::Number => Shape::Scalar(Scalar::Numeric),
            Kind::List(kind) => Shape::List { of: self.of.as_deref().expect("lists have elements"), kind },
            Kind::Deduced => Shape::Deduced,
            Kind::Map(atomic) => Shape::Map { of: self.of.as_deref(), atomic },
        }
    }
    fn field(self, name: &str) -> Option<Self> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, of)| of)
    }
    fn keys(&self) -> &[ListKey] {
        &self.keys
    }
    fn is_always_there(self) -> bool {
        self.always
    }
}

fn text() -> Type {
    Type::default()
}

fn number() -> Type {
    Type { shape: Kind::Number, ..Type::default() }
}

fn fields(fields: Vec<(&'static str, Type)>) -> Type {
    Type { shape: Kind::Map(false), fields, ..Type::default() }
}

fn always(of: Type) -> Type {
    Type { always: true, ..of }
}

fn map(atomic: bool) -> Type {
    Type { shape: Kind::Map(atomic), of: Some(Box::new(text())), ..Type::default() }
}

fn list(kind: ListKind, of: Type, keys: &[(&str, Option<Value>)]) -> Type {
    let keys = keys.iter().map(|(name, default)| ListKey { name: (*name).into(), default: default.clone() }).collect();
    Type { shape: Kind::List(kind), of: Some(Box::new(of)), keys, ..Type::default() }
}

/// The type of the tests' objects.
pub(super) fn thing() -> Type {
    let port = fields(vec![("containerPort", number()), ("protocol", text()), ("name", text())]);
    let ports = list(ListKind::Map, port, &[("containerPort", Some(0.into())), ("protocol", Some("TCP".into()))]);
    let container =
        fields(vec![("name", text()), ("image", text()), ("args", list(ListKind::Atomic, text(), &[])), ("ports", ports)]);
    let metadata = fields(vec![
        ("name", text()),
        ("namespace", text()),
        ("uid", text()),
        ("resourceVersion", text()),
        ("labels", map(false)),
        ("annotations", map(false)),
        ("finalizers", list(ListKind::Set, text(), &[])),
    ]);
    let spec = fields(vec![
        ("replicas", number()),
        ("selector", map(true)),
        ("containers", list(ListKind::Map, container, &[("name", None)])),
    ]);
    let status = fields(vec![("phase", text())]);
    let open = Type { shape: Kind::Deduced, ..Type::default() };
    fields(vec![
        ("apiVersion", text()),
        ("kind", text()),
        ("metadata", always(metadata)),
        ("spec", always(spec)),
        ("status", always(status)),
        ("open", open),
    ])
}
