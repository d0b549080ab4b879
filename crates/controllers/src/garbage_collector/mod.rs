//! Deletes objects whose owners are gone; carries out foreground deletion and orphaning.
//!
//! Source: kubernetes pkg/controller/garbagecollector/garbagecollector.go.

pub mod graph;
mod monitors;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use daruma_api::core::v1::ObjectReference;
use daruma_api::status::ApiError;
use daruma_client::events::EventType;
use daruma_client::{Client, ClientError, RateLimit};
use futures::FutureExt;
use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use self::graph::{Effect, Graph, Identity, Node, Owner, Standing, Verdict, judge};
use self::monitors::Monitors;
use crate::discovery::{self, ApiResource, METADATA, Metadata, Partial};
use crate::shell::{Context, Queue, SyncError, Synced};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// Attempts to remove a finalizer from an object that others change.
const FINALIZER_TRIES: u32 = 4;

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let collector = Arc::new(Collector {
        watching: context.client.named(context.client.user_agent(), RateLimit::NONE),
        attempts: context.queue("garbage_collector_attempt_to_delete"),
        orphans: context.queue("garbage_collector_attempt_to_orphan"),
        graph: Mutex::default(),
        monitors: Monitors::default(),
        context: context.clone(),
    });
    let (first, listed) = tokio::sync::oneshot::channel();
    context.spawn(monitors::run(collector.clone(), first));
    let listed = async move {
        // An error means that everything ends.
        let _ = listed.await;
    }
    .shared();
    {
        let collector = collector.clone();
        let queue = collector.attempts.clone();
        context.work(&queue, context.workers, listed.clone(), move |uid| {
            let collector = collector.clone();
            async move { collector.attempt(&uid).await }.boxed()
        });
    }
    let queue = collector.orphans.clone();
    context.work(&queue, context.workers, listed, move |uid| {
        let collector = collector.clone();
        async move { collector.orphan(&uid).await }.boxed()
    });
}

struct Collector {
    context: Context,
    /// For lists and watches, without a limit.
    watching: Client,
    attempts: Queue,
    orphans: Queue,
    graph: Mutex<Graph>,
    monitors: Monitors,
}

impl Collector {
    /// Changes the graph and hands what follows to the queues.
    fn change(&self, change: impl FnOnce(&mut Graph) -> Vec<Effect>) {
        let effects = change(&mut self.graph.lock().expect("no panic while held"));
        for effect in effects {
            match effect {
                Effect::Attempt(uid) => self.attempts.add(&uid),
                Effect::AttemptLater(uid) => self.attempts.add_rate_limited(&uid),
                Effect::Orphan(uid) => self.orphans.add(&uid),
                Effect::WrongNamespace(dependent, owner) => self.report(&dependent, &owner),
            }
        }
    }

    fn report(&self, dependent: &Identity, owner: &Owner) {
        let object = ObjectReference {
            api_version: Some(dependent.api_version.clone()),
            kind: Some(dependent.kind.clone()),
            namespace: Some(dependent.namespace.clone()),
            name: Some(dependent.name.clone()),
            uid: Some(dependent.uid.clone()),
            ..ObjectReference::default()
        };
        let message = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace \"{namespace}\"",
            owner.api_version,
            owner.kind,
            owner.name,
            owner.uid,
            namespace = dependent.namespace
        );
        self.context.recorder.event(&object, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }

    fn node(&self, uid: &str) -> Option<Node> {
        self.graph.lock().expect("no panic while held").get(uid).cloned()
    }

    /// Looks whether the object must go, and lets it.
    async fn attempt(&self, uid: &str) -> Synced {
        let Some(node) = self.node(uid) else { return Ok(None) };
        if node.being_deleted && !node.deleting_dependents {
            return Ok(None);
        }
        let resource = self.resource(&node.identity.api_version, &node.identity.kind)?;
        if resource.namespaced && node.identity.namespace.is_empty() {
            // A cluster-scoped object cannot have an owner in a namespace; nothing can be said about it.
            return Ok(None);
        }
        let latest = match self.get(&resource, &node.identity.namespace, &node.identity.name).await {
            Ok(latest) if latest.uid == uid => latest,
            Ok(_) => {
                self.absent(&node.identity);
                return Ok(None);
            }
            Err(error) if error.is_not_found() => {
                self.absent(&node.identity);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if node.deleting_dependents {
            return self.finish_foreground(&resource, &node).await;
        }
        let mut owners = Vec::with_capacity(latest.owner_references.len());
        for owner in &latest.owner_references {
            match self.standing(owner, &node.identity).await? {
                Some(standing) => owners.push((owner.clone(), standing)),
                None => return Ok(None),
            }
        }
        let verdict = {
            let graph = self.graph.lock().expect("no panic while held");
            let has = |finalizer: &str| latest.finalizers.iter().any(|one| one == finalizer);
            judge(&owners, &graph.dependents(uid), has(ORPHAN), has(FOREGROUND))
        };
        match verdict {
            Verdict::Stay => {}
            Verdict::RemoveReferences(uids) => self.remove_references(&resource, &node.identity, &uids).await?,
            Verdict::DeleteForeground { unblock } => {
                if unblock {
                    self.unblock(&resource, &node).await?;
                }
                return self.delete(&resource, &node.identity, &latest, "Foreground").await;
            }
            Verdict::Delete(policy) => return self.delete(&resource, &node.identity, &latest, policy).await,
        }
        if node.observed { Ok(None) } else { Err(Self::unobserved(&node.identity)) }
    }

    /// The object exists but its watch has not shown it: look again until it has.
    fn unobserved(identity: &Identity) -> SyncError {
        SyncError::Blocked(format!("{} {} has not been seen by a watch yet", identity.kind, identity.name))
    }

    fn absent(&self, identity: &Identity) {
        self.change(|graph| graph.found_absent(identity));
    }

    fn resource(&self, api_version: &str, kind: &str) -> Result<ApiResource, SyncError> {
        let found = self.monitors.resource(api_version, kind);
        found.ok_or_else(|| SyncError::Blocked(format!("unable to get REST mapping for {api_version}/{kind}.")))
    }

    /// Whether an owner exists; `None` for a namespaced owner of a cluster-scoped object.
    async fn standing(&self, owner: &Owner, item: &Identity) -> Result<Option<Standing>, SyncError> {
        if self.graph.lock().expect("no panic while held").is_absent(owner, &item.namespace) {
            return Ok(Some(Standing::Dangling));
        }
        let resource = self.resource(&owner.api_version, &owner.kind)?;
        if resource.namespaced && item.namespace.is_empty() {
            return Ok(None);
        }
        let namespace = if resource.namespaced { item.namespace.as_str() } else { "" };
        match self.get(&resource, namespace, &owner.name).await {
            Ok(found) if found.uid == owner.uid => {
                let waits = found.deletion_timestamp.is_some() && found.finalizers.iter().any(|one| one == FOREGROUND);
                Ok(Some(if waits { Standing::Waiting } else { Standing::Solid }))
            }
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => {
                self.graph.lock().expect("no panic while held").remember_absent(owner, namespace);
                Ok(Some(Standing::Dangling))
            }
        }
    }

    /// An object in foreground deletion goes when nothing blocks it.
    async fn finish_foreground(&self, resource: &ApiResource, node: &Node) -> Synced {
        let uid = &node.identity.uid;
        let (blocked, waiting) = {
            let graph = self.graph.lock().expect("no panic while held");
            let blocking = graph.blocking_dependents(uid);
            let waiting = blocking.iter().filter(|dependent| !dependent.deleting_dependents);
            (!blocking.is_empty(), waiting.map(|dependent| dependent.identity.uid.clone()).collect::<Vec<_>>())
        };
        if !blocked {
            self.remove_finalizer(resource, &node.identity, FOREGROUND).await?;
        }
        for dependent in waiting {
            self.attempts.add(&dependent);
        }
        Ok(None)
    }

    async fn get(&self, resource: &ApiResource, namespace: &str, name: &str) -> Result<Metadata, ClientError> {
        let partial: Partial = discovery::get(&self.context.client, &resource.path(namespace, Some(name)), METADATA).await?;
        Ok(partial.metadata)
    }

    async fn delete(&self, resource: &ApiResource, item: &Identity, latest: &Metadata, policy: &str) -> Synced {
        let path = resource.path(&item.namespace, Some(&item.name));
        let send = |version: Option<&str>| {
            let options = json!({
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "preconditions": { "uid": item.uid, "resourceVersion": version },
                "propagationPolicy": policy,
            });
            let (client, path) = (&self.context.client, &path);
            async move { discovery::send(client, Method::DELETE, path, JSON, Some((JSON, &options))).await }
        };
        let mut outcome = send(Some(&latest.resource_version)).await;
        if outcome.as_ref().is_err_and(ClientError::is_conflict) {
            // A change that leaves the owners alone must not hold up the deletion.
            match self.get(resource, &item.namespace, &item.name).await {
                Ok(live) if live.uid == item.uid && live.owner_references == latest.owner_references => {
                    outcome = send(None).await;
                }
                Err(error) if error.is_not_found() => outcome = Err(error),
                _ => {}
            }
        }
        match outcome {
            Err(error) if error.is_not_found() => self.absent(item),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        Ok(None)
    }

    /// Takes owners out of an object's references.
    async fn remove_references(&self, resource: &ApiResource, item: &Identity, uids: &[String]) -> Result<(), ClientError> {
        let references: Vec<Value> = uids.iter().map(|uid| json!({ "$patch": "delete", "uid": uid })).collect();
        let patch = json!({ "metadata": { "uid": item.uid, "ownerReferences": references } });
        self.patch(resource, item, &patch, |metadata| {
            metadata.owner_references.retain(|owner| !uids.contains(&owner.uid));
        })
        .await
    }

    async fn unblock(&self, resource: &ApiResource, node: &Node) -> Result<(), ClientError> {
        let unblocked = |owner: &Owner| Owner { block_owner_deletion: Some(false), ..owner.clone() };
        let blocking = node.owners.iter().filter(|owner| owner.block_owner_deletion == Some(true));
        let references: Vec<Owner> = blocking.map(unblocked).collect();
        let patch = json!({ "metadata": { "uid": node.identity.uid, "ownerReferences": references } });
        self.patch(resource, &node.identity, &patch, |metadata| {
            metadata.owner_references = metadata.owner_references.iter().map(unblocked).collect();
        })
        .await
    }

    /// A strategic patch, or a merge patch of all owners where that is not supported.
    async fn patch(
        &self,
        resource: &ApiResource,
        item: &Identity,
        strategic: &Value,
        change: impl FnOnce(&mut Metadata),
    ) -> Result<(), ClientError> {
        let path = resource.path(&item.namespace, Some(&item.name));
        let client = &self.context.client;
        match discovery::send(client, Method::PATCH, &path, METADATA, Some((STRATEGIC, strategic))).await {
            Err(error) if error.api().is_some_and(|error: &ApiError| error.code == 415) => {
                let mut metadata = self.get(resource, &item.namespace, &item.name).await?;
                change(&mut metadata);
                let patch = json!({ "metadata": {
                    "resourceVersion": metadata.resource_version,
                    "ownerReferences": metadata.owner_references,
                }});
                discovery::send(client, Method::PATCH, &path, METADATA, Some((MERGE, &patch))).await.map(drop)
            }
            outcome => outcome.map(drop),
        }
    }

    /// Frees all dependents of an object that asks for it, then lets the object go.
    async fn orphan(&self, uid: &str) -> Synced {
        let Some(node) = self.node(uid) else { return Ok(None) };
        let dependents: Vec<Identity> = {
            let graph = self.graph.lock().expect("no panic while held");
            graph.dependents(uid).into_iter().map(|dependent| dependent.identity.clone()).collect()
        };
        let owner = [uid.to_owned()];
        let outcomes = join_all(dependents.iter().map(|dependent| async {
            let resource = self.resource(&dependent.api_version, &dependent.kind)?;
            self.remove_references(&resource, dependent, &owner).await.map_err(SyncError::from)
        }))
        .await;
        for outcome in outcomes {
            match outcome {
                Err(SyncError::Client(error)) if error.is_not_found() => {}
                Err(error) => return Err(error),
                Ok(()) => {}
            }
        }
        let resource = self.resource(&node.identity.api_version, &node.identity.kind)?;
        self.remove_finalizer(&resource, &node.identity, ORPHAN).await?;
        Ok(None)
    }

    async fn remove_finalizer(&self, resource: &ApiResource, item: &Identity, finalizer: &str) -> Result<(), ClientError> {
        let mut tries = 0;
        loop {
            let metadata = match self.get(resource, &item.namespace, &item.name).await {
                Err(error) if error.is_not_found() => return Ok(()),
                outcome => outcome?,
            };
            let left: Vec<&String> = metadata.finalizers.iter().filter(|one| *one != finalizer).collect();
            if metadata.uid != item.uid || left.len() == metadata.finalizers.len() {
                return Ok(());
            }
            let patch = json!({ "metadata": { "resourceVersion": metadata.resource_version, "finalizers": left } });
            let path = resource.path(&item.namespace, Some(&item.name));
            tries += 1;
            match discovery::send(&self.context.client, Method::PATCH, &path, METADATA, Some((MERGE, &patch))).await {
                Err(error) if error.is_conflict() && tries < FINALIZER_TRIES => {}
                outcome => return outcome.map(drop),
            }
        }
    }
}
