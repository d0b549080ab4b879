//! Deletes the objects of a definition that is being deleted, waits until they are gone, then lets it go.
//!
//! Facts: kubernetes apiextensions-apiserver pkg/controller/finalizer/crd_finalizer.go.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::status::ApiError;
use daruma_store::KeyValue;
use serde_json::Value;

use super::definition::{Condition, Definition, is};
use super::names::ESTABLISHED;
use super::serving::stored_resource;
use super::{FINALIZER, TERMINATING};
use crate::call::Warnings;
use crate::document::{self, elements, text, texts};
use crate::http::answer;
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::storage::keys;
use crate::user::{MASTERS, User};
use crate::verbs::delete::Options;
use crate::verbs::write::{Part, Updated, Writer};

/// How often it is looked whether objects are left, and for how long.
const INTERVAL: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);
/// First and longest pause before another attempt (workqueue `DefaultControllerRateLimiter`).
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1000));

/// Starts to finalize a definition that is being deleted, unless that is on its way.
pub(super) fn begin(server: &Arc<ApiServer>, definitions: &Arc<Resource>, definition: &Definition) {
    if !is_due(&definition.object) || !server.custom_resources.state().finalizing.insert(definition.name().to_owned()) {
        return;
    }
    let finalizer = Finalizer { server: server.clone(), definitions: definitions.clone(), name: definition.name().to_owned() };
    server.world.spawn("apiserver custom resource finalizer", async move { finalizer.run().await });
}

fn is_due(definition: &Value) -> bool {
    !text(definition, "/metadata/deletionTimestamp").is_empty() && texts(definition, "/metadata/finalizers").contains(&FINALIZER)
}

struct Finalizer {
    server: Arc<ApiServer>,
    definitions: Arc<Resource>,
    name: String,
}

impl Finalizer {
    async fn run(&self) {
        let (mut pause, longest) = BACKOFF;
        while let Err(error) = self.attempt().await {
            tracing::debug!(%error, definition = self.name, "a custom resource is not finalized yet");
            self.server.world.sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        self.server.custom_resources.state().finalizing.remove(&self.name);
    }

    async fn attempt(&self) -> Result<(), ApiError> {
        let begun = Condition {
            kind: TERMINATING,
            holds: true,
            reason: "InstanceDeletionInProgress",
            message: "CustomResource deletion is in progress".into(),
        };
        let Some(definition) = self.change(|definition| self.set(definition, &begun)).await? else { return Ok(()) };
        let (outcome, failure) = self.delete_objects(&definition).await;
        if let Some(failure) = failure {
            self.change(|definition| self.set(definition, &outcome)).await?;
            return Err(failure);
        }
        self.change(|definition| {
            self.set(definition, &outcome);
            elements(document::metadata(definition), "finalizers").retain(|one| one != FINALIZER);
        })
        .await?;
        Ok(())
    }

    fn set(&self, definition: &mut Value, condition: &Condition) {
        condition.set(definition, self.server.world.now());
    }

    /// Changes the definition while it is due; `None` where it is not any more.
    async fn change(&self, change: impl Fn(&mut Value)) -> Result<Option<Value>, ApiError> {
        let (server, resource) = (&self.server, &self.definitions);
        let mut current = server.store.get(&resource.key("", &self.name)).await.map_err(answer::from_store)?;
        while let Some(found) = current {
            let old = server.decode(resource, &found)?;
            if !is_due(&old) {
                return Ok(None);
            }
            let mut new = Value::clone(&old);
            change(&mut new);
            let (user, warnings) = (Arc::new(User::new("system:apiserver", [MASTERS])), Warnings::default());
            match self.writer(&user, &warnings).update(resource, &found, old, new, Part::Confined).await? {
                Updated::Stored(stored) | Updated::Deleted(stored) => {
                    return resource.head.decode(&stored.value, stored.revision).map(Some).map_err(ApiError::internal);
                }
                Updated::Conflict(newer) => current = newer,
            }
        }
        Ok(None)
    }

    fn writer<'a>(&'a self, user: &'a Arc<User>, warnings: &'a Warnings) -> Writer<'a> {
        Writer { server: &self.server, user, dry_run: false, subresource: "", tracked: None, neighbours: None, warnings }
    }

    /// Deletes all objects and waits until they are gone. Gives what is to be said, and why it is not the end.
    async fn delete_objects(&self, definition: &Value) -> (Condition, Option<ApiError>) {
        let terminating = |holds, reason, message| Condition { kind: TERMINATING, holds, reason, message };
        let (group, plural) = (text(definition, "/spec/group"), text(definition, "/spec/names/plural"));
        if self.server.registry.built_in_somewhere(group, plural).is_some() {
            let message = "instances overlap with built-in resources in storage".into();
            return (terminating(false, "OverlappingBuiltInResource", message), None);
        }
        if !is(definition, ESTABLISHED) {
            return (terminating(false, "NeverEstablished", "resource was never established".into()), None);
        }
        let failed = |message: String, error| (terminating(true, "InstanceDeletionFailed", message), Some(error));
        let Some(resource) = stored_resource(definition).map(Arc::new) else {
            let error = ApiError::internal(format!("unable to find a custom resource client for {plural}.{group}"));
            return failed(format!("could not list instances: {error}"), error);
        };
        match self.delete_all(&resource).await {
            Ok(()) => {}
            Err(Failure::List(error)) => return failed(format!("could not list instances: {error}"), error),
            Err(Failure::Delete(error)) => return failed(format!("could not issue all deletes: {error}"), error),
        }
        let deadline = self.server.world.monotonic() + LIMIT;
        loop {
            let why = match self.objects(&resource, 1).await {
                Ok(left) if left.is_empty() => {
                    return (terminating(false, "InstanceDeletionCompleted", "removed all instances".into()), None);
                }
                Ok(_) if self.server.world.monotonic() + INTERVAL <= deadline => {
                    self.server.world.sleep(INTERVAL).await;
                    continue;
                }
                Ok(_) => ApiError::timeout("context deadline exceeded"),
                Err(error) => error,
            };
            let message = format!("could not confirm zero CustomResources remaining: {}", why.message);
            return (terminating(true, "InstanceDeletionCheck", message), Some(why));
        }
    }

    async fn delete_all(&self, resource: &Arc<Resource>) -> Result<(), Failure> {
        let (user, warnings) = (Arc::new(User::new("system:apiserver", [MASTERS])), Warnings::default());
        let writer = self.writer(&user, &warnings);
        for found in self.objects(resource, 0).await.map_err(Failure::List)? {
            let Some((_, key)) = keys::split(&found.key) else { continue };
            let (namespace, name) = key.split_once('/').unwrap_or(("", key));
            match writer.delete(resource, namespace, name, &Options::default()).await {
                Err(error) if !error.is_not_found() => return Err(Failure::Delete(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Objects of a resource, as many as `limit`; all for 0.
    async fn objects(&self, resource: &Resource, limit: usize) -> Result<Vec<KeyValue>, ApiError> {
        let range = self.server.store.range(&resource.prefix, None, limit, None).await;
        Ok(range.map_err(answer::from_store)?.items)
    }
}

/// What failed of a deletion.
enum Failure {
    List(ApiError),
    Delete(ApiError),
}
