//! Unpacking a layer: a tar stream, whose whiteouts become overlayfs's own.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::compression::decompress;

/// Says that a name of the lower layers is gone: OCI image-spec `layer.md`, whiteouts.
const WHITEOUT: &str = ".wh.";
/// Says that everything of the lower layers in its directory is gone.
const OPAQUE: &str = ".wh..wh..opq";

/// Passes bytes through and computes their digest.
pub struct Hashing<R> {
    inner: R,
    digest: Sha256,
}

impl<R: Read> Hashing<R> {
    /// Wraps a reader.
    pub fn new(inner: R) -> Self {
        Self { inner, digest: Sha256::new() }
    }

    /// Reads the rest, and gives `sha256:…` of everything.
    pub fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(format!("sha256:{}", super::hex(&self.digest.finalize())))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.digest.update(&buffer[..len]);
        Ok(len)
    }
}

/// Unpacks a layer (gzip, zstd or plain) into a new directory; gives the digest of the plain content.
pub fn unpack(content: impl Read, directory: &Path) -> io::Result<String> {
    fs::create_dir_all(directory)?;
    let mut content = Hashing::new(decompress(content)?);
    let mut archive = tar::Archive::new(&mut content);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        unpack_entry(&mut entry, &path, directory).map_err(|error| {
            // The tar crate keeps the reason in the source.
            let reason =
                error.get_ref().and_then(std::error::Error::source).map(|source| format!(": {source}")).unwrap_or_default();
            io::Error::new(error.kind(), format!("unpack {}: {error}{reason}", path.display()))
        })?;
    }
    content.finish()
}

fn unpack_entry<R: Read>(entry: &mut tar::Entry<'_, R>, path: &Path, directory: &Path) -> io::Result<()> {
    let Some(target) = inside(directory, path) else {
        return Err(io::Error::other("the path leads out of the layer"));
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = target.parent().unwrap_or(directory).to_owned();
    if name.starts_with(WHITEOUT) {
        real_directory(directory, &parent)?;
    }
    if name == OPAQUE {
        return set_attribute(&parent, c"trusted.overlay.opaque", b"y");
    }
    if let Some(gone) = name.strip_prefix(WHITEOUT) {
        if gone.is_empty() || gone.starts_with(".wh.") {
            // Bookkeeping of AUFS.
            return Ok(());
        }
        return Ok(mknod(&parent.join(gone), SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?);
    }
    let kind = entry.header().entry_type();
    let special = match kind {
        EntryType::Char => Some(SFlag::S_IFCHR),
        EntryType::Block => Some(SFlag::S_IFBLK),
        EntryType::Fifo => Some(SFlag::S_IFIFO),
        _ => None,
    };
    if let Some(special) = special {
        real_directory(directory, &parent)?;
        super::super::engine::remove_file(&target)?;
        let header = entry.header();
        let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
        mknod(&target, special, Mode::from_bits_truncate(header.mode()? & 0o7777), makedev(major.into(), minor.into()))?;
        std::os::unix::fs::lchown(&target, Some(header.uid()? as u32), Some(header.gid()? as u32))?;
        return Ok(());
    }
    let attributes = extended_attributes(entry)?;
    if !entry.unpack_in(directory)? {
        return Err(io::Error::other("the path leads out of the layer"));
    }
    if !kind.is_symlink() {
        for (name, value) in attributes {
            // A kernel or file system without this attribute runs the image without it.
            let _ = set_attribute(&target, &name, &value);
        }
    }
    Ok(())
}

/// The path below `directory`, unless it has `..` in it.
fn inside(directory: &Path, path: &Path) -> Option<PathBuf> {
    let mut target = directory.to_owned();
    for component in path.components() {
        match component {
            Component::Normal(part) => target.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(target)
}

/// Makes `directory` below `root`, refusing symbolic links on the way.
fn real_directory(root: &Path, directory: &Path) -> io::Result<()> {
    let mut current = root.to_owned();
    for part in directory.strip_prefix(root).map_err(io::Error::other)? {
        current.push(part);
        match fs::symlink_metadata(&current) {
            Ok(facts) if facts.is_dir() => {}
            Ok(_) => return Err(io::Error::other("a parent is no directory")),
            Err(_) => fs::create_dir(&current)?,
        }
    }
    Ok(())
}

/// `SCHILY.xattr.` records of the entry (file capabilities).
fn extended_attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut found = Vec::new();
    let Some(extensions) = entry.pax_extensions()? else { return Ok(found) };
    for extension in extensions {
        let extension = extension?;
        if let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.")
            && let Ok(name) = CString::new(name)
        {
            found.push((name, extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

fn set_attribute(path: &Path, name: &std::ffi::CStr, value: &[u8]) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: path and name are NUL-terminated, the value has the length given; all outlive the call.
    let code = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn paths_out_of_the_layer_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = unpack(&archive(&[("../evil", b"x")])[..], &dir.path().join("l")).unwrap_err();
        assert!(error.to_string().contains("leads out"), "{error}");
        assert!(!dir.path().join("evil").exists());
    }

    #[test]
    fn plain_and_gzip_have_one_digest() {
        let dir = tempfile::tempdir().unwrap();
        let plain = archive(&[("a/b", b"content")]);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, &plain).unwrap();
        let packed = encoder.finish().unwrap();
        let first = unpack(&plain[..], &dir.path().join("1")).unwrap();
        assert_eq!(first, unpack(&packed[..], &dir.path().join("2")).unwrap());
        assert_eq!(fs::read(dir.path().join("2/a/b")).unwrap(), b"content");
    }
}
