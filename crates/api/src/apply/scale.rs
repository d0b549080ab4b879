//! Owners of an object's replicas as owners of its scale, and back.
//!
//! Source: apimachinery pkg/util/managedfields/scalehandler.go.

use serde_json::Value;

use super::element::Path;
use super::field_manager::Versions;
use super::managers::{ManagedError, Managers, Owned, decode, encode};
use super::set::Set;

const SCALE_VERSION: &str = "autoscaling/v1";
/// Where a scale has its replicas.
const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// The managers of an object whose replicas a scale shows.
#[derive(Debug, Clone)]
pub struct ScaleFields<'a> {
    parent: Managers,
    api_version: &'a str,
    versions: Versions,
    path: &'a [&'a str],
}

impl<'a> ScaleFields<'a> {
    /// Reads the `managedFields` of an object of `api_version`, which keeps its replicas at `path`.
    ///
    /// # Errors
    /// What does not follow the format.
    pub fn new(
        entries: Option<&Value>,
        api_version: &'a str,
        versions: Versions,
        path: &'a [&'a str],
    ) -> Result<Self, ManagedError> {
        Ok(Self { parent: decode(entries)?, api_version, versions, path })
    }

    fn knows(&self, owned: &Owned) -> bool {
        self.versions.know(self.api_version, &owned.api_version)
    }

    /// `managedFields` of the scale: of those who own the replicas.
    pub fn of_scale(&self) -> Option<Value> {
        let path = Path::fields(self.path);
        let owners = self.parent.iter().filter(|(_, owned)| self.knows(owned) && owned.set.has(&path.0));
        let managers = owners.map(|(id, owned)| {
            let set = Set::of_fields(&[&REPLICAS]);
            (id.clone(), Owned { set, api_version: SCALE_VERSION.to_owned(), ..owned.clone() })
        });
        encode(&managers.collect())
    }

    /// `managedFields` of the object after a write of its scale, whose managers are `entries` now.
    ///
    /// # Errors
    /// What does not follow the format.
    pub fn of_parent(self, entries: Option<&Value>) -> Result<Option<Value>, ManagedError> {
        let (own, path) = (Path::fields(self.path), Path::fields(&REPLICAS));
        let mut scale = decode(entries)?;
        let mut managers = Managers::new();
        for (id, owned) in &self.parent {
            if !self.knows(owned) {
                continue;
            }
            let mut owned = owned.clone();
            if owned.set.has(&own.0) && scale.remove(id).is_none() {
                owned.set = owned.set.difference(&Set::of_fields(&[self.path]));
            }
            if !owned.set.is_empty() {
                managers.insert(id.clone(), owned);
            }
        }
        for (id, owned) in scale.into_iter().filter(|(_, owned)| owned.set.has(&path.0)) {
            // The original looks the time up among the object's managers, too: a new owner has none.
            let time = self.parent.get(&id).and_then(|before| before.time.clone());
            let set = Set::of_fields(&[self.path]);
            managers.insert(id, Owned { set, api_version: self.api_version.to_owned(), applied: owned.applied, time });
        }
        Ok(encode(&managers))
    }
}
