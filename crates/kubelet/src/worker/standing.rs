//! Pods that stand already when their kubelet begins to work.

use std::sync::Arc;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_world::containers::{ContainerError, Image};

use super::look::{look, tell};
use super::sync::{field_context, make_sandbox};
use crate::cell::{PodCell, Source};
use crate::shared::Shared;
use crate::start::{self, Surroundings};
use crate::{images, plan, status, volumes};

/// Makes the pod's sandbox and containers and tells its status, once: what is left of a start long ago, whose events have expired.
/// A pod with init containers or in the node's network is left to its worker.
///
/// # Errors
/// What is missing for it to run; its worker will go on from there.
pub async fn stand(shared: &Arc<Shared>, pod: Pod) -> Result<(), String> {
    let pod = Arc::new(pod);
    let Some(spec) = &pod.spec else { return Ok(()) };
    if spec.init_containers.iter().flatten().next().is_some() || plan::is_host_network(&pod) {
        return Ok(());
    }
    shared.objects.refer(shared, &pod);
    let cell = PodCell::new(pod.clone(), Source::Api);
    let context = field_context(shared, &look(shared, &cell).await);
    let mounted = volumes::mount_all(shared, &cell, &pod, &context).await.map_err(|failures| failures.join("; "))?;
    let sandbox_id = make_sandbox(shared, &cell, &pod, 0).await.map_err(|error| error.to_string())?;
    let context = field_context(shared, &look(shared, &cell).await);
    let around = Surroundings { sandbox_id, mounted, context };
    for container in &spec.containers {
        let name = images::with_default_tag(container.image.as_deref().unwrap_or_default())?;
        let image = present(shared, &name).await.map_err(|error| error.to_string())?;
        let config = start::config(shared, &cell, &pod, container, &image, &around).await?;
        let id = shared.runtime.create_container(&around.sandbox_id, config).await.map_err(|error| error.to_string())?;
        shared.runtime.start_container(&id).await.map_err(|error| error.to_string())?;
    }
    look(shared, &cell).await;
    tell(shared, &cell, false);
    status::send(shared, &cell).await.map_err(|error| format!("telling the status of {}: {error}", pod.name()))
}

/// The image; pulled where it is missing.
async fn present(shared: &Shared, name: &str) -> Result<Image, ContainerError> {
    if let Some(image) = shared.runtime.image_status(name).await? {
        return Ok(image);
    }
    shared.runtime.pull_image(name, None).await?;
    shared.runtime.image_status(name).await?.ok_or_else(|| ContainerError::NotFound(format!("image {name}")))
}
