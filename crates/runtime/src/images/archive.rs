//! Loading images from tar archives: `docker save` and OCI layouts.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use daruma_world::containers::{ContainerError, Result};
use serde::Deserialize;

use super::compression::decompress;
use super::manifest::{self, Descriptor, Manifest};
use super::reference::Reference;
use super::{ImageRecord, ImageStore};

/// An image of `docker save`'s `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Loads every image of an archive (gzip, zstd or plain); gives their names, or ids where they have none. Blocks.
pub fn load(store: &ImageStore, path: &Path) -> Result<Vec<String>> {
    let directory = store.temporary("archive");
    let result = unpack(path, &directory).and_then(|()| load_directory(store, &directory));
    let _ = fs::remove_dir_all(&directory);
    result.map_err(|error| ContainerError::Other(format!("load {}: {error}", path.display())))
}

fn unpack(path: &Path, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    tar::Archive::new(decompress(io::BufReader::new(fs::File::open(path)?))?).unpack(directory)
}

fn load_directory(store: &ImageStore, directory: &Path) -> io::Result<Vec<String>> {
    // Newer `docker save` writes both; its own list has the names.
    if directory.join("manifest.json").exists() {
        let saved: Vec<Saved> = json(&directory.join("manifest.json"))?;
        return saved
            .iter()
            .map(|image| load_saved(store, directory, image))
            .collect::<io::Result<Vec<_>>>()
            .map(|names| names.concat());
    }
    if directory.join("index.json").exists() {
        let index: Manifest = json(&directory.join("index.json"))?;
        let mut names = Vec::new();
        for entry in &index.manifests {
            names.extend(load_entry(store, directory, entry, None)?);
        }
        return Ok(names);
    }
    Err(io::Error::other("neither manifest.json (docker save) nor index.json (OCI layout) is in the archive"))
}

fn load_saved(store: &ImageStore, directory: &Path, image: &Saved) -> io::Result<Vec<String>> {
    let configuration = read(directory, &image.config)?;
    let layers = image.layers.iter().map(|layer| inside(directory, layer)).collect::<io::Result<Vec<_>>>()?;
    add(store, &configuration, &layers, image.repo_tags.as_deref().unwrap_or_default(), None)
}

fn load_entry(store: &ImageStore, directory: &Path, entry: &Descriptor, name: Option<&str>) -> io::Result<Vec<String>> {
    let text = read(directory, &blob(&entry.digest))?;
    let document: Manifest = serde_json::from_slice(&text).map_err(io::Error::other)?;
    // containerd and nerdctl write the whole name under a key of their own.
    let own =
        entry.annotations.get("io.containerd.image.name").or_else(|| entry.annotations.get("org.opencontainers.image.ref.name"));
    let name = own.map(String::as_str).or(name);
    let Some(config) = &document.config else {
        let inner = document.for_this_machine().ok_or_else(|| io::Error::other("no image for this machine's architecture"))?;
        return load_entry(store, directory, inner, name);
    };
    let configuration = read(directory, &blob(&config.digest))?;
    let layers = document.layers.iter().map(|layer| inside(directory, &blob(&layer.digest))).collect::<io::Result<Vec<_>>>()?;
    let names: Vec<String> = name.map(str::to_owned).into_iter().collect();
    add(store, &configuration, &layers, &names, Some(&entry.digest))
}

fn add(
    store: &ImageStore,
    configuration: &[u8],
    layers: &[PathBuf],
    names: &[String],
    digest: Option<&str>,
) -> io::Result<Vec<String>> {
    let (mut record, diff_ids) = manifest::record(configuration)?;
    if diff_ids.len() != layers.len() {
        return Err(io::Error::other("configuration and manifest disagree on the number of layers"));
    }
    for (diff_id, path) in diff_ids.iter().zip(layers) {
        record.size_bytes += fs::metadata(path)?.len();
        store.add_layer(diff_id, fs::File::open(path)?)?;
    }
    let names = take_names(&mut record, names, digest);
    let id = record.id.clone();
    store.add(record)?;
    Ok(if names.is_empty() { vec![id] } else { names })
}

fn take_names(record: &mut ImageRecord, names: &[String], digest: Option<&str>) -> Vec<String> {
    let mut taken = Vec::new();
    for reference in names.iter().filter_map(|name| Reference::parse(name).ok()) {
        if let Some(digest) = digest {
            record.digests.insert(format!("{}@{digest}", reference.name()));
        }
        if let Some(tag) = reference.tagged() {
            record.tags.insert(tag.clone());
            taken.push(tag);
        }
    }
    taken
}

fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// A path of the archive, which must not lead out of it.
fn inside(directory: &Path, path: &str) -> io::Result<PathBuf> {
    let whole =
        fs::canonicalize(directory.join(path)).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    if whole.starts_with(fs::canonicalize(directory)?) {
        Ok(whole)
    } else {
        Err(io::Error::other(format!("{path} leads out of the archive")))
    }
}

fn read(directory: &Path, path: &str) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(inside(directory, path)?)?.read_to_end(&mut content)?;
    Ok(content)
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}
