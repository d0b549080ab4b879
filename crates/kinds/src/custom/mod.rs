//! Custom resources: a kind that is told by a definition ([`CustomKind`]), and all that follows from its schema.
//!
//! Source: apiextensions-apiserver pkg/registry/customresource and pkg/apiserver.
//!
//! Invariant: what a definition must be like is checked where definitions are written
//! (`custom_resource_definition`); here a definition is taken for valid, and what is not is passed over.

mod columns;
mod default_check;
mod defaulting;
mod embedded;
mod fields;
mod finalizers;
mod format;
mod intern;
mod json_path;
mod kind;
mod list_type;
mod number;
mod openapi;
mod pattern;
mod rules;
mod scale;
mod schema;
mod schema_path;
mod validate;
mod version;
mod view;

pub(crate) use default_check::default_errors;
pub(crate) use format::is_known_format;
pub use kind::CustomKind;
pub use openapi::openapi_document;
pub(crate) use pattern::pattern_error;
pub(crate) use schema::{Additional, Schema};
pub(crate) use schema_path::{SchemaPath, find_field, find_rule_field};
pub(crate) use view::CustomView;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
