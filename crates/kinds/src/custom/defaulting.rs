//! Defaults of custom resources, and nulls that stand for nothing.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/defaulting/{algorithm,prunenulls}.go.

use serde_json::Value;

use super::schema::Schema;

/// Removes nulls that are no values of their type and have no default. Nulls that have one are left for [`fill`].
pub(super) fn prune_nulls(value: &mut Value, schema: Option<&Schema>) {
    match value {
        Value::Object(members) => {
            members.retain(|name, member| {
                let of = schema.and_then(|schema| schema.member(name));
                !(member.is_null() && of.is_some_and(|of| !of.nullable && of.default.is_none()))
            });
            for (name, member) in members.iter_mut() {
                prune_nulls(member, schema.and_then(|schema| schema.member(name)));
            }
        }
        Value::Array(items) => {
            let of = schema.and_then(|schema| schema.items.as_deref());
            for item in items {
                prune_nulls(item, of);
            }
        }
        _ => {}
    }
}

/// Fills in defaults.
pub(super) fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(members) => {
            for (name, of) in &schema.properties {
                if let Some(default) = &of.default
                    && members.get(&**name).is_none_or(|member| member.is_null() && !of.nullable)
                {
                    members.insert(name.to_string(), default.clone());
                }
            }
            for (name, member) in members.iter_mut() {
                if let Some(of) = schema.member(name) {
                    fill_null(member, of);
                    fill(member, of);
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                for item in items {
                    fill_null(item, of);
                    fill(item, of);
                }
            }
        }
        _ => {}
    }
}

fn fill_null(value: &mut Value, schema: &Schema) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
}
