//! `openAPIV3Schema`: what a schema may hold, and that it is structural and its defaults are valid.
//!
//! Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go
//! (`validateCustomResourceDefinitionValidation`, `ValidateCustomResourceDefinitionOpenAPISchema`).

use serde_json::Value;

use super::{default_validation, rules, structural};
use crate::access::{flag, get, has, list, text};
use crate::custom::{Schema, is_known_format};
use crate::field::{Errors, Path, Shown};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Members of a root schema beside a status subresource, by their names in Go and in JSON.
const AT_ROOT: [(&str, &str); 22] = [
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
    ("XValidations", "x-kubernetes-validations"),
];

/// Checks the schema of a version (or of all). `has_status` tells whether there is a status subresource.
pub(super) fn validate(errors: &mut Errors, path: &Path<'_>, schema: &Value, has_status: bool) {
    if has_status {
        validate_root(errors, path, schema);
    }
    if flag(schema, "nullable") {
        errors.forbidden(&path.child("nullable"), "nullable cannot be true at the root");
    }
    let found = structural::errors(path, schema);
    let parsed = found.is_empty().then(|| Schema::parse(schema));
    if let Some(parsed) = &parsed {
        default_validation::validate(errors, path, parsed);
    } else {
        errors.extend(found);
    }
    let before = errors.count();
    let walk = Walk { no_defaults: None, inside_metadata: false };
    walk.schema(errors, path, schema, true);
    // Rules are compiled where the schema that they speak of is in order.
    if let Some(parsed) = parsed.filter(|_| errors.count() == before) {
        rules::validate(errors, path, schema, &parsed);
    }
}

fn validate_root(errors: &mut Errors, path: &Path<'_>, schema: &Value) {
    let kind = text(schema, "type");
    if !kind.is_empty() && kind != "object" {
        errors.invalid(
            &path.child("type"),
            kind,
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        );
        return;
    }
    let is_allowed = |key: &str| AT_ROOT.iter().any(|(_, json)| *json == key);
    if schema.as_object().into_iter().flatten().any(|(key, value)| !is_allowed(key) && !structural::is_zero(value)) {
        let names: Vec<&str> = AT_ROOT.iter().map(|(name, _)| *name).collect();
        errors.invalid(
            path,
            schema,
            format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                names.join(" ")
            ),
        );
    }
}

/// A schema itself, where there is one.
pub(super) fn inner<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    Some(get(schema, key)).filter(|inner| inner.is_object())
}

/// Formats that no value will be asked for because the server does not know them, in the order in which they appear.
pub(super) fn unknown_formats(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut schemas: Vec<&Value> = Vec::new();
    let versions = list(get(definition, "spec"), "versions");
    schemas.extend(versions.iter().map(|version| get(get(version, "schema"), "openAPIV3Schema")));
    // What all versions share is told once, as of the internal version.
    if schemas.iter().all(|schema| *schema == schemas[0]) {
        schemas.truncate(1);
    }
    schemas.reverse();
    while let Some(schema) = schemas.pop() {
        let (kind, format) = (text(schema, "type"), text(schema, "format"));
        if !format.is_empty() && !is_known_format(kind, format) {
            found.push(format.to_owned());
        }
        let mut below: Vec<&Value> =
            ["items", "additionalProperties", "not"].iter().filter_map(|key| inner(schema, key)).collect();
        below.extend(["allOf", "anyOf", "oneOf"].iter().flat_map(|key| list(schema, key)));
        below.extend(get(schema, "properties").as_object().into_iter().flatten().map(|(_, property)| property));
        schemas.extend(below.into_iter().rev());
    }
    found
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    /// Why defaults may not be set here.
    no_defaults: Option<&'a str>,
    /// Whether the schema is of `metadata`, `apiVersion` or `kind`, or below.
    inside_metadata: bool,
}

impl Walk<'_> {
    fn schema(self, errors: &mut Errors, path: &Path<'_>, schema: &Value, is_root: bool) {
        self.standard(errors, path, schema);
        if flag(schema, "uniqueItems") {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errors.forbidden(&path.child("uniqueItems"), detail);
        }
        let properties = get(schema, "properties").as_object();
        let additional = get(schema, "additionalProperties");
        if !additional.is_null() {
            if properties.is_some_and(|properties| !properties.is_empty()) && *additional != Value::Bool(true) {
                let detail = "additionalProperties and properties are mutual exclusive";
                errors.forbidden(&path.child("additionalProperties"), detail);
            }
            let mut below = self;
            if self.inside_metadata {
                below.no_defaults = Some("inside additionalProperties applying to object metadata");
            }
            if additional.is_object() {
                below.schema(errors, &path.child("additionalProperties"), additional, false);
            }
        }
        for (name, property) in properties.into_iter().flatten() {
            let reason = format!("in top-level {name}");
            let is_metadata = matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
            let mut below = self;
            if (is_root || flag(schema, "x-kubernetes-embedded-resource")) && is_metadata {
                below.inside_metadata = true;
                if is_root {
                    below = Walk { no_defaults: Some(&reason), ..below };
                }
            }
            below.schema(errors, &path.child("properties").key(name), property, false);
        }
        if let Some(not) = inner(schema, "not") {
            self.schema(errors, &path.child("not"), not, false);
        }
        for key in ["allOf", "oneOf", "anyOf"] {
            for (index, one) in list(schema, key).iter().enumerate() {
                self.schema(errors, &path.child(key).index(index), one, false);
            }
        }
        if let Some(items) = inner(schema, "items") {
            self.schema(errors, &path.child("items"), items, false);
        }
        extensions(errors, path, schema);
        rules::shape(errors, path, schema);
    }

    fn standard(self, errors: &mut Errors, path: &Path<'_>, schema: &Value) {
        let kind = text(schema, "type");
        if !kind.is_empty() && !TYPES.contains(&kind) {
            errors.not_supported(&path.child("type"), kind, &TYPES);
        }
        if let Some(reason) = self.no_defaults.filter(|_| has(schema, "default")) {
            errors.forbidden(&path.child("default"), format!("must not be set {reason}"));
        }
        for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
            let value = get(schema, key);
            if !(value.is_null() || (structural::is_zero(value) && matches!(key, "id" | "patternProperties" | "definitions"))) {
                errors.forbidden(&path.child(key), format!("{key} is not supported"));
            }
        }
        if kind == "null" {
            errors.forbidden(&path.child("type"), "type cannot be set to null, use nullable as an alternative");
        }
        if get(schema, "items").as_array().is_some_and(|items| !items.is_empty()) {
            errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
        }
        if self.inside_metadata && flag(schema, "x-kubernetes-embedded-resource") {
            errors.forbidden(&path.child("x-kubernetes-embedded-resource"), "must not be used inside of resource meta");
        }
    }
}

/// `x-kubernetes-preserve-unknown-fields`, map types and list types.
fn extensions(errors: &mut Errors, path: &Path<'_>, schema: &Value) {
    let keeps = get(schema, "x-kubernetes-preserve-unknown-fields");
    if *keeps == Value::Bool(false) {
        errors.invalid(&path.child("x-kubernetes-preserve-unknown-fields"), keeps, "must be true or undefined");
    }
    let kind = text(schema, "type");
    let needs_type = |errors: &mut Errors, wanted: &str, what: &str| {
        let detail = format!("must be {wanted} if {what} is specified");
        if kind.is_empty() {
            errors.required(&path.child("type"), &detail);
        } else {
            errors.invalid(&path.child("type"), kind, detail);
        }
    };
    if let Some(map_type) = get(schema, "x-kubernetes-map-type").as_str() {
        if kind != "object" {
            needs_type(errors, "object", "x-kubernetes-map-type");
        }
        if !matches!(map_type, "atomic" | "granular") {
            errors.not_supported(&path.child("x-kubernetes-map-type"), map_type, &["atomic", "granular"]);
        }
    }
    let list_type = get(schema, "x-kubernetes-list-type").as_str();
    let items = inner(schema, "items");
    if let Some(list_type) = list_type {
        if kind != "array" {
            needs_type(errors, "array", "x-kubernetes-list-type");
        } else if let ("set", Some(of)) = (list_type, items) {
            set_of(errors, &path.child("items"), of);
        }
        if !matches!(list_type, "atomic" | "set" | "map") {
            errors.not_supported(&path.child("x-kubernetes-list-type"), list_type, &["atomic", "set", "map"]);
        }
    }
    let keys = list(schema, "x-kubernetes-list-map-keys");
    if !keys.is_empty() && list_type != Some("map") {
        let (path, detail) = (path.child("x-kubernetes-list-type"), "must be map if x-kubernetes-list-map-keys is non-empty");
        match list_type {
            None => errors.required(&path, detail),
            Some(other) => errors.invalid(&path, other, detail),
        }
    }
    if list_type == Some("map") {
        map_of(errors, path, schema, items);
    }
    if let (Some(list_type @ ("set" | "map")), Some(of)) = (list_type, items) {
        keys_of(errors, path, list_type, keys, of);
    }
}

fn set_of(errors: &mut Errors, path: &Path<'_>, of: &Value) {
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let list_type = get(of, "x-kubernetes-list-type");
    match text(of, "type") {
        "array" if !list_type.is_null() && list_type != "atomic" => {
            errors.invalid(&path.child("x-kubernetes-list-type"), list_type, detail);
        }
        "object" if get(of, "x-kubernetes-map-type") != "atomic" => {
            errors.invalid(&path.child("x-kubernetes-map-type"), Shown::raw(list_type.to_string()), detail);
        }
        _ => {}
    }
}

fn map_of(errors: &mut Errors, path: &Path<'_>, schema: &Value, items: Option<&Value>) {
    let (keys, keys_path) = (list(schema, "x-kubernetes-list-map-keys"), path.child("x-kubernetes-list-map-keys"));
    if keys.is_empty() {
        errors.required(&keys_path, "must not be empty if x-kubernetes-list-type is map");
    }
    let items_path = path.child("items");
    let Some(of) = items else {
        if get(schema, "items").is_null() {
            errors.required(&items_path, "must have a schema if x-kubernetes-list-type is map");
        } else {
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            errors.invalid(&items_path, get(schema, "items"), detail);
        }
        return;
    };
    let kind = text(of, "type");
    if kind != "object" {
        errors.invalid(&items_path.child("type"), kind, "must be object if parent array's x-kubernetes-list-type is map");
        return;
    }
    for (index, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        match get(of, "properties").get(key).map(|property| text(property, "type")) {
            Some("array" | "object") => {
                let properties = items_path.child("properties");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.invalid(&properties.key(key).child("type"), kind, detail);
            }
            Some(_) => {}
            None => {
                let all = get(schema, "x-kubernetes-list-map-keys");
                errors.invalid(&keys_path, all, "entries must all be names of item properties");
            }
        }
        if keys[..index].iter().any(|before| before == key) {
            errors.invalid(&keys_path, get(schema, "x-kubernetes-list-map-keys"), "must not contain duplicate entries");
        }
    }
}

/// Elements of sets and maps are not null, and keys of maps are always there.
fn keys_of(errors: &mut Errors, path: &Path<'_>, list_type: &str, keys: &[Value], of: &Value) {
    let path = path.child("items");
    if flag(of, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.forbidden(&path.child("nullable"), detail);
    }
    if list_type != "map" {
        return;
    }
    let required = list(of, "required");
    for key in keys.iter().filter_map(Value::as_str) {
        let Some(property) = get(of, "properties").get(key) else { continue };
        let properties = path.child("properties");
        let path = properties.key(key);
        if !required.iter().any(|one| one == key) && !has(property, "default") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&path.child("default"), detail);
        }
        if flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&path.child("nullable"), detail);
        }
    }
}
