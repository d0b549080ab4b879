//! Documents of custom resources: their schemas as they were written, with what every object has.
//!
//! Source: apiextensions-apiserver pkg/controller/openapi/builder/builder.go, pkg/apiserver/schema/unfold.go.

use serde_json::{Map, Value, json};

use super::components::{self, Names, reference};
use super::paths;
use crate::kind::Kind;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// What a document needs of a custom kind.
pub(crate) struct CustomSchema<'a> {
    /// The kind.
    pub kind: &'a dyn Kind,
    /// Kind of its lists.
    pub list_kind: &'a str,
    /// `openAPIV3Schema`; null where there is none.
    pub schema: &'a Value,
}

/// The document of a group version.
pub(crate) fn custom_document(group: &str, version: &str, kinds: &[CustomSchema<'_>]) -> Value {
    let (mut schemas, mut names) = lent();
    let mut paths = Map::new();
    let prefix = group.split('.').rev().chain([version]).collect::<Vec<_>>().join(".");
    for one in kinds {
        let own = one.kind.names();
        let (item, list) = (format!("{prefix}.{}", own.kind), format!("{prefix}.{}", one.list_kind));
        schemas.insert(item.clone(), object(one, group, version));
        schemas.insert(list.clone(), components::list(&item, (own.kind, one.list_kind), group, version));
        names.insert(own.kind.to_owned(), item);
        paths::of_kind(&mut paths, &format!("/{}", paths::root(group, version)), one.kind, &list, &names);
    }
    if kinds.iter().all(|one| one.kind.scale().is_none()) {
        schemas.retain(|name, _| !name.starts_with("io.k8s.api.autoscaling."));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// Schemas of built-in types that custom resources share: metadata, statuses, options, scales. The group version of scales
/// has all of them.
fn lent() -> (Map<String, Value>, Names) {
    components::build("autoscaling", "v1").expect("scales have a schema; a test builds them")
}

fn object(one: &CustomSchema<'_>, group: &str, version: &str) -> Value {
    let mut schema = json!({"type": "object"});
    if one.schema.is_object() {
        schema = one.schema.clone();
        unfold(&mut schema);
        add_type_meta(&mut schema);
    }
    let gvk = json!([{"group": group, "version": version, "kind": one.kind.names().kind}]);
    schema["x-kubernetes-group-version-kind"] = gvk;
    let fields: Vec<Value> = one.kind.selectable_fields().iter().map(|path| json!({"fieldPath": path})).collect();
    if !fields.is_empty() {
        schema["x-kubernetes-selectable-fields"] = fields.into();
    }
    schema
}

/// What an object has without saying so.
fn add_type_meta(schema: &mut Value) {
    let properties = crate::access::ensure(schema, "properties");
    for (name, property) in [
        ("apiVersion", json!({"type": "string", "description": "Version of this representation of the object."})),
        ("kind", json!({"type": "string", "description": "Kind of the object."})),
        ("metadata", json!({"description": "Standard object metadata.", "allOf": [reference(&format!("{META}.ObjectMeta"))]})),
    ] {
        crate::access::set(properties, name, property);
    }
}

/// Says in full what extensions say in short: numbers or texts, and embedded objects.
fn unfold(schema: &mut Value) {
    let Some(own) = schema.as_object_mut() else { return };
    if let Some(Value::Object(properties)) = own.get_mut("properties") {
        properties.values_mut().for_each(unfold);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = own.get_mut(key) {
            unfold(inner);
        }
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let is_set = |key: &str| own.get(key) == Some(&Value::Bool(true));
    if is_set("x-kubernetes-int-or-string") {
        let any = own.get("anyOf").filter(|any| any.as_array().is_some_and(|any| !any.is_empty()));
        let all = own.get("allOf").and_then(Value::as_array);
        let said = any == Some(&either) || all.is_some_and(|all| all.first().is_some_and(|first| first["anyOf"] == either));
        match (said, any.is_some()) {
            (true, _) => {}
            (false, false) => {
                own.insert("anyOf".to_owned(), either);
            }
            (false, true) => {
                let rest = all.cloned().unwrap_or_default();
                let all: Vec<Value> = std::iter::once(json!({"anyOf": either})).chain(rest).collect();
                own.insert("allOf".to_owned(), all.into());
            }
        }
    }
    if own.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        add_type_meta(schema);
        let mut required = schema["required"].as_array().cloned().unwrap_or_default();
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|one| one == name) {
                required.push(name.into());
            }
        }
        schema["required"] = required.into();
    }
}
