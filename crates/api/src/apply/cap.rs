//! Old updates of many managers become those of one.
//!
//! Source: apimachinery pkg/util/managedfields/internal/capmanagers.go.

use std::collections::BTreeMap;

use super::managers::{ManagerId, Managers, Operation};

/// Managers that updated; more are merged, oldest first (`DefaultMaxUpdateManagers`).
const MOST: usize = 10;
/// The manager to whom they are merged.
const OLD_UPDATES: &str = "ancient-changes";

/// Merges the oldest updates, by version, until at most [`MOST`] managers of updates are left.
pub(super) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<(Option<String>, ManagerId)> =
        managers.iter().filter(|(_, owned)| !owned.applied).map(|(id, owned)| (owned.time.clone(), id.clone())).collect();
    let mut count = updaters.len();
    if count <= MOST {
        return;
    }
    updaters.sort();
    let mut first_of_version: BTreeMap<String, ManagerId> = BTreeMap::new();
    for (time, id) in updaters {
        if count <= MOST {
            return;
        }
        let Some(version) = managers.get(&id).map(|owned| owned.api_version.clone()) else { continue };
        let Some(first) = first_of_version.get(&version) else {
            first_of_version.insert(version, id);
            continue;
        };
        let bucket = ManagerId::new(OLD_UPDATES, Operation::Update, &version, "");
        if !managers.contains_key(&bucket)
            && let Some(owned) = managers.remove(first)
        {
            managers.insert(bucket.clone(), owned);
        }
        if id != bucket
            && let Some(owned) = managers.remove(&id)
            && let Some(merged) = managers.get_mut(&bucket)
        {
            merged.set = owned.set.union(&merged.set);
            merged.time = time;
            count -= 1;
        }
    }
}
