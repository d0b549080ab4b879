//! Getting a container's image.
//!
//! Source: kubernetes pkg/kubelet/images/image_manager.go.

use std::collections::BTreeMap;
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
        _ => pull(shared, cell, pod, spec, &image).await,
    }
}

async fn pull(shared: &Shared, cell: &PodCell, pod: &Pod, spec: &Spec, image: &str) -> Result<Image, StartError> {
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
    let auths = credentials(shared, pod, image).await;
    let mut outcome = Err(ContainerError::Pull(String::new()));
    for auth in auths.into_iter().map(Some).chain([None]) {
        let pulled = tokio::select! {
            biased;
            () = cell.ending() => return Err(StartError::stopped()),
            pulled = shared.runtime.pull_image(image, auth) => pulled,
        };
        let done = pulled.is_ok();
        outcome = pulled;
        if done {
            break;
        }
    }
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

/// Credentials for the image's registry from the pod's pull secrets.
async fn credentials(shared: &Shared, pod: &Pod, image: &str) -> Vec<RegistryAuth> {
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten()).map(|reference| reference.name.clone());
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match shared.objects.secret_object(shared, pod.namespace(), &name).await {
            Ok(Some(secret)) => found.extend(auth_from(&secret, image)),
            _ => missing.push(name),
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

fn auth_from(secret: &Secret, image: &str) -> Option<RegistryAuth> {
    use base64::Engine as _;
    let data = secret.data.as_ref()?;
    let document: serde_json::Value = match (data.get(".dockerconfigjson"), data.get(".dockercfg")) {
        (Some(text), _) => serde_json::from_slice::<serde_json::Value>(&text.0).ok()?.get("auths")?.clone(),
        (None, Some(text)) => serde_json::from_slice(&text.0).ok()?,
        (None, None) => return None,
    };
    let first = image.split('/').next().unwrap_or_default();
    let host = if image.contains('/') && (first.contains(['.', ':']) || first == "localhost") { first } else { "docker.io" };
    let entry = document.as_object()?.iter().find(|(server, _)| {
        let server = server.trim_start_matches("https://").trim_start_matches("http://");
        let server = server.split('/').next().unwrap_or_default();
        server == host || (host == "docker.io" && server == "index.docker.io")
    })?;
    let field = |name: &str| entry.1.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    if let (Some(username), Some(password)) = (field("username"), field("password")) {
        return Some(RegistryAuth { username, password });
    }
    let plain = base64::engine::general_purpose::STANDARD.decode(field("auth")?).ok()?;
    let (username, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    Some(RegistryAuth { username: username.into(), password: password.into() })
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
