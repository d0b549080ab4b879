//! How many pods the owner of a pod wants.
//!
//! Source: kubernetes pkg/controller/disruption/disruption.go (`finders`): ReplicaSets, their Deployments and
//! StatefulSets from the local copy, all else by its scale subresource.

use daruma_api::gvk::split_api_version;
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::OwnerReference;
use daruma_client::ClientError;
use serde_json::Value;

use crate::discovery::{self, ApiResource};
use crate::shared::Shared;
use crate::shell::Context;

/// The uid of what wants the pods, and how many it wants.
pub(super) type Scale = (String, i32);

/// Finds the size of `owner`; `None` where it is gone.
///
/// # Errors
/// Why it cannot be found out.
pub(super) async fn of(context: &Context, namespace: &str, owner: &OwnerReference) -> Result<Option<Scale>, String> {
    match (split_api_version(&owner.api_version).0, owner.kind.as_str()) {
        ("apps" | "extensions", "ReplicaSet") => {
            if let Some(scale) = of_replica_set(&context.shared, namespace, owner) {
                return Ok(Some(scale));
            }
        }
        ("apps", "StatefulSet") => {
            let set = context.shared.stateful_sets.get(namespace, &owner.name).filter(|set| set.uid() == owner.uid);
            if let Some(set) = set {
                let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                return Ok(Some((owner.uid.clone(), replicas)));
            }
        }
        _ => {}
    }
    by_subresource(context, namespace, owner).await
}

fn of_replica_set(shared: &Shared, namespace: &str, owner: &OwnerReference) -> Option<Scale> {
    let set = shared.replica_sets.get(namespace, &owner.name).filter(|set| set.uid() == owner.uid)?;
    match set.controller().filter(|owner| owner.kind == "Deployment") {
        Some(above) => {
            let deployment = shared.deployments.get(namespace, &above.name).filter(|one| one.uid() == above.uid)?;
            Some((above.uid.clone(), deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)))
        }
        None => Some((owner.uid.clone(), set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))),
    }
}

async fn by_subresource(context: &Context, namespace: &str, owner: &OwnerReference) -> Result<Option<Scale>, String> {
    let (group, version) = split_api_version(&owner.api_version);
    let discovered = discovery::discover(&context.client).await.map_err(|error| error.to_string())?;
    let found = discovered.resources.iter().find(|one| one.group == group && one.kind == owner.kind);
    let Some(resource) = found else {
        return Err(format!("no matches for kind \"{}\" in version \"{}\"", owner.kind, owner.api_version));
    };
    let resource = ApiResource { version: version.to_owned(), ..resource.clone() };
    let path = format!("{}/scale", resource.path(namespace, Some(&owner.name)));
    match discovery::get::<Value>(&context.client, &path, "application/json").await {
        Ok(scale) => {
            let uid = scale["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let replicas = scale["spec"]["replicas"].as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or_default();
            Ok((uid == owner.uid).then_some((uid, replicas)))
        }
        Err(error) if error.is_not_found() => {
            let has_scale = has_scale(context, &resource).await.map_err(|error| error.to_string())?;
            if has_scale { Ok(None) } else { Err(format!("{} does not implement the scale subresource", qualified(&resource))) }
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A missing object and a missing subresource look alike: discovery tells.
async fn has_scale(context: &Context, resource: &ApiResource) -> Result<bool, ClientError> {
    let path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let list: Value = discovery::get(&context.client, &path, "application/json").await?;
    let name = format!("{}/scale", resource.resource);
    Ok(list["resources"].as_array().into_iter().flatten().any(|one| one["name"] == name.as_str()))
}

fn qualified(resource: &ApiResource) -> String {
    if resource.group.is_empty() { resource.resource.clone() } else { format!("{}.{}", resource.resource, resource.group) }
}
