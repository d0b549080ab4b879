//! Every resource with its kind and its cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::gvk;
use daruma_kinds::{Kind, Scope};

use crate::cache::ResourceCache;
use crate::storage::{Extractor, Head, keys};

/// Objects that have this field are filed by it (pkg/registry/core/pod `Indexers`).
const INDEXED_FIELD: &str = "spec.nodeName";

/// One resource in one version.
pub struct Resource {
    /// What it is.
    pub kind: &'static dyn Kind,
    /// Begin of its stored objects.
    pub head: Head,
    /// Prefix of its store keys.
    pub prefix: String,
    /// Its objects.
    pub cache: Arc<ResourceCache>,
}

impl Resource {
    fn new(kind: &'static dyn Kind) -> Self {
        let names = kind.names();
        Self {
            kind,
            head: Head::new(&gvk::api_version(names.group, names.version), names.kind),
            prefix: keys::prefix(names.group, names.plural),
            cache: Arc::new(ResourceCache::new(
                Extractor::new(kind.selectable_fields()),
                kind.selectable_fields().iter().position(|field| *field == INDEXED_FIELD),
            )),
        }
    }

    /// API group; empty for core.
    pub fn group(&self) -> &'static str {
        self.kind.names().group
    }
    /// Plural.
    pub fn plural(&self) -> &'static str {
        self.kind.names().plural
    }
    /// Kind.
    pub fn kind_name(&self) -> &'static str {
        self.kind.names().kind
    }
    /// `group/version`.
    pub fn api_version(&self) -> String {
        gvk::api_version(self.kind.names().group, self.kind.names().version)
    }
    /// Whether objects live in namespaces.
    pub fn is_namespaced(&self) -> bool {
        self.kind.names().scope == Scope::Namespaced
    }
    /// Whether `verb` is served on the main resource.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.kind.names().verbs.contains(&verb)
    }
    /// Whether this is `group`'s resource `plural`.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group() == group && self.plural() == plural
    }
    /// The store key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        let namespace = if self.is_namespaced() { namespace } else { "" };
        format!("{}{}", self.prefix, keys::object(namespace, name))
    }
    /// The number of a selectable field.
    pub fn field_index(&self, path: &str) -> Option<usize> {
        self.kind.selectable_fields().iter().position(|field| *field == path)
    }
}

/// All resources, by group, version and plural.
pub struct Registry {
    by_name: BTreeMap<String, Arc<Resource>>,
}

impl Registry {
    /// A registry of `kinds`.
    pub fn new(kinds: &[&'static dyn Kind]) -> Self {
        let by_name = kinds
            .iter()
            .map(|kind| {
                let names = kind.names();
                (key(names.group, names.version, names.plural), Arc::new(Resource::new(*kind)))
            })
            .collect();
        Self { by_name }
    }

    /// One resource.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_name.get(&key(group, version, plural))
    }

    /// One resource in whatever version.
    pub fn find(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.all().find(|resource| resource.is(group, plural))
    }

    /// The resource of a kind.
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.all().find(|resource| {
            let names = resource.kind.names();
            names.group == group && names.version == version && names.kind == kind
        })
    }

    /// All resources, ordered by group, version and plural.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_name.values()
    }
}

fn key(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}
