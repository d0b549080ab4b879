//! Schemas of a document: the generated ones with the facts merged in, and lists.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::schema::{FieldFacts, SchemaFacts, definitions, facts_of};

use super::paths::resources;

const PREFIX: &str = "#/components/schemas/";

/// Schema names by kind.
pub(super) type Names = BTreeMap<String, String>;

/// A reference to a schema.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("{PREFIX}{name}")})
}

/// All schemas of a group version, and which one belongs to which kind.
pub(super) fn build(group: &str, version: &str) -> Option<(Map<String, Value>, Names)> {
    let mut names = Names::new();
    let mut schemas: Map<String, Value> = definitions(group, version)?
        .into_iter()
        .map(|(name, schema)| {
            let own = facts_of(&name);
            for gvk in &own.gvk {
                if let Some((_, kind)) = gvk.split_once(' ') {
                    names.insert(kind.to_owned(), name.clone());
                }
            }
            let schema = self::schema(&name, schema, &own);
            (name, schema)
        })
        .collect();
    for resource in resources(group, version) {
        let kind = resource.names();
        if let Some(item) = names.get(kind.kind).cloned() {
            let name = format!("{item}List");
            schemas.insert(name.clone(), list(&item, (kind.kind, &format!("{}List", kind.kind)), group, version));
            names.insert(format!("{}List", kind.kind), name);
        }
    }
    schemas.insert(
        "io.k8s.apimachinery.pkg.apis.meta.v1.Patch".to_owned(),
        json!({
            "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
            "type": "object",
        }),
    );
    Some((schemas, names))
}

fn schema(name: &str, mut schema: Value, facts: &SchemaFacts) -> Value {
    match name.rsplit('.').next() {
        Some("IntOrString") => {
            schema = json!({"description": schema["description"], "format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]});
        }
        Some("Quantity") => {
            schema = json!({"description": schema["description"], "oneOf": [{"type": "string"}, {"type": "number"}]});
        }
        // Any value at all.
        Some("JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray") => {
            schema = json!({"description": schema["description"]});
        }
        _ => {}
    }
    let Some(object) = schema.as_object_mut() else { return schema };
    object.remove("title");
    object.remove("required");
    if !facts.required.is_empty() {
        object.insert("required".into(), facts.required.clone().into());
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        let none = FieldFacts::default();
        for (field, schema) in properties.iter_mut() {
            property(schema, facts.fields.get(field).unwrap_or(&none));
        }
    }
    if !facts.gvk.is_empty() {
        let gvks: Vec<Value> = facts
            .gvk
            .iter()
            .filter_map(|gvk| {
                let (api_version, kind) = gvk.split_once(' ')?;
                let (group, version) = api_version.split_once('/')?;
                Some(json!({"group": group, "version": version, "kind": kind}))
            })
            .collect();
        object.insert("x-kubernetes-group-version-kind".into(), gvks.into());
    }
    if let Some(kind) = &facts.map_type {
        object.insert("x-kubernetes-map-type".into(), kind.as_str().into());
    }
    if let Some(unions) = &facts.unions {
        object.insert("x-kubernetes-unions".into(), unions.clone());
    }
    schema
}

fn property(schema: &mut Value, facts: &FieldFacts) {
    wrap(schema);
    let Some(object) = schema.as_object_mut() else { return };
    let mut add = |key: &str, value: Value| {
        object.insert(key.to_owned(), value);
    };
    if let Some(kind) = &facts.list {
        add("x-kubernetes-list-type", kind.as_str().into());
    }
    if !facts.keys.is_empty() {
        add("x-kubernetes-list-map-keys", facts.keys.clone().into());
    }
    if let Some(kind) = &facts.map {
        add("x-kubernetes-map-type", kind.as_str().into());
    }
    if let Some(strategy) = &facts.patch {
        add("x-kubernetes-patch-strategy", strategy.as_str().into());
    }
    if let Some(key) = &facts.merge_key {
        add("x-kubernetes-patch-merge-key", key.as_str().into());
    }
    if let Some(allowed) = &facts.allowed {
        add("enum", allowed.clone());
    }
    if let Some(default) = &facts.default {
        add("default", default.clone());
    }
}

/// A reference may have no neighbours: it moves into an `allOf`.
fn wrap(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(reference) = object.remove("$ref") {
        object.insert("allOf".into(), json!([{"$ref": reference}]));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            wrap(inner);
        }
    }
}

/// The schema of lists: of `item`, whose kind and whose lists' kind are given.
pub(super) fn list(item: &str, (kind, list_kind): (&str, &str), group: &str, version: &str) -> Value {
    json!({
        "description": format!("{list_kind} is a list of {kind} objects."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": "Version of this representation of the object.", "type": "string"},
            "items": {
                "description": "The objects.",
                "type": "array",
                "items": {"allOf": [reference(item)], "default": {}},
            },
            "kind": {"description": "Kind of the list.", "type": "string"},
            "metadata": {
                "description": "Standard list metadata.",
                "allOf": [reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")],
                "default": {},
            },
        },
        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": list_kind}],
    })
}
