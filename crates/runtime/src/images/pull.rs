//! Pulling an image from its registry.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_world::World;
use daruma_world::containers::{ContainerError, RegistryAuth, Result};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use super::ImageStore;
use super::manifest::{self, Descriptor, Manifest};
use super::reference::Reference;
use super::registry::{Registry, RegistryError};

/// Layers that are fetched at once: containerd `max_concurrent_downloads`.
const DOWNLOADS: usize = 3;

/// Fetches an image; gives its id. The error texts are those that containerd gives to the kubelet.
pub async fn pull(
    world: &World,
    store: &Arc<ImageStore>,
    text: &str,
    auth: Option<RegistryAuth>,
    ca_file: Option<&Path>,
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
            RegistryError::NotFound => format!("{reference}: not found"),
            other => other.to_string(),
        };
        failed(format!("failed to resolve reference {:?}: {reason}", reference.to_string()))
    };
    let registry = Registry::new(world, &reference, auth, ca_file).map_err(unresolved)?;
    let (content, digest) = registry.manifest(reference.version()).await.map_err(unresolved)?;
    fetch(world, store, &registry, &reference, &content, &digest).await.map_err(|error| match error {
        RegistryError::NotFound => failed("failed to copy: content not found".to_owned()),
        other => failed(other.to_string()),
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
    content: &[u8],
    digest: &str,
) -> std::result::Result<String, RegistryError> {
    let mut document: Manifest = serde_json::from_slice(content).map_err(content_error)?;
    if document.config.is_none() {
        let entry = document
            .for_this_machine()
            .ok_or_else(|| content_error(format_args!("no match for platform in manifest {digest}: not found")))?;
        let (content, _) = registry.manifest(&entry.digest).await?;
        document = serde_json::from_slice(&content).map_err(content_error)?;
    }
    let config = document.config.as_ref().ok_or_else(|| content_error("the manifest has no configuration"))?;
    let configuration = registry.document(&config.digest).await?;
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
    let file = store.temporary("download");
    let done = async {
        download(registry, layer, &file).await?;
        let (store, file, layer, diff_id) = (store.clone(), file.clone(), layer.clone(), diff_id.to_owned());
        world
            .blocking(move || unpack(&store, &file, &layer, &diff_id))
            .await
            .map_err(|error| content_error(format_args!("failed to extract layer: {error}")))
    }
    .await;
    let _ = tokio::fs::remove_file(&file).await;
    done
}

async fn download(registry: &Registry, layer: &Descriptor, file: &PathBuf) -> std::result::Result<(), RegistryError> {
    let (url, response) = registry.blob(&layer.digest).await?;
    let mut body = response.into_body();
    let mut out = tokio::fs::File::create(file).await.map_err(content_error)?;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| RegistryError::Request { method: "Get", url: url.clone(), source: io::Error::other(error) })?;
        if let Ok(data) = frame.into_data() {
            out.write_all(&data).await.map_err(content_error)?;
        }
    }
    out.flush().await.map_err(content_error)
}

fn unpack(store: &ImageStore, file: &Path, layer: &Descriptor, diff_id: &str) -> io::Result<()> {
    let packed = super::layer::Hashing::new(std::fs::File::open(file)?).finish()?;
    if packed != layer.digest {
        return Err(io::Error::other(format!("unexpected digest {packed}, expected {}", layer.digest)));
    }
    store.add_layer(diff_id, std::fs::File::open(file)?)
}
