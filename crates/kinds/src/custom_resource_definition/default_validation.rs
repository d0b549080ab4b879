//! Defaults of a schema are values of it.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/defaulting/validation.go.

use crate::custom::{Schema, default_errors};
use crate::field::{Errors, Path};

/// Checks all defaults of a structural schema.
pub(super) fn validate(errors: &mut Errors, path: &Path<'_>, schema: &Schema) {
    if let Some(default) = &schema.default {
        errors.extend(default_errors(schema, default, &path.child("default").to_string()));
    }
    if let Some(items) = &schema.items {
        validate(errors, &path.child("items"), items);
    }
    let properties = path.child("properties");
    for (name, property) in &schema.properties {
        validate(errors, &properties.key(name), property);
    }
}
