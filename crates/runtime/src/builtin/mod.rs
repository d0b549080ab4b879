//! Images that come with the program: its own, and the application of Kubernetes' tutorial.
//!
//! All are the one static binary with different entry points. They are laid out once, on the
//! host, and every machine uses the same files as the lower layer of its containers.

pub mod bootcamp;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::images::layer::Hashing;
use crate::images::manifest::digest;
use crate::images::{ImageConfig, ImageRecord, layer_name, write_record};

/// The cluster's own image.
pub const DARUMA: &str = "daruma.dev/daruma:v0.1.0";
/// The tutorial's application, by version.
pub const BOOTCAMP: [(&str, u32); 2] =
    [("gcr.io/google-samples/kubernetes-bootcamp:v1", 1), ("gcr.io/google-samples/kubernetes-bootcamp:v2", 2)];
/// Where the binary is in the images.
const BINARY: &str = "/usr/local/bin/daruma";

/// Lays the built-in images out below `directory`, unless they are there for this very binary.
/// The binary is linked, or copied once where a link is impossible. Blocks.
pub fn prepare(directory: &Path, self_exe: &Path) -> io::Result<()> {
    let binary = Hashing::new(fs::File::open(self_exe)?).finish()?;
    let (layers, records) = (directory.join("layers"), directory.join("records"));
    let layer = layers.join(layer_name(&binary));
    for directory in [&layers, &records] {
        fs::create_dir_all(directory)?;
    }
    if !layer.is_dir() {
        // Beside its place, then moved: a layer is complete or not there.
        let temporary = layers.join(format!(".new-{}", std::process::id()));
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        lay_out(&temporary, self_exe)?;
        fs::rename(&temporary, &layer)?;
    }
    let size_bytes = fs::metadata(self_exe)?.len();
    // Records of another binary would name layers that are going.
    for entry in fs::read_dir(&records)?.flatten() {
        fs::remove_file(entry.path())?;
    }
    let own = vec![BINARY.to_owned()];
    write_record(&records, &record(DARUMA, own, &binary, size_bytes))?;
    for (name, version) in BOOTCAMP {
        let entry = vec![BINARY.to_owned(), "bootcamp".to_owned(), format!("--app-version={version}")];
        write_record(&records, &record(name, entry, &binary, size_bytes))?;
    }
    Ok(())
}

fn lay_out(root: &Path, self_exe: &Path) -> io::Result<()> {
    for (path, mode) in [
        ("", 0o755),
        ("etc/ssl/certs", 0o755),
        ("usr/local/bin", 0o755),
        ("var", 0o755),
        ("run", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("dev", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
    ] {
        fs::create_dir_all(root.join(path))?;
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode))?;
    }
    std::os::unix::fs::symlink("../run", root.join("var/run"))?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    let target = root.join(BINARY.trim_start_matches('/'));
    if fs::hard_link(self_exe, &target).is_err() {
        // Another file system, or a kernel that protects links.
        fs::copy(self_exe, &target)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn record(name: &str, entrypoint: Vec<String>, binary: &str, size_bytes: u64) -> ImageRecord {
    let config = ImageConfig { entrypoint, working_dir: "/".to_owned(), ..ImageConfig::default() };
    // The digest of what makes the image what it is stands for that of a configuration document.
    let id = digest(format!("{name}\n{binary}\n{:?}", config.entrypoint).as_bytes());
    let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
    ImageRecord {
        tags: [name.to_owned()].into(),
        digests: [format!("{repository}@{id}")].into(),
        id,
        size_bytes,
        layers: vec![layer_name(binary)],
        config,
        pinned: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn prepared_once_and_shared() {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("exe");
        fs::write(&exe, "program").unwrap();
        let images = dir.path().join("images");
        prepare(&images, &exe).unwrap();
        prepare(&images, &exe).unwrap();
        let store = crate::images::ImageStore::open(&dir.path().join("store"), Some(&images)).unwrap();
        assert_eq!(store.list().len(), 3);
        let image = store.find("gcr.io/google-samples/kubernetes-bootcamp:v2").unwrap().unwrap();
        assert!(image.pinned);
        let layers = store.layer_paths(&image);
        let inside = layers[0].join("usr/local/bin/daruma");
        assert_eq!(fs::metadata(inside).unwrap().ino(), fs::metadata(&exe).unwrap().ino());
        assert!(store.remove(DARUMA, &[]).is_err());
    }
}
