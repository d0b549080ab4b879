//! What all writes share: preparation, admission, validation and the transaction.
//!
//! Order of steps: kubernetes apiserver pkg/registry/rest/{create,update}.go and pkg/endpoints/handlers.

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::apply::is_tracked;
use daruma_api::status::{ApiError, FieldError};
use daruma_client::names;
use daruma_store::{Expect, KeyValue, Outcome, Write};
use serde_json::{Map, Value};

use super::managed_fields::{self, Target};
use crate::admission::{self, Attributes, Operation};
use crate::authorization::escalation;
use crate::call::{Call, Warnings};
use crate::document::{self, text};
use crate::glue;
use crate::http::answer;
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::services;
use crate::user::User;

/// Longest base of a generated name (apiserver pkg/storage/names `maxGeneratedNameLength`).
const GENERATED_BASE: usize = 58;
/// Characters that follow it.
const GENERATED_SUFFIX: usize = 5;
/// Attempts at a generated name (`maxNameGenerationCreateAttempts`).
const GENERATED_ATTEMPTS: usize = 8;

/// A stored object and its revision.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The stored form.
    pub value: Bytes,
    /// Its revision; 0 for a dry run of a create.
    pub revision: u64,
}

/// What became of an update.
#[derive(Debug)]
pub enum Updated {
    /// Written, or nothing had to be.
    Stored(Stored),
    /// The last finalizer went: deleted.
    Deleted(Stored),
    /// Somebody else was faster; this is what is there now.
    Conflict(Option<KeyValue>),
}

/// Which part of an object an update is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    /// The status.
    Status,
    /// What the caller has already confined (scale, binding, finalize).
    Confined,
}

/// Writes on behalf of a user.
pub struct Writer<'a> {
    /// The server.
    pub server: &'a Arc<ApiServer>,
    /// Who writes.
    pub user: &'a Arc<User>,
    /// Do all but write.
    pub dry_run: bool,
    /// Subresource that is written; empty for the main one.
    pub subresource: &'a str,
    /// The request whose sender comes to own what is written; none where the objects' managers are told already.
    pub tracked: Option<&'a Call>,
    /// What clients in this process have decoded, where there are any.
    pub neighbours: Option<&'a daruma_client::DecodedObjects>,
    /// Warnings for the answer.
    pub warnings: &'a Warnings,
}

impl Writer<'_> {
    fn attributes(
        &self,
        operation: Operation,
        resource: &Arc<Resource>,
        namespace: &str,
        name: &str,
        object: Value,
        old: Option<Arc<Value>>,
    ) -> Attributes {
        Attributes {
            operation,
            resource: resource.clone(),
            subresource: self.subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            user: self.user.clone(),
            dry_run: self.dry_run,
            object,
            old,
            warnings: Vec::new(),
        }
    }

    /// Creates an object in `namespace` (empty in cluster scope).
    ///
    /// # Errors
    /// What admission and validation refuse; `AlreadyExists`.
    pub async fn create(&self, resource: &Arc<Resource>, namespace: &str, mut object: Value) -> Result<Stored, ApiError> {
        let generated = self.name_new(resource, namespace, &mut object)?;
        resource.kind.default(&mut object);
        self.track(resource, &Value::Object(Map::new()), &mut object);
        let name = text(&object, "/metadata/name").to_owned();
        let mut attributes = self.attributes(Operation::Create, resource, namespace, &name, object, None);
        admission::mutate(self.server, &mut attributes).await?;
        escalation::confirm(self.server, &attributes).await?;
        self.fill_system_fields(&mut attributes.object);
        resource.kind.prepare_create(&mut attributes.object);
        let allocation = services::allocate(self.server, &mut attributes, self.dry_run)?;
        let mut wrong = glue::validate_metadata_create(resource, &attributes.object);
        wrong.extend(resource.kind.validate(&attributes.object));
        refuse(resource, &name, &wrong)?;
        attributes.warnings.extend(resource.kind.warnings(&attributes.object, None));
        admission::validate(self.server, &attributes).await?;
        for warning in &attributes.warnings {
            self.warnings.add(warning.clone());
        }
        let stored = self.put_new(resource, namespace, &mut attributes.object, generated.as_deref()).await?;
        allocation.keep();
        Ok(stored)
    }

    /// Tells who owns what, where the object has managers.
    fn track(&self, resource: &Resource, live: &Value, new: &mut Value) {
        if let Some(call) = self.tracked.filter(|_| is_tracked(live, new)) {
            Target::of(resource, self.subresource).track(self.server.world.now(), live, new, &call.manager());
        }
    }

    /// Sets namespace and, where asked for, a generated name; gives the base of that name.
    fn name_new(&self, resource: &Resource, namespace: &str, object: &mut Value) -> Result<Option<String>, ApiError> {
        if !text(object, "/metadata/resourceVersion").is_empty() {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let in_body = text(object, "/metadata/namespace");
        if resource.is_namespaced() {
            if !in_body.is_empty() && in_body != namespace {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            document::set_metadata(object, "namespace", Some(namespace.into()));
        } else if in_body.is_empty() {
            document::set_metadata(object, "namespace", None);
        } else {
            return Err(ApiError::bad_request("namespace is not allowed on this type"));
        }
        let base = text(object, "/metadata/generateName").to_owned();
        if !text(object, "/metadata/name").is_empty() {
            return Ok(None);
        }
        if base.is_empty() {
            let missing = FieldError::required("metadata.name", "name or generateName is required");
            refuse(resource, "", &[missing])?;
        }
        document::set_metadata(object, "name", Some(self.generate(&base).into()));
        Ok(Some(base))
    }

    fn generate(&self, base: &str) -> String {
        let base: String = base.chars().take(GENERATED_BASE).collect();
        format!("{base}{}", names::random_suffix(&*self.server.world.random, GENERATED_SUFFIX))
    }

    fn fill_system_fields(&self, object: &mut Value) {
        let now = document::seconds(self.server.world.now());
        let uid = names::uuid(&*self.server.world.random);
        let metadata = document::metadata(object);
        for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
            metadata.remove(key);
        }
        metadata.insert("creationTimestamp".into(), now.into());
        metadata.insert("uid".into(), uid.into());
    }

    async fn put_new(
        &self,
        resource: &Arc<Resource>,
        namespace: &str,
        object: &mut Value,
        generated: Option<&str>,
    ) -> Result<Stored, ApiError> {
        for _ in 0..GENERATED_ATTEMPTS {
            let name = text(object, "/metadata/name").to_owned();
            let value = resource.head.encode(object);
            let key = resource.key(namespace, &name);
            let taken = if self.dry_run {
                let found = self.server.store.get(&key).await.map_err(answer::from_store)?;
                if found.is_none() {
                    return Ok(Stored { value, revision: 0 });
                }
                found
            } else {
                match self.server.put(resource, &key, Expect::Absent, value.clone()).await? {
                    Outcome::Committed { revision } => {
                        self.server.remember(resource, &key, &value, revision, std::mem::take(object), self.neighbours);
                        return Ok(Stored { value, revision });
                    }
                    Outcome::Conflict { current } => current,
                }
            };
            let Some(base) = generated else {
                return Err(already_exists(resource, &name, taken.as_ref()));
            };
            document::set_metadata(object, "name", Some(self.generate(base).into()));
        }
        let name = text(object, "/metadata/name");
        let mut error = ApiError::already_exists(resource.group(), resource.plural(), name);
        error.message = format!("{}, the server was not able to generate a unique name for the object", error.message);
        Err(error)
    }

    /// Replaces `old` (what `current` holds) by `new`.
    ///
    /// # Errors
    /// What admission and validation refuse.
    pub async fn update(
        &self,
        resource: &Arc<Resource>,
        current: &KeyValue,
        old: Arc<Value>,
        mut new: Value,
        part: Part,
    ) -> Result<Updated, ApiError> {
        let (namespace, name) = (text(&old, "/metadata/namespace").to_owned(), text(&old, "/metadata/name").to_owned());
        resource.kind.default(&mut new);
        self.track(resource, &old, &mut new);
        let mut attributes = self.attributes(Operation::Update, resource, &namespace, &name, new, Some(old));
        admission::mutate(self.server, &mut attributes).await?;
        let (new, old) = attributes.new_and_old();
        keep_system_fields(new, old);
        match part {
            Part::Main => resource.kind.prepare_update(new, old),
            Part::Status => resource.kind.prepare_status_update(new, old),
            Part::Confined => {}
        }
        escalation::confirm(self.server, &attributes).await?;
        let allocation = if part == Part::Main {
            services::allocate(self.server, &mut attributes, self.dry_run)?
        } else {
            services::Allocation::default()
        };
        let (new, old) = attributes.new_and_old();
        let mut wrong = glue::validate_metadata_update(resource, new, old);
        match part {
            Part::Main => {
                wrong.extend(resource.kind.validate_change(new, old));
            }
            Part::Status => wrong.extend(resource.kind.validate_status_update(new, old)),
            Part::Confined => {}
        }
        refuse(resource, &name, &wrong)?;
        if part == Part::Main {
            let warnings = resource.kind.warnings(new, Some(old));
            attributes.warnings.extend(warnings);
        }
        admission::validate(self.server, &attributes).await?;
        for warning in &attributes.warnings {
            self.warnings.add(warning.clone());
        }
        let (new, old) = attributes.new_and_old();
        let value = managed_fields::stored_form(resource, old, new, &current.value);
        if deletes_itself(resource, &attributes.object) {
            return self.delete_now(resource, current, value).await;
        }
        if value == current.value || self.dry_run {
            return Ok(Updated::Stored(Stored { value, revision: current.mod_revision }));
        }
        match self.server.put(resource, &current.key, Expect::Revision(current.mod_revision), value.clone()).await? {
            Outcome::Committed { revision } => {
                allocation.keep();
                self.server.remember(resource, &current.key, &value, revision, attributes.object, self.neighbours);
                Ok(Updated::Stored(Stored { value, revision }))
            }
            Outcome::Conflict { current } => Ok(Updated::Conflict(current)),
        }
    }

    async fn delete_now(&self, resource: &Resource, current: &KeyValue, last: Bytes) -> Result<Updated, ApiError> {
        if self.dry_run {
            return Ok(Updated::Deleted(Stored { value: last, revision: current.mod_revision }));
        }
        let write = self.server.store.write(&current.key, Expect::Revision(current.mod_revision), Write::Delete);
        match write.await.map_err(answer::from_store)? {
            Outcome::Committed { revision } => {
                services::released(self.server, resource, &last);
                Ok(Updated::Deleted(Stored { value: last, revision }))
            }
            Outcome::Conflict { current } => Ok(Updated::Conflict(current)),
        }
    }
}

/// What an update may not change, whoever asks (`rest.BeforeUpdate`).
fn keep_system_fields(new: &mut Value, old: &Value) {
    let (old, new_metadata) = (old.get("metadata").and_then(Value::as_object), new.get("metadata").and_then(Value::as_object));
    if old.is_some() && old == new_metadata {
        return;
    }
    let before = |key: &str| old?.get(key);
    let metadata = document::metadata(new);
    for key in ["creationTimestamp", "generation", "namespace"] {
        let (before, now) = (before(key), metadata.get(key));
        match before {
            before if before == now => {}
            Some(value) => _ = metadata.insert(key.into(), value.clone()),
            None => _ = metadata.remove(key),
        }
    }
    // Given where missing; what differs is for validation to refuse.
    for key in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds", "name", "generateName"] {
        let absent = metadata.get(key).is_none_or(Value::is_null);
        if !absent && key != "deletionTimestamp" {
            continue;
        }
        if let Some(value) = before(key) {
            metadata.insert(key.into(), value.clone());
        }
    }
    metadata.remove("selfLink");
}

/// Whether an object that is being deleted has nothing left to wait for
/// (apiserver pkg/registry/generic/registry `ShouldDeleteDuringUpdate`).
pub fn deletes_itself(resource: &Resource, object: &Value) -> bool {
    if document::text(object, "/metadata/deletionTimestamp").is_empty()
        || !document::list(object, "/metadata/finalizers").is_empty()
    {
        return false;
    }
    if resource.is("", "namespaces") {
        return document::list(object, "/spec/finalizers").is_empty();
    }
    document::number(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0) == 0
}

/// 422 where anything is wrong.
///
/// # Errors
/// All that is wrong.
pub fn refuse(resource: &Resource, name: &str, wrong: &[FieldError]) -> Result<(), ApiError> {
    if wrong.is_empty() { Ok(()) } else { Err(ApiError::invalid(resource.group(), resource.kind_name(), name, wrong)) }
}

fn already_exists(resource: &Resource, name: &str, current: Option<&KeyValue>) -> ApiError {
    let error = ApiError::already_exists(resource.group(), resource.plural(), name);
    let deleting = current
        .and_then(|current| resource.head.decode(&current.value, current.mod_revision).ok())
        .is_some_and(|object| !text(&object, "/metadata/deletionTimestamp").is_empty());
    if deleting {
        return ApiError { message: format!("object is being deleted: {}", error.message), ..error };
    }
    error
}
