//! Empties namespaces that are being deleted, then lets them go.
//!
//! Source: kubernetes pkg/controller/namespace (namespace_controller.go, deletion/).

pub mod conditions;

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Namespace, Pod};
use daruma_api::meta::ObjectExt;
use daruma_client::informer::Delta;
use daruma_client::work_queue::Backoff;
use daruma_client::{Api, Client, ClientError, ListOptions};
use futures::FutureExt;
use http::Method;
use serde_json::{Value, json};

use self::conditions::Findings;
use crate::discovery::{self, ApiResource, METADATA_LIST, PartialList};
use crate::pods;
use crate::shell::{Context, SyncError, Synced};

/// The finalizer that this controller answers for.
const FINALIZER: &str = "kubernetes";
/// Seconds to wait for finalizers of content.
const FINALIZER_ESTIMATE: i64 = 15;

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let backoff = Backoff { base: Duration::from_millis(5), max: Duration::from_secs(60) };
    let queue = context.queue_with("namespace", backoff);
    let shared = context.shared.clone();
    {
        // Admission of other API servers may need a moment to learn of the deletion.
        let (queue, delay) = (queue.clone(), context.config.namespace_deletion_delay);
        shared.namespaces.on_delta(move |delta| {
            if let Delta::Added(namespace) | Delta::Updated(_, namespace) = delta
                && namespace.is_being_deleted()
            {
                queue.add_after(namespace.name(), delay);
            }
        });
    }
    let ready = async move { shared.namespaces.wait_synced().await };
    let deleter = Arc::new(Deleter { client: context.client.clone(), namespaces: context.client.all() });
    let informer = context.shared.namespaces.clone();
    context.work(&queue, context.workers, ready, move |name| {
        let (deleter, known) = (deleter.clone(), informer.get("", &name).is_some());
        async move { if known { deleter.sync(&name).await } else { Ok(None) } }.boxed()
    });
}

/// How long until the content of one resource may be gone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rest {
    estimate: i64,
    count: usize,
}

struct Deleter {
    client: Client,
    namespaces: Api<Namespace>,
}

impl Deleter {
    async fn sync(&self, name: &str) -> Synced {
        let Some(mut namespace) = self.namespaces.find(name).await? else { return Ok(None) };
        if !namespace.is_being_deleted() {
            return Ok(None);
        }
        if namespace.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating") {
            namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
            namespace = Arc::unwrap_or_clone(self.namespaces.update_status(&namespace).await?);
        }
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if finalizers.is_empty() {
            return Ok(None);
        }
        let estimate = self.delete_content(&mut namespace).await?;
        if estimate > 0 {
            let seconds = u64::try_from(estimate / 2 + 1).unwrap_or_default();
            return Ok(Some(Duration::from_secs(seconds)));
        }
        self.finalize(&namespace).await?;
        Ok(None)
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), SyncError> {
        let mut finalized = namespace.clone();
        loop {
            finalized.spec.get_or_insert_default().finalizers.get_or_insert_default().retain(|one| one != FINALIZER);
            let path = self.namespaces.path(Some(namespace.name()), "finalize");
            let body = serde_json::to_value(&finalized).unwrap_or_default();
            let put = discovery::send(&self.client, Method::PUT, &path, "application/json", Some(("application/json", &body)));
            match put.await {
                Err(error) if error.is_conflict() => {
                    let Some(fresh) = self.namespaces.find(namespace.name()).await? else { return Ok(()) };
                    if fresh.uid() != namespace.uid() {
                        return Err(SyncError::Blocked("namespace uid has changed across retries".to_owned()));
                    }
                    finalized = fresh;
                }
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => return Ok(()),
            }
        }
    }

    /// Deletes everything in the namespace: pods first, and nothing else before they are gone. Gives an
    /// estimate of the seconds until the rest is gone; 0 when nothing is left.
    async fn delete_content(&self, namespace: &mut Namespace) -> Result<i64, SyncError> {
        let name = namespace.name().to_owned();
        let mut findings = Findings::default();
        let found = discovery::discover(&self.client).await?;
        findings.discovery = found.failed;
        let mut resources: Vec<ApiResource> =
            found.resources.into_iter().filter(|one| one.namespaced && one.supports("delete")).collect();
        resources.sort_by_key(|one| (!is_pods(one), one.clone()));
        let mut estimate = 0;
        for resource in &resources {
            match self.delete_resource(namespace, resource, &mut findings).await {
                Ok(rest) => {
                    estimate = estimate.max(rest.estimate);
                    if rest.count > 0 {
                        findings.remaining.insert(format!("{}.{}", resource.resource, resource.group), rest.count);
                    }
                    if is_pods(resource) && rest.count > 0 {
                        break;
                    }
                }
                Err(error) => findings.failures.push(error.to_string()),
            }
        }
        let now = self.client.world().now();
        if conditions::update(namespace.status.get_or_insert_default(), &findings, now) {
            match self.namespaces.update_status(namespace).await {
                Ok(written) => *namespace = Arc::unwrap_or_clone(written),
                Err(error) => tracing::debug!(namespace = name, %error, "cannot write the namespace's conditions"),
            }
        }
        let mut failures = findings.failures;
        failures.extend(findings.discovery);
        if failures.is_empty() { Ok(estimate) } else { Err(SyncError::Blocked(failures.join(", "))) }
    }

    async fn delete_resource(
        &self,
        namespace: &Namespace,
        resource: &ApiResource,
        findings: &mut Findings,
    ) -> Result<Rest, ClientError> {
        let grace = if is_pods(resource) { self.grace(namespace).await? } else { 0 };
        let path = resource.path(namespace.name(), None);
        let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background" });
        let together = resource.supports("deletecollection") && supported(self.delete(&path, &options).await)?;
        if !resource.supports("list") {
            return Ok(Rest::default());
        }
        if !together {
            for item in self.list(&path).await?.items {
                match self.delete(&resource.path(namespace.name(), Some(&item.metadata.name)), &options).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        let left = self.list(&path).await?.items;
        let mut finalized = false;
        for finalizer in left.iter().flat_map(|item| &item.metadata.finalizers) {
            *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
            finalized = true;
        }
        match (left.len(), grace) {
            (0, _) => Ok(Rest::default()),
            (count, 0) if finalized => Ok(Rest { estimate: FINALIZER_ESTIMATE, count }),
            (count, 0) => {
                findings.remaining.insert(format!("{}.{}", resource.resource, resource.group), count);
                let message = format!(
                    "unexpected items still remain in namespace: {} for gvr: {}, Resource={}",
                    namespace.name(),
                    resource.api_version(),
                    resource.resource
                );
                Err(daruma_api::status::ApiError::internal(message).into())
            }
            (count, estimate) => Ok(Rest { estimate, count }),
        }
    }

    /// The longest grace of the namespace's pods, as long as it can explain that they are still there.
    async fn grace(&self, namespace: &Namespace) -> Result<i64, ClientError> {
        let pods = self.client.namespaced::<Pod>(namespace.name()).list(&ListOptions::default()).await?.items;
        let graces = pods.iter().filter(|pod| !pods::is_terminal(pod));
        let longest = graces.filter_map(|pod| pod.spec.as_ref()?.termination_grace_period_seconds).max().unwrap_or_default();
        let deleted = namespace.metadata.deletion_timestamp.as_ref().map(|time| time.0);
        let waited = deleted.map_or(0, |deleted| pods::since(deleted, self.client.world().now()).as_secs() as i64);
        Ok(if waited >= longest { 0 } else { longest })
    }

    async fn delete(&self, path: &str, options: &Value) -> Result<(), ClientError> {
        let body = Some(("application/json", options));
        discovery::send(&self.client, Method::DELETE, path, "application/json", body).await.map(drop)
    }

    async fn list(&self, path: &str) -> Result<PartialList, ClientError> {
        discovery::get(&self.client, path, METADATA_LIST).await
    }
}

fn is_pods(resource: &ApiResource) -> bool {
    resource.group.is_empty() && resource.resource == "pods"
}

/// Whether the server knows this way of deleting.
fn supported(outcome: Result<(), ClientError>) -> Result<bool, ClientError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() || error.api().is_some_and(|error| error.code == 405) => Ok(false),
        Err(error) => Err(error),
    }
}
