//! Schemas as apply sees them.
//!
//! Those of custom resources are told in [`crate::custom`].
//!
//! Source: kube-openapi pkg/schemaconv (`ToSchemaFromOpenAPI`).

use daruma_api::apply::{ListKey, ListKind, Scalar, Schema, Shape};

use super::arena::{ApplyFacts, Arena, Node};
use crate::custom::CustomView;

/// A place in a kind's type.
#[derive(Debug, Clone, Copy)]
pub struct View<'a>(Type<'a>);

#[derive(Debug, Clone, Copy)]
enum Type<'a> {
    Built(Built<'a>),
    Custom(CustomView<'a>),
}

/// A place in the schemas of a group version.
#[derive(Debug, Clone, Copy)]
struct Built<'a> {
    arena: &'a Arena,
    node: &'a Node,
    facts: Option<&'a ApplyFacts>,
}

/// The type of a built-in kind; `None` where it has no schema.
pub fn view(group: &str, version: &str, kind: &str) -> Option<View<'static>> {
    let arena = super::arena(group, version)?;
    Some(Built { arena, node: arena.root_node(kind)?, facts: None }.into())
}

impl<'a> From<Built<'a>> for View<'a> {
    fn from(built: Built<'a>) -> Self {
        Self(Type::Built(built))
    }
}

impl<'a> From<CustomView<'a>> for View<'a> {
    fn from(custom: CustomView<'a>) -> Self {
        Self(Type::Custom(custom))
    }
}

/// The type of metadata, the same for every kind.
pub(crate) fn metadata() -> View<'static> {
    let place = || {
        let arena = super::arena("", "v1")?;
        let field = arena.get(arena.root("ConfigMap")?).field("metadata")?;
        Some(Built { arena, node: &field.node, facts: None })
    };
    place().expect("config maps have metadata; a test looks").into()
}

impl Schema for View<'_> {
    fn shape(self) -> Shape<Self> {
        match self.0 {
            Type::Built(built) => built.shape(),
            Type::Custom(custom) => custom.shape(),
        }
    }

    fn field(self, name: &str) -> Option<Self> {
        match self.0 {
            Type::Built(built) => built.field(name).map(Self::from),
            Type::Custom(custom) => custom.field(name),
        }
    }

    fn keys(&self) -> &[ListKey] {
        match &self.0 {
            Type::Built(built) => built.facts.map(|facts| &*facts.keys).unwrap_or_default(),
            Type::Custom(custom) => custom.keys(),
        }
    }

    fn is_always_there(self) -> bool {
        matches!(self.0, Type::Built(built) if built.facts.is_some_and(|facts| facts.by_value))
    }

    /// Documents of custom resources are no Go structs.
    fn is_left_out_when_empty(self) -> bool {
        matches!(self.0, Type::Built(_))
    }
}

impl<'a> Built<'a> {
    fn inner(self, node: &'a Node) -> View<'a> {
        Self { node, facts: None, ..self }.into()
    }

    fn shape(self) -> Shape<View<'a>> {
        match self.node {
            Node::Any | Node::StructOr(_) => Shape::Untyped,
            Node::Text | Node::Bytes => Shape::Scalar(Scalar::Text),
            Node::Time | Node::MicroTime | Node::Quantity | Node::IntOrString => Shape::Scalar(Scalar::Any),
            Node::Bool => Shape::Scalar(Scalar::Boolean),
            Node::Int32 | Node::Int64 | Node::Float => Shape::Scalar(Scalar::Numeric),
            Node::Struct(index) => Shape::Map { of: None, atomic: self.arena.get(*index).atomic },
            Node::List(of) => Shape::List { of: self.inner(of), kind: self.facts.map_or(ListKind::Atomic, |facts| facts.list) },
            Node::Map(of) => Shape::Map { of: Some(self.inner(of)), atomic: self.facts.is_some_and(|facts| facts.atomic) },
        }
    }

    fn field(self, name: &str) -> Option<Self> {
        let Node::Struct(index) = self.node else { return None };
        let field = self.arena.get(*index).field(name)?;
        Some(Self { node: &field.node, facts: field.apply.as_deref(), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind of list, the keys and their defaults at a path; `atomic` for what is replaced as a whole.
    #[track_caller]
    fn check(kind: &str, path: &str, expected: &str) {
        let group = if kind == "Deployment" { "apps" } else { "" };
        let mut at = view(group, "v1", kind).expect("a kind");
        for name in path.split('.') {
            at = match at.shape() {
                Shape::List { of, .. } => of.field(name),
                _ => at.field(name),
            }
            .unwrap_or_else(|| panic!("{name} of {path}"));
        }
        let keys: Vec<String> = at
            .keys()
            .iter()
            .map(|key| key.default.as_ref().map_or(key.name.to_string(), |default| format!("{}={default}", key.name)))
            .collect();
        let shown = match at.shape() {
            Shape::List { kind, .. } => format!("{kind:?} {}", keys.join(",")),
            Shape::Map { atomic, of } => format!("{} {}", if atomic { "atomic" } else { "granular" }, of.is_some()),
            Shape::Scalar(scalar) => format!("{scalar:?}"),
            Shape::Untyped | Shape::Deduced => "untyped".to_owned(),
        };
        assert_eq!(shown.trim_end(), expected, "{kind} {path}");
    }

    #[test]
    fn types_are_those_of_the_real_server() {
        check("Pod", "spec.containers", "Map name");
        check("Pod", "spec.containers.ports", "Map containerPort=0,protocol=\"TCP\"");
        check("Pod", "spec.containers.command", "Atomic");
        check("Pod", "spec.containers.resources.limits", "granular true");
        check("Pod", "spec.nodeSelector", "atomic true");
        check("Pod", "spec.tolerations", "Atomic");
        check("Pod", "metadata.finalizers", "Set");
        check("Pod", "metadata.ownerReferences", "Map uid");
        check("Pod", "metadata.creationTimestamp", "Any");
        check("Pod", "status.conditions", "Map type");
        check("Pod", "status.podIPs", "Map ip");
        check("Service", "spec.ports", "Map port=0,protocol=\"TCP\"");
        check("Service", "spec.selector", "atomic true");
        check("Deployment", "spec.selector", "atomic false");
        check("Deployment", "spec.template.spec", "granular false");
        check("Deployment", "spec.replicas", "Numeric");
        check("Secret", "data", "granular true");
        check("ServiceAccount", "secrets", "Map name");
        assert!(view("", "v1", "Nope").is_none());
    }
}
