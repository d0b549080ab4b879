//! The file system of a container: overlay root, kernel file systems, devices, the pod's mounts.
//!
//! Everything here runs in the child that becomes the container's first process, in a mount name
//! space of its own; nothing that it mounts is seen on the machine, and all goes with the process.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use daruma_world::containers::{Mount, Propagation};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::process::{ChildResult, check, context};
use super::protocol::StartSpec;

/// Hidden from ordinary containers: containerd `pkg/oci/spec.go` MaskedPaths.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// Not writable for ordinary containers: containerd `pkg/oci/spec.go` ReadonlyPaths.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Always there: runtime-spec "Default Devices".
const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A mount taken off the machine's tree, to be put into the container's.
struct Source {
    tree: OwnedFd,
    directory: bool,
    target: PathBuf,
    read_only: bool,
    propagation: Propagation,
}

/// Makes the container's file system the root of this process, which has just got a mount name space.
pub fn enter(spec: &StartSpec) -> ChildResult<()> {
    let privileged = spec.process.security.privileged;
    // Taken before propagation is cut, so that shared sources stay peers of the machine's mounts.
    let mut sources = Vec::new();
    for mount in &spec.mounts {
        sources.push(take(mount)?);
    }
    let shm = Mount {
        host_path: spec.shm.clone(),
        container_path: "/dev/shm".into(),
        read_only: false,
        propagation: Propagation::Private,
    };
    let shm = take(&shm)?;
    let cgroups = if privileged {
        let host = Mount {
            host_path: spec.cgroup_mount.clone(),
            container_path: "/sys/fs/cgroup".into(),
            read_only: false,
            propagation: Propagation::Private,
        };
        Some(take(&host)?)
    } else {
        None
    };
    let host_devices = if privileged { list_devices(Path::new("/dev")) } else { Vec::new() };

    let none: Option<&str> = None;
    context("make mounts private", mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))?;
    overlay(spec)?;
    context("chdir to root", std::env::set_current_dir(&spec.rootfs))?;
    context("pivot_root", nix::unistd::pivot_root(".", "."))?;
    context("unmount old root", umount2(".", MntFlags::MNT_DETACH))?;
    context("chdir to /", std::env::set_current_dir("/"))?;

    kernel_file_systems(privileged)?;
    // SAFETY: plain calls on this process.
    let umask = unsafe { libc::umask(0) };
    let made = devices(&host_devices);
    // SAFETY: as above.
    unsafe { libc::umask(umask) };
    made?;
    put(shm)?;
    match cgroups {
        Some(host) => put(host)?,
        None => cgroup_mounts(spec)?,
    }
    // Parents before children, whatever order they were given in.
    sources.sort_by_key(|source| source.target.components().count());
    for source in sources {
        put(source)?;
    }
    if !privileged {
        for path in MASKED {
            mask(path)?;
        }
        for path in READ_ONLY {
            read_only(path)?;
        }
    }
    if spec.process.security.read_only_root {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        context("make root read-only", mount(none, "/", none, flags, none))?;
    }
    Ok(())
}

/// Mounts image layers and writable layer. Lower layers are named relative to their common parent:
/// the options of mount(2) end at one page.
fn overlay(spec: &StartSpec) -> ChildResult<()> {
    let parent = spec.layers.first().and_then(|layer| layer.parent()).ok_or("the image has no layers")?;
    context(format_args!("chdir to {}", parent.display()), std::env::set_current_dir(parent))?;
    let lower: Vec<String> =
        spec.layers.iter().map(|layer| layer.strip_prefix(parent).unwrap_or(layer).to_string_lossy().into_owned()).collect();
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), spec.upper.display(), spec.work.display());
    let mut flags = MsFlags::empty();
    if spec.cgroup_v1.is_empty() && !spec.process.security.privileged {
        // Stands in for the device controller that version 2 lacks.
        flags |= MsFlags::MS_NODEV;
    }
    context("mount overlay root", mount(Some("overlay"), &spec.rootfs, Some("overlay"), flags, Some(options.as_str())))
}

fn kernel_file_systems(privileged: bool) -> ChildResult<()> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let make = |kind: &str, at: &str, flags: MsFlags, options: Option<&str>| {
        context(format_args!("mkdir {at}"), fs::create_dir_all(at))?;
        context(format_args!("mount {kind} to rootfs at {at:?}"), mount(Some(kind), at, Some(kind), flags, options))
    };
    make("proc", "/proc", safe, None)?;
    make("tmpfs", "/dev", MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, Some("mode=755,size=65536k"))?;
    let pts = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    make("devpts", "/dev/pts", pts, Some("newinstance,ptmxmode=0666,mode=0620,gid=5"))?;
    // A kernel without POSIX message queues has no such file system.
    if let Err(text) = make("mqueue", "/dev/mqueue", safe, None)
        && !text.contains("ENODEV")
    {
        return Err(text);
    }
    let sysfs = if privileged { safe } else { safe | MsFlags::MS_RDONLY };
    make("sysfs", "/sys", sysfs, None)
}

/// The container's own control groups, seen from their name space.
fn cgroup_mounts(spec: &StartSpec) -> ChildResult<()> {
    let none: Option<&str> = None;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let at = "/sys/fs/cgroup";
    if !Path::new(at).is_dir() {
        return Ok(());
    }
    if spec.cgroup_v1.is_empty() {
        return context("mount cgroup2", mount(Some("cgroup2"), at, Some("cgroup2"), safe | MsFlags::MS_RDONLY, none));
    }
    context("mount cgroup", mount(Some("tmpfs"), at, Some("tmpfs"), safe, Some("mode=755")))?;
    for controller in &spec.cgroup_v1 {
        let directory = format!("{at}/{controller}");
        context("make cgroup directory", fs::create_dir(&directory))?;
        let flags = safe | MsFlags::MS_RDONLY;
        context(
            format_args!("mount cgroup {controller}"),
            mount(Some("cgroup"), directory.as_str(), Some("cgroup"), flags, Some(controller.as_str())),
        )?;
    }
    context(
        "make cgroup read-only",
        mount(none, at, none, safe | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, none),
    )
}

/// A device file of the machine.
struct Device {
    path: PathBuf,
    kind: SFlag,
    mode: u32,
    number: u64,
}

fn list_devices(directory: &Path) -> Vec<Device> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(facts) = entry.metadata() else { continue };
        let kind = facts.file_type();
        if kind.is_dir() && !["pts", "shm", "mqueue", "fd"].iter().any(|name| entry.file_name() == *name) {
            found.extend(list_devices(&path));
        } else if kind.is_char_device() || kind.is_block_device() {
            let kind = if kind.is_char_device() { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
            found.push(Device { path, kind, mode: facts.permissions().mode() & 0o777, number: facts.rdev() });
        }
    }
    found
}

fn devices(host: &[Device]) -> ChildResult<()> {
    for (name, major, minor) in DEVICES {
        let path = format!("/dev/{name}");
        context(
            format_args!("mknod {path}"),
            mknod(path.as_str(), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor)),
        )?;
    }
    for device in
        host.iter().filter(|device| !device.path.exists() && !device.path.ends_with("ptmx") && !device.path.ends_with("console"))
    {
        if let Some(parent) = device.path.parent() {
            context("make device directory", fs::create_dir_all(parent))?;
        }
        // A device that the machine's own limits forbid is not there for its containers either.
        let _ = mknod(&device.path, device.kind, Mode::from_bits_truncate(device.mode), device.number);
    }
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
        ("/proc/kcore", "/dev/core"),
    ] {
        context(format_args!("link {link}"), symlink(target, link))?;
    }
    Ok(())
}

fn c_path(path: &Path) -> ChildResult<CString> {
    context(path.display(), CString::new(path.as_os_str().as_bytes()))
}

/// Clones the machine's mount tree at a path, without attaching it anywhere.
fn take(mount: &Mount) -> ChildResult<Source> {
    let host = &mount.host_path;
    if !host.exists() {
        context(format_args!("failed to mkdir {:?}", host.display().to_string()), fs::create_dir_all(host))?;
    }
    let path = c_path(host)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: the path is NUL-terminated and outlives the call; the descriptor returned is ours.
    let tree = unsafe {
        let fd = check(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags));
        OwnedFd::from_raw_fd(context(format_args!("open mount source {}", host.display()), fd)? as i32)
    };
    let target = mount.container_path.clone();
    Ok(Source { tree, directory: host.is_dir(), target, read_only: mount.read_only, propagation: mount.propagation })
}

/// Layout of `struct mount_attr` in linux/mount.h.
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

fn attributes(tree: &OwnedFd, flags: libc::c_int, attributes: &MountAttributes) -> io::Result<()> {
    // SAFETY: the empty path names the descriptor itself; the structure has the kernel's layout and size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    })
    .map(|_| ())
}

/// Attaches a taken tree inside the new root.
fn put(source: Source) -> ChildResult<()> {
    let what = format!("error mounting to rootfs at {:?}", source.target.display().to_string());
    if source.directory {
        context(&what, fs::create_dir_all(&source.target))?;
    } else if !source.target.exists() {
        if let Some(parent) = source.target.parent() {
            context(&what, fs::create_dir_all(parent))?;
        }
        context(&what, fs::write(&source.target, ""))?;
    }
    let propagation = match source.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::HostToContainer => libc::MS_SLAVE,
        Propagation::Bidirectional => libc::MS_SHARED,
    };
    let change = MountAttributes { propagation, ..MountAttributes::default() };
    context(&what, attributes(&source.tree, libc::AT_RECURSIVE, &change))?;
    if source.read_only {
        // MOUNT_ATTR_RDONLY
        let change = MountAttributes { set: 1, ..MountAttributes::default() };
        context(&what, attributes(&source.tree, 0, &change))?;
    }
    let target = c_path(&source.target)?;
    // SAFETY: both paths are NUL-terminated and outlive the call. MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS.
    let moved = check(unsafe {
        libc::syscall(libc::SYS_move_mount, source.tree.as_raw_fd(), c"".as_ptr(), libc::AT_FDCWD, target.as_ptr(), 0x4 | 0x10)
    });
    context(&what, moved).map(|_| ())
}

fn mask(path: &str) -> ChildResult<()> {
    let none: Option<&str> = None;
    let Ok(facts) = fs::metadata(path) else { return Ok(()) };
    let done = if facts.is_dir() {
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, none)
    } else {
        mount(Some("/dev/null"), path, none, MsFlags::MS_BIND, none)
    };
    context(format_args!("mask {path}"), done)
}

fn read_only(path: &str) -> ChildResult<()> {
    let none: Option<&str> = None;
    if !Path::new(path).exists() {
        return Ok(());
    }
    context(format_args!("bind {path}"), mount(Some(path), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none))?;
    let flags =
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    context(format_args!("make {path} read-only"), mount(none, path, none, flags, none))
}
