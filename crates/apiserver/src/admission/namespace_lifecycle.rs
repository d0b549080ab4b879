//! NamespaceLifecycle: nothing new in namespaces that are missing or going; some namespaces stay.
//!
//! Facts: kubernetes apiserver pkg/admission/plugin/namespace/lifecycle/admission.go.

use std::sync::Arc;

use daruma_api::metav1::StatusCause;
use daruma_api::status::ApiError;
use futures::future::BoxFuture;

use super::{Attributes, Operation, Plugin};
use crate::document::text;
use crate::server::ApiServer;

/// The plugin.
pub struct NamespaceLifecycle;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        match attributes.operation {
            Operation::Create => attributes.resource.is_namespaced(),
            Operation::Delete => attributes.is("", "namespaces", ""),
            Operation::Update => false,
        }
    }

    fn mutate<'a>(&'a self, server: &'a Arc<ApiServer>, attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        // Changes nothing, but a missing namespace is to be heard of before what other plugins miss in it.
        self.validate(server, attributes)
    }

    fn validate<'a>(&'a self, server: &'a Arc<ApiServer>, attributes: &'a Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            if attributes.operation == Operation::Delete {
                let stays = IMMORTAL.contains(&attributes.name.as_str());
                return if stays { Err(attributes.forbidden("this namespace may not be deleted")) } else { Ok(()) };
            }
            if phase(server, &attributes.namespace).await? == "Terminating" { Err(terminating(attributes)) } else { Ok(()) }
        })
    }
}

/// The namespace's phase: from the cache, or from the store where the cache does not know it yet.
async fn phase(server: &Arc<ApiServer>, name: &str) -> Result<String, ApiError> {
    let Some(namespaces) = server.registry.built_in("", "v1", "namespaces") else { return Ok(String::new()) };
    server.feed.load(&namespaces.prefix, &namespaces.cache).await?;
    if let (Some(item), Some(field)) = (namespaces.cache.get("", name), namespaces.field_index("status.phase")) {
        return Ok(item.field(field).to_owned());
    }
    let found = server.fetch(namespaces, "", name).await?;
    let object = server.decode(namespaces, &found)?;
    Ok(text(&object, "/status/phase").to_owned())
}

fn terminating(attributes: &Attributes) -> ApiError {
    let namespace = &attributes.namespace;
    let mut error =
        attributes.forbidden(&format!("unable to create new content in namespace {namespace} because it is being terminated"));
    if let Some(details) = &mut error.details {
        details.causes = Some(vec![StatusCause {
            reason: Some("NamespaceTerminating".into()),
            message: Some(format!("namespace {namespace} is being terminated")),
            field: Some("metadata.namespace".into()),
        }]);
    }
    error
}
