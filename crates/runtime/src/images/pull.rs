//! Pulling an image from its registry.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daruma_world::World;
use daruma_world::containers::{ContainerError, RegistryAuth, Result};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use super::ImageStore;
use super::manifest::{self, Descriptor, Manifest};
use super::reference::Reference;
use super::registry::{self, Registry, RegistryError, Settings};

/// Layers that are fetched at once: containerd `max_concurrent_downloads`.
const DOWNLOADS: usize = 3;
/// Attempts to go on with a broken download that bring nothing (containerd core/remotes/docker/httpreadseeker.go).
const FRUITLESS: u32 = 3;
/// How long a download may bring nothing: containerd `image_pull_progress_timeout`.
const STALLED: Duration = Duration::from_secs(5 * 60);

/// Fetches an image; gives its id. The error texts are those that containerd gives to the kubelet.
pub async fn pull(
    world: &World,
    store: &Arc<ImageStore>,
    text: &str,
    auth: Option<RegistryAuth>,
    settings: &Settings,
) -> Result<String> {
    let reference = Reference::parse(text)?;
    // A built-in image is newer than anything a registry could have.
    if let Some(record) = store.find(text)?
        && record.pinned
    {
        return Ok(record.id);
    }
    let failed =
        |text: String| ContainerError::Pull(format!("failed to pull and unpack image {:?}: {text}", reference.to_string()));
    let unresolved = |error: RegistryError| {
        let reason = match error {
            RegistryError::NotFound(_) => format!("{reference}: not found"),
            other => other.to_string(),
        };
        failed(format!("failed to resolve reference {:?}: {reason}", reference.to_string()))
    };
    let registry = Registry::open(world, &reference, auth, settings).await.map_err(unresolved)?;
    let (digest, content) = registry.resolve().await.map_err(unresolved)?;
    fetch(world, store, &registry, &reference, content.as_deref(), &digest).await.map_err(|error| match error {
        RegistryError::Content(text) => failed(text),
        other => failed(format!("failed to copy: httpReadSeeker: failed open: {other}")),
    })
}

fn content_error(error: impl std::fmt::Display) -> RegistryError {
    RegistryError::Content(error.to_string())
}

async fn fetch(
    world: &World,
    store: &Arc<ImageStore>,
    registry: &Registry,
    reference: &Reference,
    content: Option<&[u8]>,
    digest: &str,
) -> std::result::Result<String, RegistryError> {
    let read = |content: &[u8]| serde_json::from_slice::<Manifest>(content).map_err(content_error);
    let mut document = match content {
        Some(content) => read(content)?,
        None => read(&registry.manifest(digest).await?)?,
    };
    if document.config.is_none() {
        let entry = document
            .for_this_machine()
            .ok_or_else(|| content_error(format_args!("no match for platform in manifest {digest}: not found")))?;
        document = read(&registry.manifest(&entry.digest).await?)?;
    }
    let config = document.config.as_ref().ok_or_else(|| content_error("the manifest has no configuration"))?;
    let configuration = registry.configuration(&config.digest).await?;
    let (mut record, diff_ids) = manifest::record(&configuration).map_err(content_error)?;
    if diff_ids.len() != document.layers.len() {
        return Err(content_error("configuration and manifest disagree on the number of layers"));
    }
    record.size_bytes = config.size + document.layers.iter().map(|layer| layer.size).sum::<u64>();
    record.tags.extend(reference.tagged());
    record.digests.insert(format!("{}@{digest}", reference.name()));
    let layers: Vec<(&Descriptor, &String)> = document.layers.iter().zip(&diff_ids).collect();
    for some in layers.chunks(DOWNLOADS) {
        let downloads = some.iter().map(|(layer, diff_id)| fetch_layer(world, store, registry, layer, diff_id));
        futures::future::try_join_all(downloads).await?;
    }
    let id = record.id.clone();
    let store = store.clone();
    world.blocking(move || store.add(record)).await.map_err(content_error)?;
    Ok(id)
}

/// Downloads a layer into a file and unpacks it, unless it is here.
async fn fetch_layer(
    world: &World,
    store: &Arc<ImageStore>,
    registry: &Registry,
    layer: &Descriptor,
    diff_id: &str,
) -> std::result::Result<(), RegistryError> {
    if store.has_layer(diff_id) {
        return Ok(());
    }
    let file = Temporary(store.temporary("download"));
    download(world, registry, layer, &file.0).await?;
    let (store, layer, diff_id) = (store.clone(), layer.clone(), diff_id.to_owned());
    world.blocking(move || unpack(&store, &file.0, &layer, &diff_id)).await
}

/// A file that goes with the attempt that needed it, also when that is given up in the middle.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Downloads a blob; a connection that breaks is followed by another one for the rest.
async fn download(world: &World, registry: &Registry, layer: &Descriptor, file: &Path) -> std::result::Result<(), RegistryError> {
    let mut out = tokio::fs::File::from_std(std::fs::File::create(file).map_err(content_error)?);
    let (mut written, mut fruitless) = (0, 0);
    loop {
        let (url, response) = registry.blob(&layer.digest, written).await?;
        // A server that cannot begin in the middle sends again what is here.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { written };
        let before = written;
        let mut body = response.into_body();
        let broken = loop {
            let frame = world.timeout(STALLED, body.frame()).await;
            let frame = frame.map_err(|_| content_error(format_args!("{url}: no data for 5m0s: context canceled")))?;
            let data = match frame {
                None => break None,
                Some(Err(error)) => break Some(error),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            let known = skip.min(data.len() as u64);
            skip -= known;
            out.write_all(&data[known as usize..]).await.map_err(content_error)?;
            written += data.len() as u64 - known;
        };
        let Some(error) = broken else { break };
        fruitless = if written > before { 0 } else { fruitless + 1 };
        if fruitless > FRUITLESS {
            return Err(registry::unanswered(&Method::GET, &url, io::Error::other(error)));
        }
        tracing::debug!(%error, %url, written, "a download broke off");
    }
    out.flush().await.map_err(content_error)
}

fn unpack(store: &ImageStore, file: &Path, layer: &Descriptor, diff_id: &str) -> std::result::Result<(), RegistryError> {
    let packed = std::fs::File::open(file).and_then(|file| super::layer::Hashing::new(file).finish()).map_err(content_error)?;
    if packed != layer.digest {
        return Err(content_error(registry::mismatch("layer", &packed, &layer.digest)));
    }
    let extracted = std::fs::File::open(file).and_then(|file| store.add_layer(diff_id, file));
    extracted.map_err(|error| content_error(format_args!("failed to extract layer {diff_id}: {error}")))
}
