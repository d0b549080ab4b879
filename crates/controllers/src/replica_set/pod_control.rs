//! Creating and deleting the pods of an owner, with its events and expectations.
//!
//! Source: kubernetes pkg/controller/controller_utils.go (RealPodControl, slow start).

use daruma_api::core::v1::{Pod, PodTemplateSpec};
use daruma_api::k8s_openapi::{Metadata, Resource};
use daruma_api::meta::{ObjectExt, controller_reference};
use daruma_api::metav1::ObjectMeta;
use daruma_client::{ClientError, DeleteOptions};
use futures::future::join_all;

use crate::expectations::Expectations;
use crate::shell::{Context, SyncError, namespace_terminating};

/// Pods in the first batch; each batch that succeeds doubles the next.
const SLOW_START: usize = 1;

/// Acts for one owner.
pub(crate) struct PodControl<'a, O> {
    context: &'a Context,
    owner: &'a O,
    expectations: &'a Expectations,
    key: &'a str,
}

impl<'a, O: Resource + Metadata<Ty = ObjectMeta> + Sync> PodControl<'a, O> {
    pub(crate) fn new(context: &'a Context, owner: &'a O, expectations: &'a Expectations, key: &'a str) -> Self {
        Self { context, owner, expectations, key }
    }

    /// A pod from the owner's template.
    pub(crate) fn pod(&self, template: &PodTemplateSpec) -> Pod {
        let from = template.metadata.clone().unwrap_or_default();
        Pod {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", self.owner.name())),
                namespace: Some(self.owner.namespace().to_owned()),
                labels: from.labels,
                annotations: from.annotations,
                finalizers: from.finalizers,
                owner_references: Some(vec![controller_reference(self.owner)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }

    /// Creates `count` pods, number `i` as `pod(i)` gives it, in batches that double as long as all goes
    /// well. Creations that fail or are skipped are not expected any more.
    pub(crate) async fn create(&self, count: usize, pod: impl Fn(usize) -> Pod) -> Result<(), SyncError> {
        let api = self.context.client.namespaced::<Pod>(self.owner.namespace());
        let (mut done, mut batch) = (0, SLOW_START.min(count));
        while batch > 0 {
            let pods: Vec<Pod> = (done..done + batch).map(&pod).collect();
            let outcomes = join_all(pods.iter().map(|pod| api.create(pod))).await;
            done += batch;
            let mut failure: Option<ClientError> = None;
            for outcome in outcomes {
                match outcome {
                    Ok(created) => {
                        let message = format!("Created pod: {}", created.name());
                        self.context.recorder.normal(self.owner, "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        self.expectations.created(self.key);
                        // In a namespace that goes away nothing can be created, and nobody needs to hear.
                        if !namespace_terminating(&error) {
                            self.context.recorder.warning(self.owner, "FailedCreate", format!("Error creating: {error}"));
                            failure = Some(error);
                        }
                    }
                }
            }
            if let Some(error) = failure {
                for _ in done..count {
                    self.expectations.created(self.key);
                }
                return Err(error.into());
            }
            batch = (2 * batch).min(count - done);
        }
        Ok(())
    }

    /// Deletes pods, all at once. Deletions that fail are not expected any more.
    pub(crate) async fn delete(&self, names: &[String]) -> Result<(), SyncError> {
        let api = self.context.client.namespaced::<Pod>(self.owner.namespace());
        let options = DeleteOptions::default();
        let outcomes = join_all(names.iter().map(|name| api.delete(name, &options))).await;
        let mut failure = None;
        for (name, outcome) in names.iter().zip(outcomes) {
            match outcome {
                Ok(()) => self.context.recorder.normal(self.owner, "SuccessfulDelete", format!("Deleted pod: {name}")),
                Err(error) => {
                    self.expectations.deleted(self.key, &format!("{}/{name}", self.owner.namespace()));
                    if !error.is_not_found() {
                        self.context.recorder.warning(self.owner, "FailedDelete", format!("Error deleting: {error}"));
                        failure = Some(SyncError::Blocked(format!("unable to delete pods: {error}")));
                    }
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}
