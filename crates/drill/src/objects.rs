//! Which kinds a drill knows, and where their objects live in the API.

use daruma_api::gvk::split_api_version;
use daruma_kinds::custom::CustomKind;
use daruma_kinds::{AnyKind, Kind, Scope};
use serde_json::{Value, json};

use crate::file::{Action, Drill, Workload};

/// The kinds that a drill may name: the built-in ones, and those that it defines itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kinds {
    custom: Vec<AnyKind>,
}

impl Kinds {
    /// Of a drill: CustomResourceDefinitions among its manifests and among what its steps apply make kinds.
    pub fn of(drill: &Drill) -> Self {
        let applied = drill.spec.steps.iter().filter_map(|step| match &step.action {
            Action::Apply(objects) => Some(objects.as_slice()),
            _ => None,
        });
        let definitions = drill.spec.manifests.iter().chain(applied.flatten()).filter(|object| is_definition(object));
        Self { custom: definitions.flat_map(|definition| CustomKind::of(&accepted(definition))).map(AnyKind::Custom).collect() }
    }

    fn all(&self) -> impl Iterator<Item = AnyKind> {
        daruma_kinds::ALL.iter().map(|kind| AnyKind::BuiltIn(*kind)).chain(self.custom.iter().cloned())
    }

    /// The kind that kubectl knows by this word: plural, singular or short name.
    pub fn called(&self, word: &str) -> Option<AnyKind> {
        let word = word.to_ascii_lowercase();
        self.all().find(|kind| {
            let names = kind.names();
            names.plural == word || names.singular == word || names.short_names.contains(&word.as_str())
        })
    }
}

/// Whether an object defines a kind.
pub(crate) fn is_definition(object: &Value) -> bool {
    object["kind"] == "CustomResourceDefinition" && object["apiVersion"] == "apiextensions.k8s.io/v1"
}

/// A definition with the names that it will have been given, if nobody else has them.
fn accepted(definition: &Value) -> Value {
    let mut names = definition["spec"]["names"].clone();
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    for (key, default) in [("singular", kind.to_ascii_lowercase()), ("listKind", format!("{kind}List"))] {
        if names.is_object() && names[key].as_str().unwrap_or_default().is_empty() {
            names[key] = default.into();
        }
    }
    let mut definition = definition.clone();
    if let Some(fields) = definition.as_object_mut() {
        fields.insert("status".into(), json!({"acceptedNames": names}));
    }
    definition
}

/// An object's place in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// URL of the collection it is in.
    pub collection: String,
    /// Its name.
    pub name: String,
    /// As people name it, e.g. `node/worker-1`.
    pub shown: String,
    /// Whether the drill defines the kind itself.
    pub is_custom: bool,
}

impl Place {
    /// The place of an object.
    ///
    /// # Errors
    /// In words, where it is no object of a known kind with a name.
    pub fn of(object: &Value, kinds: &Kinds) -> Result<Self, String> {
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
        Self::named(kinds, text("/apiVersion"), text("/kind"), namespace, text("/metadata/name"))
    }

    /// The place of an object that is named in pieces.
    ///
    /// # Errors
    /// In words, where there is no such kind.
    pub fn named(kinds: &Kinds, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Self, String> {
        let (group, version) = split_api_version(api_version);
        let of_kind = |one: &AnyKind| one.names().group == group && one.names().version == version && one.names().kind == kind;
        let Some(found) = kinds.all().find(of_kind) else {
            let elsewhere = kinds.all().map(|one| one.names()).find(|names| names.kind == kind);
            return Err(match elsewhere {
                Some(names) => {
                    let right = daruma_api::gvk::api_version(names.group, names.version);
                    format!("kind {kind} is in {right}, not in {api_version}")
                }
                None => format!("there is no kind {kind} in {api_version}, and the drill defines none"),
            });
        };
        Ok(Self {
            collection: collection(&*found, Some(namespace)),
            name: name.to_owned(),
            shown: format!("{}/{name}", found.names().singular),
            is_custom: matches!(found, AnyKind::Custom(_)),
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
            match (Place::of(&object, &Kinds::default()), expected) {
                (Ok(place), Ok(expected)) => assert_eq!(place.path(), expected),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn kinds_of_the_drill_itself() {
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "crontabs.stable.example.com"},
            "spec": {"group": "stable.example.com", "scope": "Namespaced", "names": {"plural": "crontabs", "kind": "CronTab"},
                "versions": [{"name": "v1", "served": true, "storage": true}, {"name": "v0", "served": false, "storage": false}]}});
        let kinds = Kinds { custom: CustomKind::of(&accepted(&definition)).into_iter().map(AnyKind::Custom).collect() };
        let object = |version: &str| json!({"apiVersion": format!("stable.example.com/{version}"), "kind": "CronTab", "metadata": {"name": "a"}});
        let place = Place::of(&object("v1"), &kinds).expect("it is defined");
        assert_eq!(place.path(), "/apis/stable.example.com/v1/namespaces/default/crontabs/a");
        assert_eq!(place.shown, "crontab/a");
        assert!(Place::of(&object("v0"), &kinds).expect_err("not served").contains("is in stable.example.com/v1, not in"));
        assert!(Place::of(&object("v1"), &Kinds::default()).expect_err("unknown").ends_with("and the drill defines none"));
        assert_eq!(kinds.called("crontab").expect("a kind").names().plural, "crontabs");
        assert!(is_definition(&definition) && Place::of(&definition, &Kinds::default()).is_ok());
    }
}
