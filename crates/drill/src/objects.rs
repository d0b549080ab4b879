//! Where objects of built-in kinds live in the API.

use daruma_api::gvk::split_api_version;
use daruma_kinds::{Kind, Scope};
use serde_json::Value;

use crate::file::Workload;

/// An object's place in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// URL of the collection it is in.
    pub collection: String,
    /// Its name.
    pub name: String,
    /// As people name it, e.g. `node/worker-1`.
    pub shown: String,
}

impl Place {
    /// The place of an object.
    ///
    /// # Errors
    /// In words, where it is no object of a known kind with a name.
    pub fn of(object: &Value) -> Result<Self, String> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        for (path, what) in [("/apiVersion", "apiVersion"), ("/kind", "kind"), ("/metadata/name", "metadata.name")] {
            if text(path).is_empty() {
                return Err(format!("an object has apiVersion, kind and metadata.name; this one has no {what}"));
            }
        }
        let namespace = match text("/metadata/namespace") {
            "" => "default",
            namespace => namespace,
        };
        Self::named(text("/apiVersion"), text("/kind"), namespace, text("/metadata/name"))
    }

    /// The place of an object that is named in pieces.
    ///
    /// # Errors
    /// In words, where there is no such kind.
    pub fn named(api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Self, String> {
        let (group, version) = split_api_version(api_version);
        let of_kind = |one: &&&dyn Kind| one.names().group == group && one.names().version == version && one.names().kind == kind;
        let Some(found) = daruma_kinds::ALL.iter().find(of_kind) else {
            let elsewhere = daruma_kinds::ALL.iter().map(|one| one.names()).find(|names| names.kind == kind);
            return Err(match elsewhere {
                Some(names) => {
                    let right = daruma_api::gvk::api_version(names.group, names.version);
                    format!("kind {kind} is in {right}, not in {api_version}")
                }
                None => format!("there is no kind {kind} in {api_version}"),
            });
        };
        Ok(Self {
            collection: collection(*found, Some(namespace)),
            name: name.to_owned(),
            shown: format!("{}/{name}", found.names().singular),
        })
    }

    /// URL of the object.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }
}

/// URL of a kind's collection: of one namespace, or of all (`None`).
pub(crate) fn collection(kind: &dyn Kind, namespace: Option<&str>) -> String {
    let names = kind.names();
    let base = if names.group.is_empty() {
        format!("/api/{}", names.version)
    } else {
        format!("/apis/{}/{}", names.group, names.version)
    };
    match (names.scope, namespace) {
        (Scope::Namespaced, Some(namespace)) => format!("{base}/namespaces/{namespace}/{}", names.plural),
        _ => format!("{base}/{}", names.plural),
    }
}

/// The kind that kubectl knows by this word: plural, singular or short name.
pub(crate) fn kind_called(word: &str) -> Option<&'static dyn Kind> {
    let word = word.to_ascii_lowercase();
    let called = |kind: &&&'static dyn Kind| {
        let names = kind.names();
        names.plural == word || names.singular == word || names.short_names.contains(&word.as_str())
    };
    daruma_kinds::ALL.iter().find(called).copied()
}

/// The workload that an object is, where it is one.
pub(crate) fn workload_of(object: &Value) -> Option<Workload> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let namespace = text("/metadata/namespace").unwrap_or("default");
    format!("{namespace}/{}/{}", text("/kind")?.to_ascii_lowercase(), text("/metadata/name")?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places() {
        for (object, expected) in [
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}),
                Ok("/apis/apps/v1/namespaces/default/deployments/web"),
            ),
            (json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}), Ok("/api/v1/nodes/n")),
            (json!({"apiVersion": "v1", "kind": "Deployment", "metadata": {"name": "web"}}), Err("is in apps/v1, not in v1")),
            (json!({"apiVersion": "v1", "kind": "Nodes", "metadata": {"name": "web"}}), Err("no kind Nodes")),
            (json!({"apiVersion": "v1", "kind": "Pod"}), Err("no metadata.name")),
        ] {
            match (Place::of(&object), expected) {
                (Ok(place), Ok(expected)) => assert_eq!(place.path(), expected),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }
}
