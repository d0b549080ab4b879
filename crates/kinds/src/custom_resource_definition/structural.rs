//! What makes a schema structural: every value has one type, and what alternatives ask for is declared outside of them.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/{validation,complete}.go.

use daruma_api::status::FieldError;
use serde_json::{Value, json};

use super::schema_validation::inner;
use crate::access::{flag, get, has, list, text};
use crate::custom::pattern_error;
use crate::field::{Errors, Path};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that keeps a schema from being structural, in the order of the alphabet. Whether alternatives speak of what is
/// declared is asked of those at the root alone, as by the real server.
pub(super) fn errors(path: &Path<'_>, schema: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    invariants(&mut errors, path, schema, Level::Root);
    let place = Place { structural: path, value: path };
    junctors(schema, &mut |key, index, nested| {
        let (list_path, whole) = (path.child(key), path.child(key));
        let value = index.map_or(whole, |index| list_path.index(index));
        complete(&mut errors, Place { value: &value, ..place }, nested, Some(schema));
    });
    let mut found = errors.into_vec();
    found.sort_by_cached_key(ToString::to_string);
    found
}

/// Whether a member is as if it were not there.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Calls for each schema below `allOf`, `anyOf`, `oneOf` and `not`.
fn junctors<'a>(schema: &'a Value, call: &mut dyn FnMut(&'static str, Option<usize>, &'a Value)) {
    for key in ["allOf", "anyOf", "oneOf"] {
        for (index, one) in list(schema, key).iter().enumerate() {
            call(key, Some(index), one);
        }
    }
    if let Some(not) = inner(schema, "not") {
        call("not", None, not);
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    get(schema, "properties").as_object().into_iter().flatten()
}

fn invariants(errors: &mut Errors, path: &Path<'_>, schema: &Value, level: Level) {
    let kind = text(schema, "type");
    let (embedded, keeps) =
        (flag(schema, "x-kubernetes-embedded-resource"), flag(schema, "x-kubernetes-preserve-unknown-fields"));
    let items = inner(schema, "items");
    if kind == "array" && items.is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if let Some(items) = items {
        invariants(errors, &path.child("items"), items, Level::Item);
    }
    let properties_path = path.child("properties");
    for (name, property) in properties(schema) {
        invariants(errors, &properties_path.key(name), property, Level::Field);
    }
    let additional = path.child("additionalProperties");
    if has(schema, "additionalProperties") {
        if level == Level::Root {
            errors.forbidden(&additional, "must not be used at the root");
        }
        if let Some(of) = inner(schema, "additionalProperties") {
            invariants(errors, &additional, of, Level::Field);
        }
    }
    if flag(schema, "x-kubernetes-int-or-string") {
        for (key, is_set) in [("x-kubernetes-preserve-unknown-fields", keeps), ("x-kubernetes-embedded-resource", embedded)] {
            if is_set {
                errors.invalid(&path.child(key), &Value::Bool(true), "must be false if x-kubernetes-int-or-string is true");
            }
        }
    }
    let int_or_string = json!([{"type": "integer"}, {"type": "string"}]);
    let skip_any = *get(schema, "anyOf") == int_or_string;
    let skip_first = list(schema, "allOf").first().is_some_and(|first| *get(first, "anyOf") == int_or_string);
    value_validation(errors, path, schema, Skip { any: skip_any, first: skip_first });
    types(errors, path, schema, level);
    if embedded && has(schema, "additionalProperties") {
        errors.forbidden(&additional, "must not be used if x-kubernetes-embedded-resource is set");
    }
    if level == Level::Root || embedded {
        for name in ["kind", "apiVersion"] {
            if let Some(property) = get(schema, "properties").get(name).filter(|property| text(property, "type") != "string") {
                errors.invalid(&properties_path.key(name).child("type"), text(property, "type"), "must be string");
            }
        }
        if let Some(metadata) = get(schema, "properties").get("metadata") {
            metadata_schema(errors, &properties_path.key("metadata"), metadata, level);
        }
    }
    if embedded && !keeps && properties(schema).next().is_none() {
        errors.required(
            &properties_path,
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
}

fn types(errors: &mut Errors, path: &Path<'_>, schema: &Value, level: Level) {
    let (kind, path) = (text(schema, "type"), path.child("type"));
    let is_open = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    if flag(schema, "x-kubernetes-embedded-resource") && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        if kind.is_empty() {
            errors.required(&path, detail);
        } else {
            errors.invalid(&path, kind, detail);
        }
    } else if kind.is_empty() && !is_open {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(&path, detail);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(&path, kind, "must be object at the root");
    }
}

fn metadata_schema(errors: &mut Errors, path: &Path<'_>, metadata: &Value, level: Level) {
    let kind = text(metadata, "type");
    if kind != "object" {
        errors.invalid(&path.child("type"), kind, "must be object");
    }
    if level != Level::Root {
        return;
    }
    let names_only = properties(metadata).all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    let says_more = metadata.as_object().into_iter().flatten().any(|(key, value)| match key.as_str() {
        "type" | "default" => false,
        "properties" => !names_only,
        _ => !is_zero(value),
    });
    if says_more {
        errors
            .forbidden(path, "must not specify anything other than name and generateName, but metadata is implicitly specified");
    }
}

/// Which alternatives are those of `x-kubernetes-int-or-string`, and may name types.
#[derive(Clone, Copy, Default)]
struct Skip {
    any: bool,
    first: bool,
}

fn value_validation(errors: &mut Errors, path: &Path<'_>, schema: &Value, skip: Skip) {
    junctors(schema, &mut |key, index, one| {
        if skip.any && key == "anyOf" {
            return;
        }
        let (list_path, whole) = (path.child(key), path.child(key));
        let path = index.map_or(whole, |index| list_path.index(index));
        nested(errors, &path, one, Skip { any: skip.first && key == "allOf" && index == Some(0), first: false });
    });
    let pattern = text(schema, "pattern");
    if let Some(why) = pattern_error(pattern) {
        errors.invalid(&path.child("pattern"), pattern, format!("must be a valid regular expression, but isn't: {why}"));
    }
}

fn nested(errors: &mut Errors, path: &Path<'_>, schema: &Value, skip: Skip) {
    value_validation(errors, path, schema, skip);
    if let Some(items) = inner(schema, "items") {
        nested(errors, &path.child("items"), items, Skip::default());
    }
    let properties_path = path.child("properties");
    for (name, property) in properties(schema) {
        nested(errors, &properties_path.key(name), property, Skip::default());
    }
    let additional = get(schema, "additionalProperties");
    if additional.is_object() || *additional == Value::Bool(true) {
        errors.forbidden(&path.child("additionalProperties"), "must be undefined to be structural");
    }
    for (key, detail) in [
        ("type", "must be empty to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("externalDocs", "must be undefined to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        let value = get(schema, key);
        let is_set = if detail.contains("undefined") { !value.is_null() } else { !is_zero(value) };
        if is_set {
            errors.forbidden(&path.child(key), detail);
        }
    }
    if get(schema, "properties").get("metadata").is_some() {
        errors.forbidden(&properties_path.key("metadata"), "must not be specified in a nested context");
    }
}

/// Where a schema of a value is, and where what must declare it.
#[derive(Clone, Copy)]
struct Place<'a> {
    structural: &'a Path<'a>,
    value: &'a Path<'a>,
}

/// Whatever an alternative speaks of is declared.
fn complete(errors: &mut Errors, at: Place<'_>, schema: &Value, declared: Option<&Value>) {
    let Some(declared) = declared else {
        errors.required(at.structural, &format!("because it is defined in {}", at.value));
        return;
    };
    junctors(schema, &mut |key, index, one| {
        let (list_path, whole) = (at.value.child(key), at.value.child(key));
        let value = index.map_or(whole, |index| list_path.index(index));
        complete(errors, Place { value: &value, ..at }, one, Some(declared));
    });
    if let Some(items) = inner(schema, "items") {
        let (structural, value) = (at.structural.child("items"), at.value.child("items"));
        complete(errors, Place { structural: &structural, value: &value }, items, inner(declared, "items"));
    }
    let (structural, value) = (at.structural.child("properties"), at.value.child("properties"));
    for (name, property) in properties(schema) {
        let (structural, value) = (structural.key(name), value.key(name));
        complete(
            errors,
            Place { structural: &structural, value: &value },
            property,
            get(declared, "properties").get(name.as_str()),
        );
    }
}
