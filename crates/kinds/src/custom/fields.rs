//! Unknown members of custom objects, and the types of the metadata in them.
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/pruning/algorithm.go and pkg/apiserver/schema/objectmeta/{algorithm,coerce}.go.

use serde_json::{Map, Value};

use super::schema::{Additional, Schema};
use crate::schema::check_metadata;

const OF_OBJECTS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Checks a whole object: gives its unknown members, each as the real server words it, and removes them where `prune` is
/// set. Without a schema nothing but the metadata is known of the object, and all of it is kept.
///
/// # Errors
/// Metadata of a wrong type, or an `apiVersion` or `kind` that is no text.
pub(super) fn check(schema: Option<&Schema>, object: &mut Value, prune: bool) -> Result<Vec<String>, String> {
    let Value::Object(members) = object else {
        return Err("json: cannot unmarshal into an object".to_owned());
    };
    let mut walk = Walk { prune, unknown: Vec::new() };
    // The object's own metadata first, then what the schema does not know, then metadata inside of it.
    walk.metadata(members, "", |_, why| why)?;
    let mut found = std::mem::take(&mut walk.unknown);
    if let Some(schema) = schema {
        walk.members(members, Some(schema), true, "");
        walk.unknown.sort();
        found.append(&mut walk.unknown);
        walk.coerce_members(members, schema, "")?;
        walk.unknown.sort();
        found.append(&mut walk.unknown);
    }
    Ok(found.into_iter().map(|path| format!("unknown field \"{path}\"")).collect())
}

/// Removes what a schema does not know from a value.
pub(super) fn prune(schema: &Schema, value: &mut Value) {
    Walk { prune: true, unknown: Vec::new() }.value(value, Some(schema), "");
}

/// Checks the types of the metadata of embedded objects in a value.
///
/// # Errors
/// Those of a wrong type.
pub(super) fn check_embedded(schema: &Schema, value: &mut Value) -> Result<(), String> {
    Walk { prune: true, unknown: Vec::new() }.coerce(value, schema, "")
}

struct Walk {
    prune: bool,
    unknown: Vec<String>,
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Walk {
    /// Types and members of an object's metadata, `apiVersion` and `kind`.
    /// `blame` words what is wrong with metadata that are said before it.
    fn metadata(
        &mut self,
        object: &mut Map<String, Value>,
        path: &str,
        blame: impl FnOnce(&Value, String) -> String,
    ) -> Result<(), String> {
        for key in ["apiVersion", "kind"] {
            if let Some(value) = object.get(key).filter(|value| !value.is_string()) {
                return Err(format!("{}: Invalid value: {value}: must be a string", join(path, key)));
            }
        }
        let Some(metadata) = object.get_mut("metadata") else { return Ok(()) };
        let path = join(path, "metadata");
        if metadata.is_null() {
            *metadata = Value::Object(Map::new());
        }
        let before = metadata.clone();
        let found = check_metadata(metadata, self.prune).map_err(|why| blame(&before, why))?;
        for one in found {
            let inner = one.trim_start_matches("unknown field \"").trim_end_matches('"');
            self.unknown.push(join(&path, inner));
        }
        Ok(())
    }

    /// Embedded objects and their metadata.
    fn coerce(&mut self, value: &mut Value, schema: &Schema, path: &str) -> Result<(), String> {
        match value {
            Value::Object(members) => {
                if schema.embedded {
                    let at = join(path, "metadata");
                    self.metadata(members, path, |value, why| format!("{at}: Invalid value: {value}: {why}"))?;
                }
                self.coerce_members(members, schema, path)
            }
            Value::Array(items) => {
                let Some(of) = &schema.items else { return Ok(()) };
                items.iter_mut().enumerate().try_for_each(|(index, item)| self.coerce(item, of, &format!("{path}[{index}]")))
            }
            _ => Ok(()),
        }
    }

    fn coerce_members(&mut self, members: &mut Map<String, Value>, schema: &Schema, path: &str) -> Result<(), String> {
        for (name, member) in members.iter_mut() {
            if let Some(of) = schema.member(name) {
                self.coerce(member, of, &join(path, name))?;
            }
        }
        Ok(())
    }

    fn value(&mut self, value: &mut Value, schema: Option<&Schema>, path: &str) {
        match value {
            Value::Object(members) => self.members(members, schema, schema.is_some_and(|schema| schema.embedded), path),
            Value::Array(items) => {
                let keeps = schema.is_some_and(|schema| schema.preserve);
                let of = schema.and_then(|schema| schema.items.as_deref());
                if keeps && of.is_none() {
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    let path = format!("{path}[{index}]");
                    match of {
                        // Below what keeps unknown members, elements keep them as well.
                        Some(of) if keeps => self.kept(item, of, &path),
                        of => self.value(item, of, &path),
                    }
                }
            }
            _ => {}
        }
    }

    /// Goes through a value whose unknown members stay.
    fn kept(&mut self, value: &mut Value, schema: &Schema, path: &str) {
        match value {
            Value::Object(members) => self.declared(members, schema, schema.embedded, path),
            Value::Array(items) => {
                let Some(of) = &schema.items else { return };
                for (index, item) in items.iter_mut().enumerate() {
                    self.kept(item, of, &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }

    fn members(&mut self, members: &mut Map<String, Value>, schema: Option<&Schema>, is_object: bool, path: &str) {
        if let Some(schema) = schema.filter(|schema| schema.preserve) {
            self.declared(members, schema, is_object, path);
            return;
        }
        let mut leaves = false;
        for (name, member) in members.iter_mut() {
            if is_object && OF_OBJECTS.contains(&name.as_str()) {
                continue;
            }
            if !self.member(name, member, schema, path) {
                self.unknown.push(join(path, name));
                leaves = true;
            }
        }
        if leaves && self.prune {
            members.retain(|name, _| {
                let known = schema.is_some_and(|schema| {
                    schema.properties.contains_key(name.as_str()) || !matches!(schema.additional, Additional::None)
                });
                known || (is_object && OF_OBJECTS.contains(&name.as_str()))
            });
        }
    }

    /// The declared members of an object that keeps the others.
    fn declared(&mut self, members: &mut Map<String, Value>, schema: &Schema, is_object: bool, path: &str) {
        for (name, member) in members.iter_mut() {
            if is_object && OF_OBJECTS.contains(&name.as_str()) {
                continue;
            }
            self.member(name, member, Some(schema), path);
        }
    }

    /// Goes into a member; `false` where the schema does not know it.
    fn member(&mut self, name: &str, member: &mut Value, schema: Option<&Schema>, path: &str) -> bool {
        let Some(schema) = schema else { return false };
        match (schema.member(name), &schema.additional) {
            (None, Additional::None) => return false,
            (of, _) => self.value(member, of, &join(path, name)),
        }
        true
    }
}
