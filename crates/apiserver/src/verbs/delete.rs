//! delete: grace periods, preconditions, propagation, finalizers.
//!
//! Rules: kubernetes apiserver pkg/registry/rest/delete.go, pkg/registry/generic/registry/store.go and
//! pkg/registry/core/pod/strategy.go (`CheckGracefulDelete`).

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::status::ApiError;
use daruma_client::Body;
use daruma_store::{Expect, KeyValue, Outcome, Write};
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::write::{Stored, Writer};
use crate::admission::{self, Attributes, Operation};
use crate::call::Call;
use crate::custom_resources;
use crate::document::{self, text};
use crate::http::{answer, body};
use crate::registry::Resource;
use crate::services;

/// Attempts after a conflict.
const ATTEMPTS: usize = 20;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// `DeleteOptions`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Options {
    /// Seconds of grace.
    pub grace_period_seconds: Option<i64>,
    /// `Orphan`, `Background`, `Foreground`.
    pub propagation_policy: Option<String>,
    /// The older form of the policy.
    pub orphan_dependents: Option<bool>,
    /// Only this very object.
    pub preconditions: Option<Preconditions>,
    /// `All` for a dry run.
    pub dry_run: Option<Vec<String>>,
}

/// Which object is meant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    /// Its uid.
    pub uid: Option<String>,
    /// Its revision.
    pub resource_version: Option<String>,
}

impl Options {
    /// From the body, else from the query.
    ///
    /// # Errors
    /// 400 for what does not decode, 422 for an unknown policy.
    pub fn decode(call: &Call, content: &Bytes) -> Result<Self, ApiError> {
        let options = if content.is_empty() {
            Self {
                grace_period_seconds: call.query.number("gracePeriodSeconds"),
                propagation_policy: call.query.text("propagationPolicy").map(Into::into),
                orphan_dependents: call.query.text("orphanDependents").map(|_| call.query.flag("orphanDependents")),
                ..Self::default()
            }
        } else {
            let value = body::decode(&call.headers, content)?;
            serde_json::from_value(value)
                .map_err(|error| ApiError::bad_request(format!("unable to decode DeleteOptions: {error}")))?
        };
        if let Some(policy) = options.propagation_policy.as_deref()
            && !matches!(policy, "" | "Orphan" | "Background" | "Foreground")
        {
            let wrong = daruma_api::status::FieldError::not_supported(
                "propagationPolicy",
                format!("{policy:?}"),
                &["Background", "Foreground", "Orphan", "nil"],
            );
            return Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[wrong]));
        }
        Ok(options)
    }

    /// Whether nothing is to be written.
    ///
    /// # Errors
    /// 422 for a value other than `All`.
    pub fn dry_run(&self, call: &Call) -> Result<bool, ApiError> {
        let values: Vec<&str> = self.dry_run.iter().flatten().map(String::as_str).collect();
        call.dry_run(&values)
    }
}

/// What became of a deletion.
#[derive(Debug)]
pub enum Deleted {
    /// Gone; its last state.
    Gone(Stored, Arc<Value>),
    /// Marked, or waiting as it was.
    Pending(Stored),
}

/// Deletes one object.
///
/// # Errors
/// 404; 409 where a precondition does not hold.
pub async fn delete(call: &Call, resource: &Arc<Resource>, content: Bytes) -> Result<Response<Body>, ApiError> {
    let options = Options::decode(call, &content)?;
    let writer = call.writer(options.dry_run(call)?);
    let painter = call.painter(resource)?;
    let deleted = writer.delete(resource, &call.info.namespace, &call.info.name, &options).await?;
    let content = match deleted {
        Deleted::Pending(stored) => super::create::painter_bytes(&painter, &stored),
        Deleted::Gone(stored, _) if returns_object(resource) => painter.one(&stored.value, stored.revision),
        Deleted::Gone(_, object) => {
            let mut details = json!({"name": call.info.name, "kind": resource.plural(), "uid": text(&object, "/metadata/uid")});
            if !resource.group().is_empty() {
                details["group"] = resource.group().into();
            }
            Bytes::from(
                json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
                    .to_string(),
            )
        }
    };
    Ok(answer::document(StatusCode::OK, call.accept.format, content))
}

/// Kinds whose deletion answers with the object (`ReturnDeletedObject` in pkg/registry).
fn returns_object(resource: &Resource) -> bool {
    resource.group().is_empty()
        && matches!(
            resource.plural(),
            "pods"
                | "services"
                | "serviceaccounts"
                | "podtemplates"
                | "resourcequotas"
                | "persistentvolumes"
                | "persistentvolumeclaims"
        )
}

impl Writer<'_> {
    /// Deletes one object, or marks it for deletion.
    ///
    /// # Errors
    /// 404; 409 where a precondition does not hold.
    pub async fn delete(
        &self,
        resource: &Arc<Resource>,
        namespace: &str,
        name: &str,
        options: &Options,
    ) -> Result<Deleted, ApiError> {
        let mut current = Some(self.server.fetch(resource, namespace, name).await?);
        for _ in 0..ATTEMPTS {
            let Some(found) = current else {
                return Err(ApiError::not_found(resource.group(), resource.plural(), name));
            };
            match self.delete_once(resource, &found, options).await? {
                Ok(deleted) => return Ok(deleted),
                Err(newer) => current = newer,
            }
        }
        Err(ApiError::modified(resource.group(), resource.plural(), name))
    }

    /// One attempt; the inner error is what is there after a conflict.
    async fn delete_once(
        &self,
        resource: &Arc<Resource>,
        found: &KeyValue,
        options: &Options,
    ) -> Result<Result<Deleted, Option<KeyValue>>, ApiError> {
        let object = self.server.decode(resource, found)?;
        check_preconditions(resource, &object, found, options)?;
        let attributes = Attributes {
            operation: Operation::Delete,
            resource: resource.clone(),
            subresource: self.subresource.to_owned(),
            namespace: text(&object, "/metadata/namespace").to_owned(),
            name: text(&object, "/metadata/name").to_owned(),
            user: self.user.clone(),
            dry_run: self.dry_run,
            object: Value::Null,
            old: Some(object.clone()),
            warnings: Vec::new(),
        };
        admission::validate(self.server, &attributes).await?;
        let now = self.server.world.now();
        let plan = plan(resource, &object, options, now);
        let (marked, then_delete) = match plan {
            Plan::Keep => return Ok(Ok(Deleted::Pending(Stored { value: found.value.clone(), revision: found.mod_revision }))),
            Plan::Delete => (None, true),
            Plan::Mark(marked) => (Some(marked), false),
            Plan::MarkAndDelete(marked) => (Some(marked), true),
        };
        let (mut last, mut revision) = (found.value.clone(), found.mod_revision);
        if let Some(marked) = &marked {
            let value = resource.head.encode(marked);
            if !self.dry_run && value != last {
                match self.server.put(resource, &found.key, Expect::Revision(revision), value.clone()).await? {
                    Outcome::Committed { revision: written } => revision = written,
                    Outcome::Conflict { current } => return Ok(Err(current)),
                }
            }
            last = value;
        }
        if !then_delete {
            if let Some(marked) = marked
                && revision > found.mod_revision
            {
                self.server.remember(resource, &found.key, &last, revision, marked, self.neighbours);
            }
            return Ok(Ok(Deleted::Pending(Stored { value: last, revision })));
        }
        let shown = marked.map_or(object, Arc::new);
        if self.dry_run {
            return Ok(Ok(Deleted::Gone(Stored { value: last, revision }, shown)));
        }
        let write = self.server.store.write(&found.key, Expect::Revision(revision), Write::Delete);
        match write.await.map_err(answer::from_store)? {
            Outcome::Committed { revision } => {
                services::released(self.server, resource, &last);
                Ok(Ok(Deleted::Gone(Stored { value: last, revision }, shown)))
            }
            Outcome::Conflict { current } => Ok(Err(current)),
        }
    }
}

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
enum Plan {
    /// Nothing: it is being deleted already.
    Keep,
    /// Write the object, marked.
    Mark(Value),
    /// Write it, marked with no grace left, then delete it.
    MarkAndDelete(Value),
    /// Delete it.
    Delete,
}

fn plan(resource: &Resource, object: &Value, options: &Options, now: jiff::Timestamp) -> Plan {
    let mut new = object.clone();
    if custom_resources::are_definitions(resource) && text(object, "/metadata/deletionTimestamp").is_empty() {
        custom_resources::mark(&mut new, now);
        return Plan::Mark(new);
    }
    let deleting = !text(object, "/metadata/deletionTimestamp").is_empty();
    let finalizers = new_finalizers(object, options);
    let changes_finalizers = finalizers.as_slice() != document::texts(object, "/metadata/finalizers").as_slice();
    let has_finalizers =
        !finalizers.is_empty() || (resource.is("", "namespaces") && !document::list(object, "/spec/finalizers").is_empty());
    let asked = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let grace = graceful(resource, object, asked);
    if changes_finalizers {
        let list: Vec<Value> = finalizers.iter().map(|one| Value::from(*one)).collect();
        document::set_metadata(&mut new, "finalizers", (!list.is_empty()).then_some(Value::Array(list)));
    }
    if deleting {
        let before = document::number(object, "/metadata/deletionGracePeriodSeconds");
        return match (grace.is_some(), before) {
            (true, Some(before)) => match asked.filter(|asked| *asked < before) {
                None => Plan::Keep,
                Some(shorter) => {
                    shorten(&mut new, before, shorter);
                    if shorter > 0 || has_finalizers { Plan::Mark(new) } else { Plan::MarkAndDelete(new) }
                }
            },
            _ if has_finalizers && changes_finalizers => Plan::Mark(new),
            _ if has_finalizers => Plan::Keep,
            _ => Plan::Delete,
        };
    }
    match grace {
        Some(seconds) => {
            mark(&mut new, now, seconds);
            if seconds > 0 || has_finalizers { Plan::Mark(new) } else { Plan::MarkAndDelete(new) }
        }
        None if has_finalizers => {
            mark(&mut new, now, 0);
            if resource.is("", "namespaces") {
                // Namespaces carry no grace, they end when the last finalizer goes.
                document::set_metadata(&mut new, "deletionGracePeriodSeconds", None);
                document::child(&mut new, "status").insert("phase".into(), "Terminating".into());
            }
            Plan::Mark(new)
        }
        None => Plan::Delete,
    }
}

/// Seconds of grace of a kind that knows grace; nothing waits for a pod that is nowhere or has ended.
fn graceful(resource: &Resource, object: &Value, asked: Option<i64>) -> Option<i64> {
    let default = resource.kind.deletion_grace_seconds(object)?;
    if text(object, "/spec/nodeName").is_empty() || matches!(text(object, "/status/phase"), "Failed" | "Succeeded") {
        return Some(0);
    }
    let seconds = asked.unwrap_or(default);
    Some(if seconds < 0 { 1 } else { seconds })
}

fn mark(object: &mut Value, now: jiff::Timestamp, grace_seconds: i64) {
    let at = now + jiff::SignedDuration::from_secs(grace_seconds);
    let metadata = document::metadata(object);
    metadata.insert("deletionTimestamp".into(), document::seconds(at).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace_seconds.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|generation| *generation > 0) {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

fn shorten(object: &mut Value, before: i64, now: i64) {
    let timestamp: Option<jiff::Timestamp> = text(object, "/metadata/deletionTimestamp").parse().ok();
    let metadata = document::metadata(object);
    if let Some(timestamp) = timestamp {
        let at = timestamp - jiff::SignedDuration::from_secs(before) + jiff::SignedDuration::from_secs(now);
        metadata.insert("deletionTimestamp".into(), document::seconds(at).into());
    }
    metadata.insert("deletionGracePeriodSeconds".into(), now.into());
}

/// Finalizers with `orphan` and `foregroundDeletion` as the policy has them.
fn new_finalizers<'a>(object: &'a Value, options: &Options) -> Vec<&'a str> {
    let before = document::texts(object, "/metadata/finalizers");
    let (orphan, foreground) = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        (Some("Orphan"), _) | (None | Some(""), Some(true)) => (true, false),
        (Some("Foreground"), _) => (false, true),
        (Some("Background"), _) | (None | Some(""), Some(false)) => (false, false),
        // No policy: what the finalizers already say goes on.
        _ => (before.contains(&ORPHAN), before.contains(&FOREGROUND)),
    };
    let mut after: Vec<&str> =
        before.iter().copied().filter(|one| (*one != ORPHAN || orphan) && (*one != FOREGROUND || foreground)).collect();
    if orphan && !after.contains(&ORPHAN) {
        after.push(ORPHAN);
    }
    if foreground && !after.contains(&FOREGROUND) {
        after.push(FOREGROUND);
    }
    after
}

fn check_preconditions(resource: &Resource, object: &Value, found: &KeyValue, options: &Options) -> Result<(), ApiError> {
    let Some(preconditions) = &options.preconditions else { return Ok(()) };
    let name = text(object, "/metadata/name");
    let conflict = |why: String| ApiError::conflict(resource.group(), resource.plural(), name, &why);
    let uid = text(object, "/metadata/uid");
    if let Some(wanted) = preconditions.uid.as_deref().filter(|wanted| *wanted != uid) {
        return Err(conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )));
    }
    let version = found.mod_revision.to_string();
    if let Some(wanted) = preconditions.resource_version.as_deref().filter(|wanted| *wanted != version) {
        return Err(conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        )));
    }
    Ok(())
}
