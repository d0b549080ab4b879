//! The machine's tree of file systems: a small volatile root, the disk below `/etc`, `/var`, `/root` and their like,
//! and the kernel's own file systems as the machine sees them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::machine::cgroup::{self, Hierarchy};
use crate::machine::power::Boot;
use crate::machine::{Bind, Doing, MachineError};

/// Directories of the root that live on the disk.
const ON_DISK: [&str; 6] = ["etc", "home", "opt", "root", "srv", "var"];
/// Name, major, minor.
const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What init reads of the host before it leaves the host's tree.
#[derive(Debug)]
pub(super) struct HostView {
    /// `/proc/cpuinfo`.
    pub cpuinfo: String,
    /// `/etc/os-release`.
    pub os_release: String,
    /// Control group hierarchies.
    pub hierarchies: Vec<Hierarchy>,
}

impl HostView {
    pub(super) fn read() -> Result<Self, MachineError> {
        Ok(Self {
            cpuinfo: fs::read_to_string("/proc/cpuinfo").doing(|| "reading /proc/cpuinfo".to_owned())?,
            os_release: fs::read_to_string("/etc/os-release").unwrap_or_else(|_| "PRETTY_NAME=\"Linux\"\n".to_owned()),
            hierarchies: cgroup::hierarchies().doing(|| "reading the control group hierarchies".to_owned())?,
        })
    }
}

/// Builds the machine's tree on `boot.stage`.
pub(super) fn build(boot: &Boot, host: &HostView) -> Result<(), MachineError> {
    let root = boot.stage.as_path();
    let private = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
    private.doing(|| "making the mounts private".to_owned())?;
    tmpfs(root, "mode=755,size=16m")?;
    disk(root, &boot.disk)?;
    kernel(root)?;
    // Volatile files count as the machine's memory, so their limits follow its size, not the host's.
    let half = boot.spec.memory_bytes / 2;
    devices(&root.join("dev"), half).doing(|| "making /dev".to_owned())?;
    tmpfs(&directory(root, "run", 0o755)?, &format!("mode=755,size={half}"))?;
    tmpfs(&directory(root, "tmp", 0o1777)?, &format!("mode=1777,size={half}"))?;
    for name in ["mnt", "usr", "usr/local", "usr/local/bin"] {
        directory(root, name, 0o755)?;
    }
    let linked = match symlink("/run", root.join("var/run")) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    linked.doing(|| "linking /var/run".to_owned())?;
    control_groups(&root.join("sys/fs/cgroup"), &host.hierarchies)?;
    for bind in &boot.spec.binds {
        show(root, bind)?;
    }
    Ok(())
}

/// Makes the tree the root of this process and forgets the host's.
pub(super) fn enter(root: &Path) -> Result<(), MachineError> {
    let old = directory(root, ".old", 0o700)?;
    nix::unistd::pivot_root(root, &old).doing(|| "changing the root".to_owned())?;
    nix::unistd::chdir("/").doing(|| "changing the directory".to_owned())?;
    umount2("/.old", MntFlags::MNT_DETACH).doing(|| "forgetting the host's tree".to_owned())?;
    fs::remove_dir("/.old").doing(|| "removing /.old".to_owned())?;
    read_only_settings()
}

/// A file or directory of the machine covered by another one of the machine, after [`enter`].
pub(super) fn cover(source: &Path, target: &str) -> Result<(), MachineError> {
    if !Path::new(target).exists() {
        return Ok(());
    }
    bind(source, Path::new(target)).doing(|| format!("covering {target}"))
}

fn disk(root: &Path, device: &Path) -> Result<(), MachineError> {
    let whole = directory(root, ".disk", 0o700)?;
    let mounted = mount(Some(device), &whole, Some("ext4"), MsFlags::empty(), Some("noinit_itable"));
    mounted.doing(|| format!("mounting the disk {}", device.display()))?;
    for name in ON_DISK {
        let mode = if name == "root" { 0o700 } else { 0o755 };
        let source = directory(&whole, name, mode)?;
        let target = directory(root, name, mode)?;
        bind(&source, &target).doing(|| format!("mounting /{name}"))?;
    }
    umount2(&whole, MntFlags::empty()).doing(|| "hiding the top of the disk".to_owned())?;
    fs::remove_dir(&whole).doing(|| format!("removing {}", whole.display()))
}

fn kernel(root: &Path) -> Result<(), MachineError> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = directory(root, "proc", 0o555)?;
    mount(Some("proc"), &proc, Some("proc"), plain, None::<&str>).doing(|| "mounting /proc".to_owned())?;
    let sys = directory(root, "sys", 0o555)?;
    mount(Some("sysfs"), &sys, Some("sysfs"), plain | MsFlags::MS_RDONLY, None::<&str>).doing(|| "mounting /sys".to_owned())
}

/// Kernel settings belong to the host, except those of the machine's own network namespace.
fn read_only_settings() -> Result<(), MachineError> {
    for path in ["/proc/sys", "/proc/sys/net", "/proc/sysrq-trigger"] {
        if !Path::new(path).exists() {
            continue;
        }
        bind(Path::new(path), Path::new(path)).doing(|| format!("covering {path}"))?;
        let access = if path == "/proc/sys/net" { MsFlags::empty() } else { MsFlags::MS_RDONLY };
        let kept = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | kept | access;
        mount(None::<&str>, path, None::<&str>, flags, None::<&str>).doing(|| format!("setting the access to {path}"))?;
    }
    Ok(())
}

fn devices(dev: &Path, shared_bytes: u64) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(dev)?;
    mount(Some("tmpfs"), dev, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755,size=64k"))?;
    for (name, major, minor) in DEVICES {
        node(&dev.join(name), major, minor)?;
    }
    if Path::new("/dev/fuse").exists() {
        node(&dev.join("fuse"), 10, 229)?;
    }
    fs::write(dev.join("console"), "")?;
    bind(&dev.join("null"), &dev.join("console"))?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir(dev.join(name))?;
    }
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), quiet, Some("newinstance,ptmxmode=0666,mode=0620,gid=5"))?;
    let shared = format!("mode=1777,size={shared_bytes}");
    mount(Some("tmpfs"), &dev.join("shm"), Some("tmpfs"), quiet | MsFlags::MS_NODEV, Some(shared.as_str()))?;
    // A kernel without POSIX message queues leaves an empty directory.
    let _ = mount(Some("mqueue"), &dev.join("mqueue"), Some("mqueue"), quiet | MsFlags::MS_NODEV, None::<&str>);
    Ok(())
}

fn node(path: &Path, major: u64, minor: u64) -> io::Result<()> {
    mknod(path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

fn control_groups(at: &Path, hierarchies: &[Hierarchy]) -> Result<(), MachineError> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if let [only] = hierarchies
        && only.is_v2()
    {
        mount(Some("cgroup"), at, Some("cgroup2"), plain, None::<&str>).doing(|| "mounting the control groups".to_owned())?;
        return delegate(at).doing(|| "handing controllers to the machine".to_owned());
    }
    tmpfs(at, "mode=755,size=64k")?;
    for hierarchy in hierarchies {
        let name = hierarchy.mount.file_name().map_or_else(|| PathBuf::from("unified"), PathBuf::from);
        let target = directory(at, &name.to_string_lossy(), 0o755)?;
        let mounted = if hierarchy.is_v2() {
            mount(Some("cgroup"), &target, Some("cgroup2"), plain, None::<&str>)
        } else {
            let options = mount_options(&hierarchy.controllers);
            mount(Some("cgroup"), &target, Some("cgroup"), plain, Some(options.as_str()))
        };
        mounted.doing(|| format!("mounting the control groups of {}", name.display()))?;
        for alias in hierarchy.controllers.iter().filter(|alias| !alias.contains('=') && name != Path::new(alias)) {
            // An alias that another hierarchy owns is not ours to make.
            let _ = symlink(&name, at.join(alias));
        }
    }
    Ok(())
}

/// A named hierarchy has no controllers, which the kernel wants to be told.
fn mount_options(controllers: &[String]) -> String {
    let named = controllers.iter().all(|name| name.contains('='));
    let mut words: Vec<&str> = controllers.iter().map(String::as_str).collect();
    if named {
        words.insert(0, "none");
    }
    words.join(",")
}

/// Only groups without processes can give controllers on, so init moves to a leaf first.
fn delegate(at: &Path) -> io::Result<()> {
    let leaf = at.join("init.scope");
    fs::create_dir_all(&leaf)?;
    fs::write(leaf.join("cgroup.procs"), "1")?;
    cgroup::delegate(at);
    Ok(())
}

fn show(root: &Path, wanted: &Bind) -> Result<(), MachineError> {
    let target = root.join(wanted.machine.strip_prefix("/").unwrap_or(&wanted.machine));
    let step = || format!("showing {} at {}", wanted.host.display(), wanted.machine.display());
    let kind = match fs::metadata(&wanted.host) {
        Err(error) if wanted.optional && error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.doing(step)?,
    };
    if kind.is_dir() {
        fs::create_dir_all(&target).doing(step)?;
    } else {
        fs::create_dir_all(target.parent().unwrap_or(root)).doing(step)?;
        fs::OpenOptions::new().append(true).create(true).open(&target).doing(step)?;
    }
    bind(&wanted.host, &target).doing(step)?;
    if wanted.read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).doing(step)?;
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> nix::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

fn tmpfs(at: &Path, options: &str) -> Result<(), MachineError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options)).doing(|| format!("mounting tmpfs at {}", at.display()))
}

fn directory(below: &Path, name: &str, mode: u32) -> Result<PathBuf, MachineError> {
    let path = below.join(name);
    let made = match DirBuilder::new().mode(mode).create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Ok(()) => fs::set_permissions(&path, fs::Permissions::from_mode(mode)),
        other => other,
    };
    made.doing(|| format!("making {}", path.display()))?;
    Ok(path)
}
