//! Which custom resources are served: those of definitions whose names are accepted.
//!
//! A resource is replaced when its specification or its names change; its objects stay, and its watches end, so that
//! clients come back and see it as it is now (kubernetes apiextensions-apiserver pkg/apiserver/customresource_handler.go).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_api::gvk;
use daruma_kinds::Kind;
use daruma_kinds::custom::CustomKind;
use serde_json::Value;

use super::definition::Definition;
use super::names::{ESTABLISHED, NAMES_ACCEPTED};
use super::{GROUP, TERMINATING};
use crate::cache::ResourceCache;
use crate::document::{self, elements, texts};
use crate::registry::{Resource, Stage};
use crate::server::ApiServer;
use crate::storage::{Extractor, Head, Renew, keys};

/// What is served, by the name of the definition.
#[derive(Default)]
pub struct Serving {
    served: BTreeMap<String, Served>,
    /// Whether the definitions of the start have been seen.
    begun: bool,
}

/// The resource of one definition.
struct Served {
    /// What is at [`MADE_OF`].
    made_of: [Value; 3],
    stage: Stage,
    kinds: Vec<Arc<CustomKind>>,
    prefix: String,
    cache: Arc<ResourceCache>,
    /// Selectable fields of all versions, as the cache reads them.
    fields: Vec<&'static str>,
    /// Objects that were written before this revision may not follow the schema of today.
    schema_revision: u64,
    needs_conversion: bool,
    resources: Vec<Arc<Resource>>,
}

impl Serving {
    /// Brings the server's registry up to the definitions.
    pub fn update(&mut self, server: &ApiServer, definitions: &[Definition]) {
        let wanted: Vec<(&Definition, Stage)> = definitions.iter().filter_map(|one| Some((one, stage(server, one)?))).collect();
        let mut changed = false;
        let mut ended = Vec::new();
        let names: BTreeSet<&str> = wanted.iter().map(|(one, _)| one.name()).collect();
        self.served.retain(|name, served| {
            let stays = names.contains(name.as_str());
            if !stays {
                server.feed.unregister(&served.prefix);
                ended.push(served.cache.clone());
                changed = true;
            }
            stays
        });
        for (definition, stage) in wanted {
            match self.served.get_mut(definition.name()) {
                Some(served) if served.is_of(definition) && served.stage == stage => continue,
                Some(served) if served.is_of(definition) => {
                    served.stage = stage;
                    served.make_resources();
                }
                before => {
                    ended.extend(before.as_ref().map(|before| before.cache.clone()));
                    let since = if self.begun { server.feed.seen().max(definition.revision) } else { definition.revision };
                    let served = Served::new(definition, stage, before.map(|before| &*before), since);
                    server.feed.register(&served.prefix, served.cache.clone());
                    self.served.insert(definition.name().to_owned(), served);
                }
            }
            changed = true;
        }
        self.begun = true;
        if changed {
            server.registry.set_custom(self.served.values().flat_map(|served| served.resources.iter().cloned()));
        }
        for cache in ended {
            cache.end_watches();
        }
    }
}

/// How far a definition has come; `None` where it serves nothing.
fn stage(server: &ApiServer, definition: &Definition) -> Option<Stage> {
    let plural = document::text(&definition.object, "/spec/names/plural");
    // A built-in resource has the same place in the store, and is served itself.
    if server.registry.built_in_somewhere(definition.group(), plural).is_some() || definition.group() == GROUP {
        tracing::debug!(definition = definition.name(), "a built-in resource is in its place");
        return None;
    }
    let is_established = definition.is(ESTABLISHED);
    if !is_established && !definition.is(NAMES_ACCEPTED) {
        return None;
    }
    Some(if !is_established {
        Stage::Installing
    } else if definition.is(TERMINATING) {
        Stage::Terminating
    } else {
        Stage::Established
    })
}

/// What makes a resource what it is: another uid, specification or names make another of it.
const MADE_OF: [&str; 3] = ["/metadata/uid", "/spec", "/status/acceptedNames"];

impl Served {
    fn new(definition: &Definition, stage: Stage, before: Option<&Self>, schema_revision: u64) -> Self {
        let made_of = MADE_OF.map(|pointer| definition.object.pointer(pointer).cloned().unwrap_or_default());
        let kinds = CustomKind::of(&without_conditions(&definition.object));
        let prefix = keys::prefix(definition.group(), document::text(&definition.object, "/status/acceptedNames/plural"));
        let mut fields: Vec<&'static str> = kinds.iter().flat_map(|kind| kind.selectable_fields()).copied().collect();
        fields.sort_unstable();
        fields.dedup();
        let kept = before.filter(|before| before.prefix == prefix && before.fields == fields);
        let cache =
            kept.map_or_else(|| Arc::new(ResourceCache::new(Extractor::new(&fields), None)), |before| before.cache.clone());
        let stored = texts(&definition.object, "/status/storedVersions");
        let needs_conversion = stored.len() > 1;
        let mut served =
            Self { made_of, stage, kinds, prefix, cache, fields, schema_revision, needs_conversion, resources: Vec::new() };
        served.make_resources();
        served
    }

    fn is_of(&self, definition: &Definition) -> bool {
        MADE_OF
            .iter()
            .zip(&self.made_of)
            .all(|(pointer, part)| definition.object.pointer(pointer).unwrap_or(&Value::Null) == part)
    }

    fn make_resources(&mut self) {
        let make = |kind: &Arc<CustomKind>| {
            let head = head(kind, &self.kinds, self.schema_revision);
            let mut resource = Resource::custom(kind.clone(), head, self.cache.clone(), &self.fields, self.stage);
            let stored = kind.storage_version();
            let is_converted = kind.names().version != stored || self.needs_conversion;
            resource.needs_webhook = kind.needs_webhook() && is_converted;
            Arc::new(resource)
        };
        self.resources = self.kinds.iter().map(make).collect();
    }
}

/// A resource is as its definition says, and not as it is doing: what ends early while it is being deleted, the stage tells.
fn without_conditions(definition: &Value) -> Value {
    let mut bare = definition.clone();
    document::child(&mut bare, "status").remove("conditions");
    bare
}

/// The head of a version's objects. What is older than the schema gets its defaults when it is read, and loses what the
/// schema does not know; so does what is stored in another version.
fn head(kind: &Arc<CustomKind>, versions: &[Arc<CustomKind>], schema_revision: u64) -> Head {
    let names = kind.names();
    let shown = gvk::api_version(names.group, names.version);
    let stored = gvk::api_version(names.group, kind.storage_version());
    let defaults = versions.iter().find(|one| one.names().version == kind.storage_version()).unwrap_or(kind).clone();
    let pruned = kind.clone();
    let renew: Renew = Arc::new(move |object| {
        defaults.default(object);
        if let Err(error) = pruned.check_fields(object, true) {
            tracing::debug!(%error, "a stored object does not fit the schema of today");
        }
    });
    Head::custom(&shown, &stored, names.kind, schema_revision, renew)
}

/// The storage version of a definition as a resource, served or not, to delete its objects.
pub fn stored_resource(definition: &Value) -> Option<Resource> {
    let mut all_served = without_conditions(definition);
    for version in elements(document::child(&mut all_served, "spec"), "versions") {
        version["served"] = true.into();
    }
    let kinds = CustomKind::of(&all_served);
    let kind = kinds.iter().find(|kind| kind.names().version == kind.storage_version())?;
    let fields = kind.selectable_fields();
    let cache = Arc::new(ResourceCache::new(Extractor::new(fields), None));
    Some(Resource::custom(kind.clone(), head(kind, &kinds, u64::MAX), cache, fields, Stage::Terminating))
}
