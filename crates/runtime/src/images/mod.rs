//! The image store: unpacked layers shared by content, records with names and configuration.
//!
//! Layout below its directory: `records/<hex of id>.json`, `layers/<first 32 hex of diff id>/`,
//! `tmp/`. A directory of built-in images has the same layout and is only read.

pub mod archive;
mod compression;
mod dns;
pub mod layer;
pub mod manifest;
pub mod pull;
pub mod reference;
pub mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use daruma_world::containers::{ContainerError, Image, Result};
use serde::{Deserialize, Serialize};

use reference::Reference;

/// Hexadecimal digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What an image says of the process to be run: OCI image-spec `config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `user[:group]`.
    #[serde(alias = "User", deserialize_with = "nullable")]
    pub user: String,
    /// `NAME=value`.
    #[serde(alias = "Env", deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// Entry point.
    #[serde(alias = "Entrypoint", deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    /// Arguments.
    #[serde(alias = "Cmd", deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// Working directory.
    #[serde(alias = "WorkingDir", deserialize_with = "nullable")]
    pub working_dir: String,
    /// Signal that asks for the end.
    #[serde(alias = "StopSignal", deserialize_with = "nullable")]
    pub stop_signal: String,
}

/// Docker writes `null` for what is empty.
fn nullable<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// An image in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// Names with tags.
    pub tags: BTreeSet<String>,
    /// Names with digests.
    pub digests: BTreeSet<String>,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Names of layer directories, lowest first.
    pub layers: Vec<String>,
    /// How it is run.
    pub config: ImageConfig,
    /// Built in.
    #[serde(default)]
    pub pinned: bool,
}

impl ImageRecord {
    /// As the engine's callers see it.
    pub fn view(&self) -> Image {
        let user = self.config.user.split(':').next().unwrap_or_default();
        let uid = user.parse().ok();
        Image {
            id: self.id.clone(),
            tags: self.tags.iter().cloned().collect(),
            digests: self.digests.iter().cloned().collect(),
            size_bytes: self.size_bytes,
            uid,
            username: (uid.is_none() && !user.is_empty()).then(|| user.to_owned()),
            pinned: self.pinned,
        }
    }
}

/// Directory name of a layer, by the digest of its uncompressed content.
pub fn layer_name(diff_id: &str) -> String {
    let hex = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
    hex.chars().take(32).collect()
}

/// The store.
pub struct ImageStore {
    root: PathBuf,
    builtin: Option<PathBuf>,
    records: Mutex<BTreeMap<String, ImageRecord>>,
}

impl ImageStore {
    /// Opens a store, and shows the images of `builtin` in it.
    pub fn open(root: &Path, builtin: Option<&Path>) -> io::Result<Self> {
        for name in ["records", "layers"] {
            fs::create_dir_all(root.join(name))?;
        }
        // What a pull left half done.
        let temporary = root.join("tmp");
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        fs::create_dir_all(&temporary)?;
        let mut records = BTreeMap::new();
        for record in read_records(&root.join("records"))? {
            if record.layers.iter().all(|layer| root.join("layers").join(layer).is_dir()) {
                records.insert(record.id.clone(), record);
            }
        }
        if let Some(builtin) = builtin {
            for mut record in read_records(&builtin.join("records"))? {
                record.pinned = true;
                records.insert(record.id.clone(), record);
            }
        }
        Ok(Self { root: root.to_owned(), builtin: builtin.map(Path::to_owned), records: Mutex::new(records) })
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<String, ImageRecord>> {
        self.records.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// All images, ordered by id.
    pub fn list(&self) -> Vec<ImageRecord> {
        self.records().values().cloned().collect()
    }

    /// The image of an id, name or digest reference.
    pub fn find(&self, reference: &str) -> Result<Option<ImageRecord>> {
        let records = self.records();
        if let Some(record) = records.get(reference).or_else(|| records.get(&format!("sha256:{reference}"))) {
            return Ok(Some(record.clone()));
        }
        if reference.starts_with("sha256:") {
            return Ok(None);
        }
        let reference = Reference::parse(reference)?;
        let digest = reference.digest.as_ref().map(|digest| format!("{}@{digest}", reference.name()));
        let tag = reference.tagged();
        let found = records.values().find(|record| match (&digest, &tag) {
            (Some(digest), _) => record.digests.contains(digest),
            (None, Some(tag)) => record.tags.contains(tag),
            (None, None) => false,
        });
        Ok(found.cloned())
    }

    /// Directories of an image's layers, topmost first, as overlayfs wants them.
    pub fn layer_paths(&self, image: &ImageRecord) -> Vec<PathBuf> {
        let base = match &self.builtin {
            Some(builtin) if image.pinned => builtin.join("layers"),
            _ => self.root.join("layers"),
        };
        image.layers.iter().rev().map(|layer| base.join(layer)).collect()
    }

    /// Whether a layer is here.
    pub fn has_layer(&self, diff_id: &str) -> bool {
        self.root.join("layers").join(layer_name(diff_id)).is_dir()
    }

    /// A new path for something unfinished.
    pub fn temporary(&self, name: &str) -> PathBuf {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.root.join("tmp").join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Unpacks a layer, unless it is here; checks that its content is what `diff_id` says. Blocks.
    pub fn add_layer(&self, diff_id: &str, content: impl io::Read) -> io::Result<()> {
        let target = self.root.join("layers").join(layer_name(diff_id));
        if target.is_dir() {
            return Ok(());
        }
        let temporary = self.temporary(&layer_name(diff_id));
        let result = layer::unpack(content, &temporary).and_then(|digest| {
            if digest != diff_id {
                return Err(io::Error::other(format!("layer has digest {digest}, expected {diff_id}")));
            }
            match fs::rename(&temporary, &target) {
                // Another pull was faster.
                Err(_) if target.is_dir() => fs::remove_dir_all(&temporary),
                done => done,
            }
        });
        if result.is_err() {
            let _ = fs::remove_dir_all(&temporary);
        }
        result
    }

    /// Records an image whose layers are here; takes its names from images that had them. Blocks.
    pub fn add(&self, mut record: ImageRecord) -> io::Result<()> {
        // Layers before the record that says they are complete.
        let directory = fs::File::open(&self.root)?;
        // SAFETY: plain call on an open descriptor.
        if unsafe { libc::syncfs(std::os::fd::AsRawFd::as_raw_fd(&directory)) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut records = self.records();
        if let Some(known) = records.get(&record.id) {
            if known.pinned {
                return Ok(());
            }
            record.tags.extend(known.tags.iter().cloned());
            record.digests.extend(known.digests.iter().cloned());
        }
        for other in records.values_mut().filter(|other| other.id != record.id && !other.pinned) {
            let before = other.tags.len();
            other.tags.retain(|tag| !record.tags.contains(tag));
            if other.tags.len() != before {
                write_record(&self.root.join("records"), other)?;
            }
        }
        write_record(&self.root.join("records"), &record)?;
        records.insert(record.id.clone(), record);
        Ok(())
    }

    /// Removes an image and the layers that only it used. One that containers use stays. Blocks.
    pub fn remove(&self, reference: &str, used: &[String]) -> Result<()> {
        let Some(record) = self.find(reference)? else { return Ok(()) };
        if record.pinned {
            return Err(ContainerError::Other(format!("image {reference:?} is built in")));
        }
        if used.contains(&record.id) {
            return Err(ContainerError::Other(format!("image {reference:?} is used by a container")));
        }
        let failed = |error: io::Error| ContainerError::Other(format!("remove image {reference:?}: {error}"));
        let mut records = self.records();
        records.remove(&record.id);
        super::engine::remove_file(&record_path(&self.root.join("records"), &record.id)).map_err(failed)?;
        let kept: BTreeSet<&String> = records.values().filter(|other| !other.pinned).flat_map(|other| &other.layers).collect();
        for layer in record.layers.iter().filter(|layer| !kept.contains(layer)) {
            // Out of the way at once; a power cut during removal leaves it in `tmp`.
            let temporary = self.temporary(layer);
            if fs::rename(self.root.join("layers").join(layer), &temporary).is_ok() {
                fs::remove_dir_all(&temporary).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn record_path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{}.json", id.strip_prefix("sha256:").unwrap_or(id)))
}

/// Writes an image's record, durably.
pub fn write_record(directory: &Path, record: &ImageRecord) -> io::Result<()> {
    let path = record_path(directory, &record.id);
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(record).map_err(io::Error::other)?)?;
    file.sync_data()?;
    fs::rename(&temporary, &path)?;
    fs::File::open(directory)?.sync_all()
}

fn read_records(directory: &Path) -> io::Result<Vec<ImageRecord>> {
    let mut paths: Vec<_> = fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let records = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")).filter_map(|path| {
        let read = fs::read(path).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
        read.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "an image's record is unreadable")).ok()
    });
    Ok(records.collect())
}
