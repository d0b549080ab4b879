//! pods/eviction: a deletion that disruption budgets allow or refuse, and that says why.
//!
//! Facts: kubernetes pkg/registry/core/pod/storage/eviction.go. What a budget says is in
//! [`super::disruption_budget`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daruma_api::status::{ApiError, FieldError};
use daruma_client::Body;
use daruma_store::{Expect, KeyValue, Outcome};
use http::Response;
use serde_json::{Value, json};

use super::binding::{set_condition, success};
use super::disruption_budget::{self, Verdict};
use crate::admission::{self, Attributes, Operation};
use crate::call::Call;
use crate::document::{is_true, text};
use crate::http::{answer, body};
use crate::registry::Resource;
use crate::verbs::delete::{Options, Preconditions};

/// Attempts after a conflict and the time between them (`EvictionsRetry`).
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);
const SEVERAL: &str = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";

/// Evicts a pod.
///
/// # Errors
/// 404; 409 where a precondition does not hold; 429 where a budget does not allow it; 500 where more than
/// one budget covers the pod.
pub async fn create(call: &Call, content: Bytes) -> Result<Response<Body>, ApiError> {
    let eviction: Value = body::decode(&call.headers, &content)?;
    let (server, name) = (&call.server, &call.info.name);
    if text(&eviction, "/metadata/name") != name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    if is_true(&eviction, "/deleteOptions/ignoreStoreReadErrorWithClusterBreakingPotential") {
        let wrong = FieldError::invalid(
            "deleteOptions.ignoreStoreReadErrorWithClusterBreakingPotential",
            "true",
            "can not be set for pod eviction, try after removing the option",
        );
        return Err(ApiError::invalid("policy", "Eviction", name, &[wrong]));
    }
    let options: Options = match eviction.get("deleteOptions").filter(|options| !options.is_null()) {
        Some(options) => serde_json::from_value(options.clone())
            .map_err(|error| ApiError::bad_request(format!("unable to decode deleteOptions: {error}")))?,
        None => Options::default(),
    };
    let pods = server.registry.built_in("", "v1", "pods").ok_or_else(answer::no_such_path)?;
    let run = Run { call, pods, dry_run: options.dry_run(call)?, options };
    let (found, pod) = run.fetch().await?;
    let attributes = Attributes {
        operation: Operation::Create,
        resource: pods.clone(),
        subresource: "eviction".into(),
        namespace: call.info.namespace.clone(),
        name: name.clone(),
        user: call.user.clone(),
        dry_run: run.dry_run,
        object: eviction,
        old: Some(pod.clone()),
        warnings: Vec::new(),
    };
    admission::validate(server, &attributes).await?;
    run.evict(found, pod).await?;
    Ok(success())
}

/// One eviction.
struct Run<'a> {
    call: &'a Call,
    pods: &'a Arc<Resource>,
    options: Options,
    dry_run: bool,
}

impl Run<'_> {
    async fn fetch(&self) -> Result<(KeyValue, Arc<Value>), ApiError> {
        let server = &self.call.server;
        let found = server.fetch(self.pods, &self.call.info.namespace, &self.call.info.name).await?;
        let pod = server.decode(self.pods, &found)?;
        Ok((found, pod))
    }

    /// Whether the caller named the revision that is to be evicted; then a conflict is the caller's.
    fn names_revision(&self) -> bool {
        self.options.preconditions.as_ref().is_some_and(|preconditions| preconditions.resource_version.is_some())
    }

    fn at_revision(&self, revision: u64) -> Options {
        let mut options = self.options.clone();
        let preconditions = options.preconditions.get_or_insert_with(Preconditions::default);
        preconditions.resource_version = Some(revision.to_string());
        options
    }

    async fn evict(&self, mut found: KeyValue, mut pod: Arc<Value>) -> Result<(), ApiError> {
        let mut attempts = 1;
        while is_past_protection(&pod) {
            // A pod that is only waiting may become ready meanwhile, and then budgets count.
            let waiting = text(&pod, "/status/phase") == "Pending" && text(&pod, "/metadata/deletionTimestamp").is_empty();
            let own = waiting && !self.names_revision();
            let options = if own { self.at_revision(found.mod_revision) } else { self.options.clone() };
            match self.mark_and_delete(options).await {
                Err(error) if error.is_conflict() && !self.names_revision() && attempts < ATTEMPTS => {}
                outcome => return outcome,
            }
            attempts += 1;
            self.call.server.world.sleep(PAUSE).await;
            (found, pod) = self.fetch().await?;
        }
        let Some((budget, stored)) = self.budget_of(&pod).await? else {
            return self.mark_and_delete(self.options.clone()).await;
        };
        if disruption_budget::spares_unready(&budget, &pod) {
            let name = text(&budget, "/metadata/name");
            return match self.mark_and_delete(self.at_revision(found.mod_revision)).await {
                Err(error) if error.is_conflict() && !self.names_revision() => Err(disruption_budget::still_processed(name)),
                outcome => outcome,
            };
        }
        self.take_from(budget, stored).await?;
        self.mark_and_delete(self.options.clone()).await
    }

    /// The only budget that covers the pod.
    async fn budget_of(&self, pod: &Value) -> Result<Option<(Arc<Value>, KeyValue)>, ApiError> {
        let server = &self.call.server;
        let Some(budgets) = server.registry.built_in("policy", "v1", "poddisruptionbudgets") else { return Ok(None) };
        let prefix = budgets.key(&self.call.info.namespace, "");
        let range = server.store.range(&prefix, None, 0, None).await.map_err(answer::from_store)?;
        let mut covering = Vec::new();
        for stored in range.items {
            let budget = server.decode(budgets, &stored)?;
            if disruption_budget::covers(&budget, pod) {
                covering.push((budget, stored));
            }
        }
        if covering.len() > 1 {
            return Err(ApiError::new(500, "", SEVERAL));
        }
        Ok(covering.pop())
    }

    /// Takes one disruption from the budget, or says why there is none.
    async fn take_from(&self, mut budget: Arc<Value>, mut stored: KeyValue) -> Result<(), ApiError> {
        let (server, pod) = (&self.call.server, self.call.info.name.as_str());
        let budgets = server.registry.built_in("policy", "v1", "poddisruptionbudgets").ok_or_else(answer::no_such_path)?;
        let name = text(&budget, "/metadata/name").to_owned();
        for _ in 0..ATTEMPTS {
            let Verdict::Allowed(taken) = disruption_budget::take(&budget, pod, server.world.now())? else {
                return Err(disruption_budget::refusal(&budget));
            };
            if self.dry_run {
                return Ok(());
            }
            let expect = Expect::Revision(stored.mod_revision);
            match server.put(budgets, &stored.key, expect, budgets.head.encode(&taken)).await? {
                Outcome::Committed { .. } => return Ok(()),
                Outcome::Conflict { .. } => server.world.sleep(PAUSE).await,
            }
            stored = server.fetch(budgets, &self.call.info.namespace, &name).await?;
            budget = server.decode(budgets, &stored)?;
        }
        Err(ApiError::modified("policy", "poddisruptionbudgets", &name))
    }

    /// Says on the pod why it goes, then deletes it.
    async fn mark_and_delete(&self, mut options: Options) -> Result<(), ApiError> {
        let (server, name) = (&self.call.server, &self.call.info.name);
        if !self.dry_run {
            let mut written = None;
            for _ in 0..ATTEMPTS {
                let (found, before) = self.fetch().await?;
                check_preconditions(&before, &found, options.preconditions.as_ref())?;
                let mut pod = Value::clone(&before);
                let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting"});
                set_condition(&mut pod, condition, server.world.now());
                if pod == *before {
                    written = Some(found.mod_revision);
                    break;
                }
                let expect = Expect::Revision(found.mod_revision);
                if let Outcome::Committed { revision } =
                    server.put(self.pods, &found.key, expect, self.pods.head.encode(&pod)).await?
                {
                    written = Some(revision);
                    break;
                }
            }
            let Some(revision) = written else { return Err(ApiError::modified("", "pods", name)) };
            if let Some(version) = options.preconditions.as_mut().and_then(|one| one.resource_version.as_mut()) {
                // Our own write is what changed it.
                *version = revision.to_string();
            }
        }
        self.call.writer(self.dry_run).delete(self.pods, &self.call.info.namespace, name, &options).await?;
        Ok(())
    }
}

/// Whether budgets have no say: the pod has ended, has not begun, or is going already.
fn is_past_protection(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed" | "Pending")
        || !text(pod, "/metadata/deletionTimestamp").is_empty()
}

fn check_preconditions(pod: &Value, found: &KeyValue, preconditions: Option<&Preconditions>) -> Result<(), ApiError> {
    let Some(preconditions) = preconditions else { return Ok(()) };
    let conflict = |why: String| Err(ApiError::conflict("", "Pod", text(pod, "/metadata/name"), &why));
    let uid = text(pod, "/metadata/uid");
    if let Some(wanted) = preconditions.uid.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != uid) {
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ));
    }
    let version = found.mod_revision.to_string();
    if let Some(wanted) = preconditions.resource_version.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != version) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        ));
    }
    Ok(())
}
