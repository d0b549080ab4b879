//! Disks of machines: an ext4 file system in a sparse file, on a loop device that frees itself.
#![expect(unsafe_code, reason = "loop device and file system ioctls")]
#![expect(clippy::disallowed_methods, reason = "waits for the kernel to let go of a disk")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Doing, MachineError};

const LOOP_CTL_GET_FREE: u64 = 0x4C82;
const LOOP_CONFIGURE: u64 = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
const LOOP_BLOCK: u32 = 4096;
/// `FS_IOC_SHUTDOWN`, as ext4 and xfs understand it.
const FS_IOC_SHUTDOWN: u64 = 0x8004_587d;
/// Stop at once; flush neither data nor journal.
static NO_LOG_FLUSH: u32 = 2;

/// `struct loop_info64` of the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of the kernel.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// An attached loop device. It goes away when this is dropped and nothing has mounted it.
#[derive(Debug)]
pub struct Loop {
    /// The device file on the host.
    pub device: PathBuf,
    /// The open device, which keeps it attached.
    pub fd: OwnedFd,
    /// The device number, which files on the disk show as theirs.
    pub number: u64,
}

/// A file system that is being made.
#[derive(Debug)]
pub struct Making {
    child: Child,
    unfinished: PathBuf,
    image: PathBuf,
}

/// Finds a program on the path or in the system directories.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"]);
    places.filter(|place| place.starts_with('/')).map(|place| Path::new(place).join(name)).find(|file| file.is_file())
}

/// Starts to make the disk `image` if it is not there. Call [`finish`] on the result before use.
pub fn make(image: &Path, bytes: u64) -> Result<Option<Making>, MachineError> {
    if image.exists() {
        return Ok(None);
    }
    let hint = "install the package e2fsprogs";
    let program = find_program("mkfs.ext4").ok_or(MachineError::NoProgram { program: "mkfs.ext4", hint })?;
    let unfinished = image.with_extension("img.new");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|file| file.set_len(bytes))
        .doing(|| format!("making {}", unfinished.display()))?;
    // The tables of a fresh sparse file are zero already, so nothing has to be initialised.
    let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    let child = Command::new(program)
        .args(["-q", "-F", "-b", "4096", "-m", "0", "-E", options])
        .arg(&unfinished)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| "starting mkfs.ext4".to_owned())?;
    Ok(Some(Making { child, unfinished, image: image.to_owned() }))
}

/// Waits until a disk is made.
pub fn finish(making: Making) -> Result<(), MachineError> {
    let Making { child, unfinished, image } = making;
    let output = child.wait_with_output().doing(|| "waiting for mkfs.ext4".to_owned())?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(MachineError::Program { program: "mkfs.ext4", output });
    }
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(&unfinished)
        .and_then(|()| fs::rename(&unfinished, &image))
        .and_then(|()| sync(image.parent().unwrap_or(&image)))
        .doing(|| format!("keeping {}", image.display()))
}

/// Attaches `image` to a loop device that frees itself after its last use.
///
/// Waits until an earlier use has ended: two mounts of one image would destroy it.
pub fn attach(image: &Path) -> Result<Loop, MachineError> {
    wait_until_free(image)?;
    let file = OpenOptions::new().read(true).write(true).open(image).doing(|| format!("opening {}", image.display()))?;
    let control =
        OpenOptions::new().read(true).write(true).open("/dev/loop-control").doing(|| "opening /dev/loop-control".to_owned())?;
    // Others may take the free device first.
    for _ in 0..50 {
        // SAFETY: the request takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(io::Error::last_os_error()).doing(|| "asking for a free loop device".to_owned());
        }
        let device = device_file(number).doing(|| format!("opening loop device {number}"))?;
        let opened = OpenOptions::new().read(true).write(true).open(&device).doing(|| format!("opening {}", device.display()))?;
        match configure(&opened, &file, LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO) {
            Ok(()) => {
                let number = opened.metadata().doing(|| format!("looking at {}", device.display()))?.rdev();
                return Ok(Loop { device, fd: opened.into(), number });
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error).doing(|| format!("attaching {} to {}", image.display(), device.display())),
        }
    }
    Err(io::Error::from(io::ErrorKind::ResourceBusy)).doing(|| "looking for a free loop device".to_owned())
}

fn configure(device: &File, image: &File, flags: u32) -> io::Result<()> {
    let info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let config = LoopConfig { fd: image.as_raw_fd() as u32, block_size: LOOP_BLOCK, info, reserved: [0; 8] };
    // SAFETY: the request reads one `struct loop_config`, which lives until the call returns.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The device file of a loop device, made where `/dev` is not kept by the kernel.
fn device_file(number: i32) -> io::Result<PathBuf> {
    let path = PathBuf::from(format!("/dev/loop{number}"));
    if !path.exists() {
        let device = nix::sys::stat::makedev(7, number as u64);
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFBLK, mode, device)?;
    }
    Ok(path)
}

/// The loop devices that `image` is attached to now.
pub fn attached_to(image: &Path) -> Vec<String> {
    let wanted = fs::canonicalize(image).unwrap_or_else(|_| image.to_owned());
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = entry.path().join("loop/backing_file");
        if fs::read_to_string(file).is_ok_and(|backing| Path::new(backing.trim_end_matches('\n')) == wanted) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

/// Waits, at most 10 s, until no loop device uses `image`.
pub fn wait_until_free(image: &Path) -> Result<(), MachineError> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let users = attached_to(image);
        if users.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            let problem = io::Error::other(format!("it is still attached to {}", users.join(", ")));
            return Err(problem).doing(|| format!("taking {} into use", image.display()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Cuts the power of the disk below `path`: from now on nothing reaches it, and what was not synced is lost.
///
/// # Errors
/// When `path` is not on the device with this number. A machine that has not left the host's tree yet shows the
/// host's file systems, and those must never be touched.
pub fn cut_power(path: &Path, number: u64) -> io::Result<()> {
    let place = File::open(path)?;
    if place.metadata()?.dev() != number {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the machine's disk is not mounted there"));
    }
    // SAFETY: the request reads one 32-bit number, which lives until the call returns.
    let done = unsafe { libc::ioctl(place.as_raw_fd(), FS_IOC_SHUTDOWN as _, &raw const NO_LOG_FLUSH) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
