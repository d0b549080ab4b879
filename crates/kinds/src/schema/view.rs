//! Schemas as apply sees them.
//!
//! Source: kube-openapi pkg/schemaconv (`ToSchemaFromOpenAPI`).

use daruma_api::apply::{ListKey, ListKind, Scalar, Schema, Shape};

use super::arena::{ApplyFacts, Arena, Node};

/// A place in a kind's type.
#[derive(Debug, Clone, Copy)]
pub struct View {
    arena: &'static Arena,
    node: &'static Node,
    facts: Option<&'static ApplyFacts>,
}

/// The type of a kind; `None` where it has no schema.
pub fn view(group: &str, version: &str, kind: &str) -> Option<View> {
    let arena = super::arena(group, version)?;
    Some(View { arena, node: arena.root_node(kind)?, facts: None })
}

impl View {
    fn inner(self, node: &'static Node) -> Self {
        Self { node, facts: None, ..self }
    }
}

impl Schema for View {
    fn shape(self) -> Shape<Self> {
        match self.node {
            Node::Any => Shape::Untyped,
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

    fn keys(&self) -> &[ListKey] {
        self.facts.map(|facts| &*facts.keys).unwrap_or_default()
    }

    fn is_always_there(self) -> bool {
        self.facts.is_some_and(|facts| facts.by_value)
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
            Shape::Untyped => "untyped".to_owned(),
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
