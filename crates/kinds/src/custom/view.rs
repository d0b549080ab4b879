//! Schemas of custom resources as apply sees them.
//!
//! Where a schema leaves open what a value is (`x-kubernetes-preserve-unknown-fields`), the value tells: the members of
//! objects are owned one by one, at every depth, and lists as a whole.
//!
//! Source: kube-openapi pkg/schemaconv (`ToSchemaFromOpenAPI`) on what apiextensions-apiserver
//! pkg/controller/openapi/builder/builder.go makes of a structural schema.

use std::sync::LazyLock;

use daruma_api::apply::{ListKey, ListKind, Scalar, Shape};

use super::schema::{Additional, Schema, Type};
use crate::schema::{View, metadata_view};

/// A place in the type of a custom resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CustomView<'a> {
    schema: &'a Schema,
    /// Whether `apiVersion`, `kind` and `metadata` are there without being declared.
    is_object: bool,
}

static OPEN: LazyLock<Schema> = LazyLock::new(|| Schema { preserve: true, ..Schema::default() });
static TEXT: LazyLock<Schema> = LazyLock::new(|| Schema { kind: Some(Type::String), ..Schema::default() });

impl<'a> CustomView<'a> {
    /// The type of the object itself.
    pub(crate) fn of_object(schema: &'a Schema) -> Self {
        Self { schema, is_object: true }
    }

    fn inner(schema: &'a Schema) -> View<'a> {
        Self { schema, is_object: schema.embedded }.into()
    }

    /// See [`daruma_api::apply::Schema::shape`].
    pub(crate) fn shape(self) -> Shape<View<'a>> {
        let open = || Self::inner(&OPEN);
        match (self.schema.kind, &self.schema.additional) {
            _ if self.schema.int_or_string => Shape::Scalar(Scalar::Any),
            (Some(Type::String), _) => Shape::Scalar(Scalar::Text),
            (Some(Type::Integer | Type::Number), _) => Shape::Scalar(Scalar::Numeric),
            (Some(Type::Boolean), _) => Shape::Scalar(Scalar::Boolean),
            (Some(Type::Array), _) => {
                let of = self.schema.items.as_deref().map_or_else(open, Self::inner);
                Shape::List { of, kind: self.schema.list.unwrap_or(ListKind::Atomic) }
            }
            (Some(Type::Object), Additional::Of(of)) => Shape::Map { of: Some(Self::inner(of)), atomic: self.schema.atomic },
            (Some(Type::Object), additional) => {
                let bare = self.schema.properties.is_empty() && !self.is_object;
                let is_open = bare || self.schema.preserve || matches!(additional, Additional::Any(true));
                Shape::Map { of: is_open.then(open), atomic: self.schema.atomic }
            }
            (None, _) => Shape::Deduced,
        }
    }

    /// See [`daruma_api::apply::Schema::field`].
    pub(crate) fn field(self, name: &str) -> Option<View<'a>> {
        match name {
            "metadata" if self.is_object => Some(metadata_view()),
            "apiVersion" | "kind" if self.is_object => Some(Self::inner(&TEXT)),
            _ => self.schema.properties.get(name).map(Self::inner),
        }
    }

    /// See [`daruma_api::apply::Schema::keys`].
    pub(crate) fn keys(&self) -> &'a [ListKey] {
        &self.schema.keys
    }
}
