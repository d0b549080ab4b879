//! Files that every machine has, and those that its description adds.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::mounts::HostView;
use crate::machine::power::Boot;
use crate::machine::{Doing, MachineError, SeedFile};

/// Writes the system's own files and the seed files of the description.
pub(super) fn write(boot: &Boot, host: &HostView) -> Result<(), MachineError> {
    let spec = &boot.spec;
    let hosts = format!("127.0.0.1\tlocalhost\n{}\t{}\n", spec.address, spec.hostname);
    for (path, content, once) in [
        ("/etc/machine-id", format!("{}\n", spec.machine_id), false),
        ("/etc/hostname", format!("{}\n", spec.hostname), false),
        ("/etc/os-release", host.os_release.clone(), false),
        ("/etc/hosts", hosts, true),
        ("/etc/resolv.conf", String::new(), true),
        ("/etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\n".to_owned(), true),
        ("/etc/group", "root:x:0:\ntty:x:5:\n".to_owned(), true),
    ] {
        put(&SeedFile { path: path.into(), content: content.into_bytes(), mode: 0o644, once })?;
    }
    spec.seed_files.iter().try_for_each(put)
}

fn put(file: &SeedFile) -> Result<(), MachineError> {
    if file.once && file.path.exists() {
        return Ok(());
    }
    // An equal file is left alone: no wear, and its time stays.
    if fs::read(&file.path).is_ok_and(|old| old == file.content) {
        return set_mode(&file.path, file.mode).doing(|| format!("setting the mode of {}", file.path.display()));
    }
    replace(file).doing(|| format!("writing {}", file.path.display()))
}

fn replace(file: &SeedFile) -> io::Result<()> {
    let parent = file.path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = parent.join(format!(".{name}.seed"));
    let mut open = fs::OpenOptions::new();
    let mut written = open.write(true).create(true).truncate(true).mode(file.mode).open(&temporary)?;
    io::Write::write_all(&mut written, &file.content)?;
    // ext4 writes the data out before a rename over an old file, so a cut leaves the old or the new content.
    set_mode(&temporary, file.mode)?;
    fs::rename(&temporary, &file.path)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
