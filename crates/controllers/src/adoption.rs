//! Which of the objects that match a selector a controller owns, adopts or lets go.
//!
//! Source: kubernetes pkg/controller/controller_ref_manager.go.

use std::sync::Arc;

use daruma_api::k8s_openapi::{Metadata, Resource};
use daruma_api::meta::{ObjectExt, controller_reference};
use daruma_api::metav1::ObjectMeta;
use daruma_api::selector::Selector;
use daruma_client::{Api, Patch};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::shell::SyncError;

/// What becomes of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is owned already.
    Keep,
    /// It matches and nobody owns it.
    Adopt,
    /// It is owned but matches no more.
    Release,
    /// It is somebody else's.
    Ignore,
}

/// Decides about `object` for `owner`.
pub fn claim<O: ObjectExt, K: ObjectExt>(owner: &O, selector: &Selector, object: &K) -> Claim {
    claim_fitting(owner, selector.matches(object.metadata().labels.as_ref()), object)
}

/// The same where the caller has found out whether the object is one that the owner wants.
pub fn claim_fitting<O: ObjectExt, K: ObjectExt>(owner: &O, matches: bool, object: &K) -> Claim {
    match object.controller() {
        Some(controller) if controller.uid != owner.uid() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner.is_being_deleted() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner.is_being_deleted() || !matches || object.is_being_deleted() => Claim::Ignore,
        None if owner.namespace() != object.namespace() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The patch that makes `owner` the controller of the object with `uid`.
pub fn adopt_patch<O: Resource + Metadata<Ty = ObjectMeta>>(owner: &O, uid: &str) -> Value {
    json!({ "metadata": { "uid": uid, "ownerReferences": [controller_reference(owner)] } })
}

/// The strategic patch that takes the owner away from the object with `uid`.
pub fn release_patch(owner_uid: &str, uid: &str) -> Value {
    json!({ "metadata": { "uid": uid, "ownerReferences": [{ "$patch": "delete", "uid": owner_uid }] } })
}

/// Carries claims out and gives the objects that `owner` owns afterwards. Before the first adoption
/// the owner is read again: an owner that is being deleted adopts nothing.
pub(crate) async fn claim_all<O, K>(
    owners: &Api<O>,
    owner: &O,
    selector: &Selector,
    api: &Api<K>,
    objects: Vec<Arc<K>>,
) -> Result<Vec<Arc<K>>, SyncError>
where
    O: Resource + Metadata<Ty = ObjectMeta> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    K: Resource + Metadata<Ty = ObjectMeta> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    claim_those(owners, owner, |object| selector.matches(object.metadata().labels.as_ref()), api, objects).await
}

/// The same for the objects that `wanted` picks.
pub(crate) async fn claim_those<O, K>(
    owners: &Api<O>,
    owner: &O,
    wanted: impl Fn(&K) -> bool + Send + Sync,
    api: &Api<K>,
    objects: Vec<Arc<K>>,
) -> Result<Vec<Arc<K>>, SyncError>
where
    O: Resource + Metadata<Ty = ObjectMeta> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    K: Resource + Metadata<Ty = ObjectMeta> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let mut owned = Vec::with_capacity(objects.len());
    let mut failed = None;
    let mut may_adopt = None;
    for object in objects {
        match claim_fitting(owner, wanted(object.as_ref()), object.as_ref()) {
            Claim::Keep => owned.push(object),
            Claim::Ignore => {}
            Claim::Release => {
                let patch = Patch::Strategic(release_patch(owner.uid(), object.uid()));
                match api.patch(object.name(), &patch).await {
                    Ok(_) => {}
                    // Gone, or replaced by another object of that name: nothing to let go.
                    Err(error) if error.is_not_found() || error.api().is_some_and(|error| error.code == 422) => {}
                    Err(error) => failed = Some(SyncError::from(error)),
                }
            }
            Claim::Adopt => {
                let allowed = if let Some(allowed) = may_adopt {
                    allowed
                } else {
                    let fresh = owners.find(owner.name()).await?;
                    let allowed = fresh.is_some_and(|fresh| fresh.uid() == owner.uid() && !fresh.is_being_deleted());
                    may_adopt = Some(allowed);
                    allowed
                };
                if !allowed {
                    failed = Some(SyncError::Blocked(format!(
                        "can't adopt {} {}: its owner-to-be {} is gone or being deleted",
                        K::KIND,
                        object.key(),
                        owner.key()
                    )));
                    continue;
                }
                match api.patch(object.name(), &Patch::Strategic(adopt_patch(owner, object.uid()))).await {
                    Ok(_) => owned.push(object),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => failed = Some(SyncError::from(error)),
                }
            }
        }
    }
    failed.map_or(Ok(owned), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_api::apps::v1::ReplicaSet;
    use std::collections::BTreeMap;

    #[test]
    fn claims() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let selector = Selector::from_map(&labels);
        let owner = ReplicaSet {
            metadata: ObjectMeta { namespace: Some("default".into()), uid: Some("owner".into()), ..ObjectMeta::default() },
            ..ReplicaSet::default()
        };
        let check = |labelled: bool, controller: Option<&str>, expected: Claim| {
            let mut pod = crate::pods::tests::pod("a", "n", None);
            pod.metadata.labels = labelled.then(|| labels.clone());
            pod.metadata.owner_references = controller.map(|uid| {
                let mut reference = controller_reference(&owner);
                uid.clone_into(&mut reference.uid);
                vec![reference]
            });
            assert_eq!(claim(&owner, &selector, &pod), expected);
        };
        check(true, Some("owner"), Claim::Keep);
        check(false, Some("owner"), Claim::Release);
        check(true, Some("other"), Claim::Ignore);
        check(true, None, Claim::Adopt);
        check(false, None, Claim::Ignore);
    }
}
