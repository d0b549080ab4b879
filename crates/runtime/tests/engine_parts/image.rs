//! Images to be loaded and pulled.

use std::collections::BTreeMap;
use std::io::Write;

use daruma_runtime::images::manifest::{architecture, digest};
use serde_json::{Value, json};

/// An archive of files: path, mode, content.
pub fn tar(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_uid(nix::unistd::getuid().as_raw().into());
        header.set_gid(nix::unistd::getgid().as_raw().into());
        header.set_mtime(0);
        header.set_cksum();
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// How layers travel.
#[derive(Clone, Copy, PartialEq)]
pub enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    fn pack(self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest),
        }
    }

    fn media_type(self) -> String {
        format!("application/vnd.oci.image.layer.v1.tar+{}", if self == Self::Gzip { "gzip" } else { "zstd" })
    }
}

/// An image.
#[derive(Clone)]
pub struct TestImage {
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
    pub packing: Packing,
}

/// An image as a registry has it.
pub struct Published {
    /// By digest, manifests among them.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Its manifests by architecture.
    pub index: Vec<u8>,
}

impl TestImage {
    /// With these layers; `config` is what the image says of its process.
    pub fn new(config: Value, layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "architecture": architecture(), "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        Self { config: config.to_string().into_bytes(), layers, packing: Packing::Gzip }
    }

    /// As `docker save` writes it.
    pub fn docker_archive(&self, name: &str) -> Vec<u8> {
        let paths: Vec<String> = (0..self.layers.len()).map(|at| format!("{at}/layer.tar")).collect();
        let manifest = json!([{ "Config": "c.json", "RepoTags": [name], "Layers": paths }]).to_string();
        let mut entries = vec![("c.json", 0o644, &self.config[..]), ("manifest.json", 0o644, manifest.as_bytes())];
        entries.extend(paths.iter().zip(&self.layers).map(|(path, layer)| (path.as_str(), 0o644, &layer[..])));
        tar(&entries)
    }

    /// As a registry has it, beside an image of the same name for machines that nobody has.
    pub fn publish(&self, name: &str) -> Published {
        let mut blobs = BTreeMap::new();
        let mut add = |media_type: &str, content: Vec<u8>| {
            let (digest, size) = (digest(&content), content.len());
            blobs.insert(digest.clone(), content);
            json!({ "mediaType": media_type, "digest": digest, "size": size })
        };
        let layer_type = self.packing.media_type();
        let layers: Vec<_> = self.layers.iter().map(|layer| add(&layer_type, self.packing.pack(layer))).collect();
        let config = add("application/vnd.oci.image.config.v1+json", self.config.clone());
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers });
        let mut other = add(manifest_type, b"no manifest at all".to_vec());
        other["platform"] = json!({ "architecture": "vax", "os": "linux" });
        let mut own = add(manifest_type, manifest.to_string().into_bytes());
        own["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        own["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "manifests": [other, own] });
        Published { blobs, index: index.to_string().into_bytes() }
    }

    /// As an OCI layout.
    pub fn oci_archive(&self, name: &str) -> Vec<u8> {
        let Published { blobs, index } = self.publish(name);
        // An archive for one machine has one manifest.
        let mut index: Value = serde_json::from_slice(&index).unwrap();
        index["manifests"].as_array_mut().unwrap().remove(0);
        let index = index.to_string();
        let paths: Vec<(String, Vec<u8>)> =
            blobs.into_iter().map(|(digest, content)| (format!("blobs/{}", digest.replace(':', "/")), content)).collect();
        let mut entries: Vec<(&str, u32, &[u8])> =
            paths.iter().map(|(path, content)| (path.as_str(), 0o644, &content[..])).collect();
        entries.push(("index.json", 0o644, index.as_bytes()));
        entries.push(("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#));
        tar(&entries)
    }
}
