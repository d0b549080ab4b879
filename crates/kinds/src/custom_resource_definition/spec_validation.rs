//! `spec`: group, scope, versions, names, subresources, columns, selectable fields.
//!
//! Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go, and pkg/apis/apiextensions/v1/conversion.go for
//! what is told of all versions at once.

use serde_json::Value;

use super::{conversion, schema_validation, validate_names};
use crate::access::{flag, get, has, list, same, text};
use crate::custom::{SchemaPath, find_field};
use crate::field::{Errors, Path};
use crate::names;

const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MOST_SELECTABLE_FIELDS: usize = 8;

/// Checks a specification.
pub(super) fn validate(errors: &mut Errors, spec: &Value) {
    let path = Path::Root("spec");
    let group = text(spec, "group");
    let wrong = names::dns_subdomain(group);
    if group.is_empty() {
        errors.required(&path.child("group"), "");
    } else if !wrong.is_empty() {
        errors.invalid(&path.child("group"), group, wrong.join(","));
    } else if !group.contains('.') {
        errors.invalid(&path.child("group"), group, "should be a domain with at least one dot");
    }
    errors.one_of(&path.child("scope"), text(spec, "scope"), &["Cluster", "Namespaced"]);
    let versions = list(spec, "versions");
    let shared = |key: &str| versions.iter().all(|version| has(version, key) && same(get(version, key), get(&versions[0], key)));
    let (schema, subresources) = (shared("schema"), shared("subresources"));
    let (columns, fields) = (shared("additionalPrinterColumns"), shared("selectableFields"));
    for (index, version) in versions.iter().enumerate() {
        if !has(get(version, "schema"), "openAPIV3Schema") {
            let versions = path.child("versions");
            errors.required(&versions.index(index).child("schema").child("openAPIV3Schema"), "");
        }
    }
    for (index, version) in versions.iter().enumerate() {
        let versions = path.child("versions");
        let path = versions.index(index);
        let name = text(version, "name");
        let wrong = names::dns_1035_label(name);
        if !wrong.is_empty() {
            errors.invalid(&path.child("name"), name, wrong.join(","));
        }
        validate_deprecation(errors, &path.child("deprecationWarning"), version);
        if !schema {
            validate_schema(errors, &path.child("schema"), version, has_status(version));
        }
        if !subresources {
            validate_subresources(errors, &path.child("subresources"), get(version, "subresources"));
        }
        if !columns {
            validate_columns(errors, &path.child("additionalPrinterColumns"), list(version, "additionalPrinterColumns"));
        }
        if !fields {
            validate_selectable(errors, &path.child("selectableFields"), version);
        }
    }
    let name_of = |version: &Value| text(version, "name").to_owned();
    let mut distinct: Vec<String> = versions.iter().map(name_of).collect();
    distinct.sort();
    distinct.dedup();
    if distinct.len() != versions.len() {
        errors.invalid(&path.child("versions"), get(spec, "versions"), "must contain unique version names");
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        errors.invalid(&path.child("versions"), get(spec, "versions"), "must have exactly one version marked as storage version");
    }
    let (names, own) = (path.child("names"), get(spec, "names"));
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(own, key).is_empty() {
            errors.required(&names.child(key), "");
        }
    }
    validate_names(errors, &names, own);
    if let Some(first) = versions.first() {
        if schema {
            validate_schema(errors, &path.child("validation"), first, versions.iter().any(has_status));
        }
        if subresources {
            validate_subresources(errors, &path.child("subresources"), get(first, "subresources"));
        }
        if columns {
            validate_columns(errors, &path.child("additionalPrinterColumns"), list(first, "additionalPrinterColumns"));
        }
        if fields {
            validate_selectable(errors, &path.child("selectableFields"), first);
        }
    }
    conversion::validate(errors, &path.child("conversion"), get(spec, "conversion"));
}

fn has_status(version: &Value) -> bool {
    has(get(version, "subresources"), "status")
}

fn validate_schema(errors: &mut Errors, path: &Path<'_>, version: &Value, has_status: bool) {
    let schema = get(get(version, "schema"), "openAPIV3Schema");
    if !schema.is_null() {
        schema_validation::validate(errors, &path.child("openAPIV3Schema"), schema, has_status);
    }
}

fn validate_deprecation(errors: &mut Errors, path: &Path<'_>, version: &Value) {
    let Some(warning) = get(version, "deprecationWarning").as_str() else { return };
    if !flag(version, "deprecated") {
        errors.invalid(path, warning, "can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        errors.invalid(path, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(path, warning, "must not be an empty string");
    }
    if let Some((index, _)) =
        warning.char_indices().find(|(_, letter)| letter.is_control() || (letter.is_whitespace() && *letter != ' '))
    {
        errors.invalid(
            path,
            warning,
            format!("must only contain printable UTF-8 characters; non-printable character found at index {index}"),
        );
    }
}

fn validate_simple_path(errors: &mut Errors, path: &Path<'_>, value: &str) -> bool {
    if !value.starts_with('.') {
        errors.invalid(path, value, "must be a simple json path starting with .");
    }
    value.starts_with('.')
}

fn validate_subresources(errors: &mut Errors, path: &Path<'_>, subresources: &Value) {
    let scale = get(subresources, "scale");
    if scale.is_null() {
        return;
    }
    for (key, name, below) in
        [("specReplicasPath", "scale.specReplicasPath", ".spec"), ("statusReplicasPath", "scale.statusReplicasPath", ".status")]
    {
        let (path, value) = (path.child(name), text(scale, key));
        if value.is_empty() {
            errors.required(&path, "");
        } else if validate_simple_path(errors, &path, value) && !value.starts_with(&format!("{below}.")) {
            errors.invalid(&path, value, format!("should be a json path under {below}"));
        }
    }
    let (path, value) = (path.child("scale.labelSelectorPath"), text(scale, "labelSelectorPath"));
    let is_below = value.starts_with(".spec.") || value.starts_with(".status.");
    if !value.is_empty() && validate_simple_path(errors, &path, value) && !is_below {
        errors.invalid(&path, value, "should be a json path under either .spec or .status");
    }
}

fn validate_columns(errors: &mut Errors, path: &Path<'_>, columns: &[Value]) {
    for (index, column) in columns.iter().enumerate() {
        let path = path.index(index);
        if text(column, "name").is_empty() {
            errors.required(&path.child("name"), "");
        }
        let (kind, format) = (text(column, "type"), text(column, "format"));
        if kind.is_empty() {
            errors.required(&path.child("type"), &format!("must be one of {COLUMN_TYPES}"));
        } else if !COLUMN_TYPES.split(',').any(|one| one == kind) {
            errors.invalid(&path.child("type"), kind, format!("must be one of {COLUMN_TYPES}"));
        }
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            errors.invalid(&path.child("format"), format, format!("must be one of {}", COLUMN_FORMATS.join(",")));
        }
        let (path, value) = (path.child("JSONPath"), text(column, "jsonPath"));
        if value.is_empty() {
            errors.required(&path, "");
        } else {
            validate_simple_path(errors, &path, value);
        }
    }
}

fn validate_selectable(errors: &mut Errors, path: &Path<'_>, version: &Value) {
    let schema = get(get(version, "schema"), "openAPIV3Schema");
    let mut seen = Vec::new();
    let fields = list(version, "selectableFields");
    if !fields.is_empty() && schema.is_null() {
        // A missing schema is told elsewhere; the words are the real server's.
        errors.invalid(path, "", "may only be set when `version.schema.openAPIV3Schema` is not included");
        return;
    }
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index);
        let (path, value) = (path.child("jsonPath"), text(field, "jsonPath"));
        if value.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let SchemaPath { names, schema } = match find_field(schema, value) {
            Ok(found) => found,
            Err(why) => {
                errors.invalid(&path, value, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if names.first().is_some_and(|name| name == "metadata") {
            errors.invalid(&path, value, "must not point to fields in metadata");
        }
        if !matches!(text(schema, "type"), "string" | "boolean" | "integer") {
            errors.invalid(
                &path,
                value,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if seen.contains(&names) {
            errors.duplicate(&path, value);
        } else {
            seen.push(names);
        }
    }
    if seen.len() > MOST_SELECTABLE_FIELDS {
        errors.too_many(path, seen.len(), MOST_SELECTABLE_FIELDS);
    }
}
