//! Every resource with its kind and its cache: the built-in ones, which stay, and the custom ones, which come, change and
//! go while the server runs.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use daruma_api::gvk;
use daruma_kinds::custom::CustomKind;
use daruma_kinds::{AnyKind, Kind, Scope};

use crate::cache::ResourceCache;
use crate::storage::{Extractor, Head, keys};

/// Objects that have this field are filed by it (pkg/registry/core/pod `Indexers`).
const INDEXED_FIELD: &str = "spec.nodeName";

/// Whether a custom resource is shown by discovery, and takes new objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its names are accepted: it is served, and not told of yet.
    Installing,
    /// It is served and told of. So is every built-in resource.
    Established,
    /// Its definition is being deleted: objects go, and none come.
    Terminating,
}

/// One resource in one version.
pub struct Resource {
    /// What it is.
    pub kind: AnyKind,
    /// Begin of its stored objects.
    pub head: Head,
    /// Prefix of its store keys.
    pub prefix: String,
    /// Its objects; all versions of a resource share them.
    pub cache: Arc<ResourceCache>,
    /// How far it has come.
    pub stage: Stage,
    /// Whether its objects would have to be converted by a webhook, which this server does not call.
    pub needs_webhook: bool,
    /// Where the cache keeps each of the kind's selectable fields.
    fields: Vec<usize>,
}

impl Resource {
    fn built_in(kind: &'static dyn Kind) -> Self {
        let names = kind.names();
        let fields = kind.selectable_fields();
        let indexed = fields.iter().position(|field| *field == INDEXED_FIELD);
        Self {
            kind: AnyKind::BuiltIn(kind),
            head: Head::new(&gvk::api_version(names.group, names.version), names.kind),
            prefix: keys::prefix(names.group, names.plural),
            cache: Arc::new(ResourceCache::new(Extractor::new(fields), indexed)),
            stage: Stage::Established,
            needs_webhook: false,
            fields: (0..fields.len()).collect(),
        }
    }

    /// A version of a custom resource whose objects are in `cache`, which reads the dotted paths `cached`.
    pub fn custom(kind: Arc<CustomKind>, head: Head, cache: Arc<ResourceCache>, cached: &[&str], stage: Stage) -> Self {
        let names = kind.names();
        let place =
            |field: &&str| cached.iter().position(|one| one == field).expect("the cache reads the fields of all versions");
        Self {
            head,
            prefix: keys::prefix(names.group, names.plural),
            cache,
            stage,
            needs_webhook: false,
            fields: kind.selectable_fields().iter().map(place).collect(),
            kind: AnyKind::Custom(kind),
        }
    }

    /// Group, version and plural.
    fn name(&self) -> [&'static str; 3] {
        let names = self.kind.names();
        [names.group, names.version, names.plural]
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
    /// Kind of its lists.
    pub fn list_kind(&self) -> Cow<'static, str> {
        match &self.kind {
            AnyKind::BuiltIn(_) => format!("{}List", self.kind_name()).into(),
            AnyKind::Custom(kind) => kind.list_kind().into(),
        }
    }
    /// `group/version`.
    pub fn api_version(&self) -> String {
        gvk::api_version(self.kind.names().group, self.kind.names().version)
    }
    /// Whether objects live in namespaces.
    pub fn is_namespaced(&self) -> bool {
        self.kind.names().scope == Scope::Namespaced
    }
    /// The kind, where it is a custom one.
    pub fn custom_kind(&self) -> Option<&Arc<CustomKind>> {
        match &self.kind {
            AnyKind::BuiltIn(_) => None,
            AnyKind::Custom(kind) => Some(kind),
        }
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
        let separator = if namespace.is_empty() { "" } else { "/" };
        [self.prefix.as_str(), namespace, separator, name].concat()
    }
    /// The number of a selectable field in the cache's items.
    pub fn field_index(&self, path: &str) -> Option<usize> {
        let index = self.kind.selectable_fields().iter().position(|field| *field == path)?;
        self.fields.get(index).copied()
    }
}

/// Resources, ordered by group, version and plural.
type Resources = Vec<Arc<Resource>>;

/// All resources.
pub struct Registry {
    built_in: Resources,
    /// Replaced as a whole, so that nobody who reads it waits for long.
    custom: RwLock<Arc<Resources>>,
    version: AtomicU64,
}

impl Registry {
    /// A registry of built-in `kinds`.
    pub fn new(kinds: &[&'static dyn Kind]) -> Self {
        let built_in = by_name(kinds.iter().map(|kind| Arc::new(Resource::built_in(*kind))));
        Self { built_in, custom: RwLock::default(), version: AtomicU64::new(0) }
    }

    /// One resource.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        match self.built_in(group, version, plural) {
            Some(found) => Some(found.clone()),
            None => find(&self.custom(), group, version, plural).cloned(),
        }
    }

    /// One built-in resource.
    pub fn built_in(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        find(&self.built_in, group, version, plural)
    }

    /// One built-in resource in whatever version.
    pub fn built_in_somewhere(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.built_in.iter().find(|resource| resource.is(group, plural))
    }

    /// The built-in resources, ordered by group, version and plural.
    pub fn all_built_in(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.built_in.iter()
    }

    /// The custom resources of now, ordered by group, version and plural.
    pub fn custom(&self) -> Arc<Resources> {
        self.custom.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves these custom resources, and no others, from now on.
    pub fn set_custom(&self, resources: impl Iterator<Item = Arc<Resource>>) {
        let resources = Arc::new(by_name(resources));
        *self.custom.write().unwrap_or_else(PoisonError::into_inner) = resources;
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes whenever the custom resources do.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether `resource` is served as it is: it has not been taken away, nor replaced.
    pub fn is_current(&self, resource: &Arc<Resource>) -> bool {
        if resource.custom_kind().is_none() {
            return true;
        }
        let names = resource.kind.names();
        self.get(names.group, names.version, names.plural).is_some_and(|now| Arc::ptr_eq(&now, resource))
    }
}

/// The last one of each name.
fn by_name(resources: impl Iterator<Item = Arc<Resource>>) -> Resources {
    let mut resources: Resources = resources.collect();
    resources.sort_by_key(|resource| resource.name());
    resources.dedup_by(|later, earlier| {
        let is_same = later.name() == earlier.name();
        if is_same {
            std::mem::swap(later, earlier);
        }
        is_same
    });
    resources
}

fn find<'a>(resources: &'a Resources, group: &str, version: &str, plural: &str) -> Option<&'a Arc<Resource>> {
    let at = resources.binary_search_by(|resource| resource.name().cmp(&[group, version, plural])).ok()?;
    Some(&resources[at])
}
