//! The images of a machine, and getting more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daruma_world::containers::{ContainerError, Image, Result};

use super::names::{full_name, spellings};
use super::{Inner, Timing};
use crate::behaviour::{Behaviour, Behaviours};

/// What is pulled where nobody says how large it is.
const USUAL_BYTES: u64 = 20 << 20;

/// An image that every machine has from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltInImage {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Entry point.
    pub entrypoint: Vec<String>,
}

/// An image in the store.
#[derive(Debug, Clone)]
pub(super) struct StoredImage {
    pub(super) image: Image,
    pub(super) entrypoint: Vec<String>,
}

/// All images by id.
#[derive(Debug, Default)]
pub(super) struct Images {
    by_id: BTreeMap<String, StoredImage>,
    /// The last list that was given, as long as it is true.
    listed: Option<Arc<[Image]>>,
}

/// 64 hexadecimal digits made from a text: four FNV-1a hashes with different beginnings.
fn digest(text: &str) -> String {
    let hash = |salt: u64| {
        let start = 0xcbf2_9ce4_8422_2325u64 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        text.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    format!("sha256:{:016x}{:016x}{:016x}{:016x}", hash(1), hash(2), hash(3), hash(4))
}

impl Images {
    pub(super) fn add_built_in(&mut self, image: &BuiltInImage) {
        // A name that no image can have is found under that very name.
        let name = full_name(&image.name).unwrap_or_else(|_| image.name.clone());
        self.add(&name, image.size_bytes, image.entrypoint.clone(), true);
    }

    fn add(&mut self, name: &str, size_bytes: u64, entrypoint: Vec<String>, pinned: bool) -> String {
        let id = digest(name);
        let (bare, by_digest) = name.split_once('@').map_or((name, None), |(bare, digest)| (bare, Some(digest)));
        let last = bare.rfind('/').map_or(0, |slash| slash + 1);
        let tag = bare[last..].find(':').map(|colon| last + colon);
        let repository = tag.map_or(bare, |tag| &bare[..tag]);
        let content = by_digest.map_or_else(|| digest(&format!("{name} manifest")), str::to_owned);
        let tags = if by_digest.is_none() { vec![name.to_owned()] } else { Vec::new() };
        let digests = vec![format!("{repository}@{content}")];
        let image = Image { id: id.clone(), tags, digests, size_bytes, uid: None, username: None, pinned };
        self.by_id.insert(id.clone(), StoredImage { image, entrypoint });
        self.listed = None;
        id
    }

    /// An image by name, digest or id.
    pub(super) fn find(&self, reference: &str) -> Option<&StoredImage> {
        if let Some(stored) = self.by_id.get(reference) {
            return Some(stored);
        }
        let name = full_name(reference).unwrap_or_else(|_| reference.to_owned());
        if let Some(stored) = self.by_id.get(&digest(&name)) {
            return Some(stored);
        }
        self.by_id.values().find(|stored| stored.image.digests.contains(&name) || stored.image.tags.contains(&name))
    }

    /// All of them. A kubelet asks every 10 s, and gets the same list for as long as it is the same.
    pub(super) fn list(&mut self) -> Arc<[Image]> {
        let images = || self.by_id.values().map(|stored| stored.image.clone()).collect();
        self.listed.get_or_insert_with(images).clone()
    }

    /// Bytes of those that were pulled.
    pub(super) fn pulled_bytes(&self) -> u64 {
        self.by_id.values().filter(|stored| !stored.image.pinned).map(|stored| stored.image.size_bytes).sum()
    }

    /// Removes an image that no container in `used` (ids) needs. A missing one is fine.
    pub(super) fn remove(&mut self, reference: &str, used: &[String]) -> Result<()> {
        let Some(stored) = self.find(reference) else { return Ok(()) };
        if stored.image.pinned {
            return Err(ContainerError::Other(format!("image {reference:?} is built in")));
        }
        let id = stored.image.id.clone();
        if used.contains(&id) {
            return Err(ContainerError::Other(format!("image {reference:?} is used by a container")));
        }
        self.by_id.remove(&id);
        self.listed = None;
        Ok(())
    }
}

/// The behaviour of an image, by whichever name it is known.
pub(super) fn behaviour_of(own: &Behaviours, shared: &Behaviours, full: &str) -> Arc<Behaviour> {
    let find = |known: &Behaviours| spellings(full).into_iter().find_map(|name| known.of(name));
    find(own).or_else(|| find(shared)).unwrap_or_default()
}

/// Why an image cannot be pulled, in containerd's words as the kubelet gets them.
fn pull_error(name: &str, why: &str) -> ContainerError {
    let reason = match why {
        "not found" => format!("{name}: not found"),
        "denied" => "pull access denied, repository does not exist or may require authorization: server message: \
                     insufficient_scope: authorization failed"
            .to_owned(),
        "unreachable" => {
            let (registry, path) = name.split_once('/').unwrap_or((name, ""));
            let (repository, tag) = path.rsplit_once(':').unwrap_or((path, "latest"));
            let url = format!("https://{registry}/v2/{repository}/manifests/{tag}");
            format!("failed to do request: Head {url:?}: dial tcp: lookup {registry}: i/o timeout")
        }
        own => return ContainerError::Pull(own.to_owned()),
    };
    ContainerError::Pull(format!("failed to pull and unpack image {name:?}: failed to resolve reference {name:?}: {reason}"))
}

impl Timing {
    /// How long it takes to fetch so many bytes.
    fn pull(&self, bytes: u64) -> Duration {
        let transfer = if self.pull_bytes_per_second == 0 { 0.0 } else { bytes as f64 / self.pull_bytes_per_second as f64 };
        Duration::from_secs_f64(transfer)
    }
}

impl Inner {
    pub(super) async fn pull_image(&self, reference: &str) -> Result<String> {
        let name = full_name(reference)?;
        // A built-in image is newer than anything a registry could have.
        if let Some(stored) = self.state().images.find(&name)
            && stored.image.pinned
        {
            return Ok(stored.image.id.clone());
        }
        let world = self.world();
        self.take(self.config().timing.pull_answer).await;
        let behaviour = self.behaviour(&name);
        if let Some(why) = &behaviour.pull_fails {
            return Err(pull_error(&name, why));
        }
        let present = self.state().images.find(&name).map(|stored| stored.image.id.clone());
        if let Some(id) = present {
            return Ok(id);
        }
        let size = behaviour.size_bytes.unwrap_or(USUAL_BYTES);
        let time = self.config().timing.pull(size);
        if !time.is_zero() {
            world.sleep(time).await;
        }
        self.room_for(size, &name).await?;
        let id = self.state().images.add(&name, size, Vec::new(), false);
        self.settle_disk();
        Ok(id)
    }

    /// Refuses what does not fit on the disk.
    async fn room_for(&self, bytes: u64, name: &str) -> Result<()> {
        if self.scope().is_none() {
            return Ok(());
        }
        let usage = self.world().disk.usage(std::path::Path::new("/var/lib")).await;
        if usage.is_ok_and(|usage| usage.available_bytes < bytes) {
            let text =
                format!("failed to pull and unpack image {name:?}: failed to extract layer: write: no space left on device");
            return Err(ContainerError::Pull(text));
        }
        Ok(())
    }
}
