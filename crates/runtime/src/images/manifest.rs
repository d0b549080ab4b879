//! Documents of images: manifests, indexes, configurations. OCI image-spec and Docker's schema 2.

use std::collections::BTreeSet;
use std::io;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{ImageConfig, ImageRecord};

/// A pointer to content.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
    /// For which machines, in an index.
    pub platform: Option<Platform>,
    /// `org.opencontainers.image.ref.name` and its like.
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// Kind of machine.
#[derive(Debug, Clone, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
}

/// A manifest or an index: they differ in what is filled.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// The configuration (manifest).
    pub config: Option<Descriptor>,
    /// The layers, lowest first (manifest).
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// A manifest for each kind of machine (index).
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// A configuration.
#[derive(Debug, Clone, Deserialize)]
pub struct Configuration {
    /// How the image is run.
    #[serde(default)]
    pub config: Option<ImageConfig>,
    /// Digests of the uncompressed layers, lowest first.
    pub rootfs: RootFs,
}

/// Layers of a configuration.
#[derive(Debug, Clone, Deserialize)]
pub struct RootFs {
    /// `sha256:…` each.
    pub diff_ids: Vec<String>,
}

/// This machine's architecture, in the words of images.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Digest of a document.
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{}", super::hex(&Sha256::digest(content)))
}

impl Manifest {
    /// The entry of an index for this machine.
    pub fn for_this_machine(&self) -> Option<&Descriptor> {
        self.manifests
            .iter()
            .find(|entry| {
                entry.platform.as_ref().is_some_and(|platform| platform.os == "linux" && platform.architecture == architecture())
            })
            .or_else(|| self.manifests.iter().find(|entry| entry.platform.is_none()))
    }
}

/// The record of an image, from its configuration document.
pub fn record(configuration: &[u8]) -> io::Result<(ImageRecord, Vec<String>)> {
    let parsed: Configuration = serde_json::from_slice(configuration).map_err(io::Error::other)?;
    let record = ImageRecord {
        id: digest(configuration),
        tags: BTreeSet::new(),
        digests: BTreeSet::new(),
        size_bytes: 0,
        layers: parsed.rootfs.diff_ids.iter().map(|id| super::layer_name(id)).collect(),
        config: parsed.config.unwrap_or_default(),
        pinned: false,
    };
    Ok((record, parsed.rootfs.diff_ids))
}
