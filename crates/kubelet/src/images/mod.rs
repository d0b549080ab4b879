//! Getting a container's image.
//!
//! Source: kubernetes pkg/kubelet/images/image_manager.go.

mod keyring;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Container as Spec, Pod, Secret};
use daruma_api::meta::ObjectExt;
use daruma_world::containers::{ContainerError, Image, RegistryAuth};
use jiff::Timestamp;

use crate::backoff::{Backoffs, INITIAL, LONGEST_PULL};
use crate::cell::PodCell;
use crate::shared::Shared;
use crate::start::StartError;
use crate::text::go_duration;
use keyring::Keyring;

/// Pulls that failed.
pub struct Pulls {
    backoffs: Backoffs,
    /// When and how the last pull of a key failed.
    failures: BTreeMap<String, (Timestamp, String)>,
}

impl Default for Pulls {
    fn default() -> Self {
        Self { backoffs: Backoffs::new(INITIAL, LONGEST_PULL), failures: BTreeMap::new() }
    }
}

/// Puts `:latest` where a reference has neither tag nor digest.
///
/// # Errors
/// A reference that no registry could have.
pub fn with_default_tag(image: &str) -> Result<String, String> {
    let bad = || {
        Err(format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"))
    };
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    if digest.is_some_and(|digest| !digest.contains(':')) {
        return bad();
    }
    let last = name.rsplit('/').next().unwrap_or_default();
    let (repository, tag) = match last.split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let host = repository.split_once('/').map(|(host, _)| host).unwrap_or_default();
    let is_host = host.contains(['.', ':']) || host == "localhost";
    let path = if is_host { &repository[host.len() + 1..] } else { repository };
    let word = |part: &str| {
        let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(alnum) && part.ends_with(alnum) && part.chars().all(|c| alnum(c) || "._-".contains(c))
    };
    let tag_ok = tag.is_none_or(|tag| {
        !tag.is_empty()
            && tag.len() <= 128
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    });
    if !path.split('/').all(word) || !tag_ok {
        return bad();
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

/// Makes sure that the image is here, as the pull policy says; gives it.
pub async fn ensure(shared: &Shared, cell: &PodCell, pod: &Pod, spec: &Spec) -> Result<Image, StartError> {
    let requested = spec.image.clone().unwrap_or_default();
    let recorder = &shared.recorder;
    let secrets = pull_secrets(shared, pod).await;
    let image = match with_default_tag(&requested) {
        Ok(image) => image,
        Err(message) => {
            recorder.container_warning(pod, &spec.name, "InspectFailed", message.clone());
            return Err(failed(shared, pod, spec, "InvalidImageName", message));
        }
    };
    let policy =
        spec.image_pull_policy.as_deref().unwrap_or_else(|| if image.ends_with(":latest") { "Always" } else { "IfNotPresent" });
    let present = match shared.runtime.image_status(&image).await {
        Ok(present) => present,
        Err(error) => {
            let message = format!("Failed to inspect image {image:?}: {error}");
            recorder.container_warning(pod, &spec.name, "InspectFailed", message.clone());
            return Err(failed(shared, pod, spec, "ImageInspectError", message));
        }
    };
    match (policy, present) {
        ("Never", None) => {
            let message = format!("Container image {requested:?} is not present with pull policy of Never");
            recorder.container_warning(pod, &spec.name, "ErrImageNeverPull", message.clone());
            Err(failed(shared, pod, spec, "ErrImageNeverPull", message))
        }
        ("Never" | "IfNotPresent", Some(present)) => {
            let message = format!("Container image {requested:?} already present on machine and can be accessed by the pod");
            recorder.container(pod, &spec.name, "Pulled", message);
            Ok(present)
        }
        // What is built in can be fetched from nowhere.
        (_, Some(present)) if present.pinned => {
            let message = format!("Container image {requested:?} already present on machine and can be accessed by the pod");
            recorder.container(pod, &spec.name, "Pulled", message);
            Ok(present)
        }
        _ => pull(shared, cell, pod, spec, &image, &secrets).await,
    }
}

async fn pull(
    shared: &Shared,
    cell: &PodCell,
    pod: &Pod,
    spec: &Spec,
    image: &str,
    secrets: &[Arc<Secret>],
) -> Result<Image, StartError> {
    let key = format!("{}_{image}", cell.uid);
    let recorder = &shared.recorder;
    let now = shared.now();
    let waits = {
        let pulls = shared.pulls.lock().expect("no panic while held");
        pulls.failures.get(&key).and_then(|(at, message)| Some((pulls.backoffs.remaining(&key, *at, now)?, message.clone())))
    };
    if let Some((rest, last)) = waits {
        let message = format!("Back-off pulling image {image:?}");
        recorder.container(pod, &spec.name, "BackOff", message.clone());
        let error = failed(shared, pod, spec, "ImagePullBackOff", format!("{message}: {last}"));
        return Err(error.retry_after(rest));
    }
    recorder.container(pod, &spec.name, "Pulling", format!("Pulling image {image:?}"));
    let started = shared.world.monotonic();
    let auths = match Keyring::of(secrets.iter().map(|secret| &**secret)) {
        Ok(keyring) => keyring.lookup(image),
        Err(message) => return Err(failed(shared, pod, spec, "ErrImagePull", message)),
    };
    let outcome = tokio::select! {
        biased;
        () = cell.ending() => return Err(StartError::stopped()),
        outcome = pull_with(shared, image, auths) => outcome,
    };
    let inspected = match outcome {
        Ok(id) => shared.runtime.image_status(&id).await.and_then(|found| found.ok_or(ContainerError::ImageNotFound(id))),
        Err(error) => Err(error),
    };
    match inspected {
        Ok(found) => {
            let took = go_duration(round_to_millis(shared.world.monotonic().saturating_sub(started)));
            let size = found.size_bytes;
            let message =
                format!("Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {size} bytes.");
            recorder.container(pod, &spec.name, "Pulled", message);
            let mut pulls = shared.pulls.lock().expect("no panic while held");
            pulls.failures.remove(&key);
            pulls.backoffs.clean(now);
            Ok(found)
        }
        Err(error) => {
            recorder.container_warning(pod, &spec.name, "Failed", format!("Failed to pull image {image:?}: {error}"));
            let at = shared.now();
            {
                let mut pulls = shared.pulls.lock().expect("no panic while held");
                pulls.backoffs.next(&key, at, at);
                pulls.failures.insert(key, (at, format!("ErrImagePull: {error}")));
            }
            // The next look, a moment later, reports the back-off.
            Err(failed(shared, pod, spec, "ErrImagePull", error.to_string()).retry_after(Duration::from_secs(2)))
        }
    }
}

fn failed(shared: &Shared, pod: &Pod, spec: &Spec, reason: &'static str, message: String) -> StartError {
    shared.recorder.container_warning(pod, &spec.name, "Failed", format!("Error: {reason}"));
    StartError::new(reason, message)
}

fn round_to_millis(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis() as u64)
}

/// Pulls with one of the credentials after the other, and without where there are none (kuberuntime_image.go, PullImage).
async fn pull_with(shared: &Shared, image: &str, auths: Vec<RegistryAuth>) -> Result<String, ContainerError> {
    if auths.is_empty() {
        return shared.runtime.pull_image(image, None).await;
    }
    let mut errors = BTreeSet::new();
    let mut texts = Vec::new();
    for auth in auths {
        match shared.runtime.pull_image(image, Some(auth)).await {
            Ok(id) => return Ok(id),
            Err(error) if errors.insert(error.to_string()) => texts.push(error.to_string()),
            Err(_) => {}
        }
    }
    Err(ContainerError::Pull(if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) }))
}

/// The pod's pull secrets; an event tells of those that are not there (kubelet_pods.go, getPullSecretsForPod).
async fn pull_secrets(shared: &Shared, pod: &Pod) -> Vec<Arc<Secret>> {
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten()).map(|reference| &reference.name);
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    // The API takes entries without a name.
    for name in names.filter(|name| !name.is_empty()) {
        match shared.objects.secret_object(shared, pod.namespace(), name).await {
            Ok(Some(secret)) => found.push(secret),
            _ => missing.push(name.clone()),
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        shared.recorder.pod_warning(pod, "FailedToRetrieveImagePullSecret", message);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (image, expected) in [
            ("nginx", Some("nginx:latest")),
            ("nginx:1.2", Some("nginx:1.2")),
            ("localhost:5000/a/b", Some("localhost:5000/a/b:latest")),
            ("r.io/a@sha256:00", Some("r.io/a@sha256:00")),
            ("Nginx", None),
            ("", None),
            ("a b", None),
            ("a:", None),
            ("a//b", None),
        ] {
            assert_eq!(with_default_tag(image).ok().as_deref(), expected, "{image}");
        }
    }
}
