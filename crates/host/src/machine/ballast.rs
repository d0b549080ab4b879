//! What uses a machine up: a process of our own inside the machine, outside of all pods.
//!
//! It is started by PID 1 and stays until it is killed, except that files stay without it. Its state is a file
//! that the host can read: absent, `ok`, or what went wrong.
#![expect(clippy::disallowed_methods, reason = "this runs inside a real machine")]

mod memory;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use daruma_world::machines::{Pressure, PressureId};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::{Statvfs, statvfs};

use super::usage;

/// The mode of the binary that becomes such a process.
pub const BALLAST_MODE: &str = "ballast";
/// Its word for removing the files of a pressure.
const REMOVE: &str = "remove";

const FILES: &str = "/var/lib/daruma";
const STATES: &str = "/run/daruma/pressure";
/// The disk is taken in pieces of this size, so that others notice on the way.
const PIECE_BYTES: u64 = 4 << 20;
/// Empty files in one directory.
const FILES_A_DIRECTORY: u64 = 10_000;
/// Stack of a thread that only sleeps.
const STACK_BYTES: usize = 16 << 10;
const RETRY: Duration = Duration::from_millis(200);

/// File inside the machine that tells the state of a pressure.
pub fn state_file(id: PressureId) -> PathBuf {
    Path::new(STATES).join(id.to_string())
}

/// Whether a pressure is a thing on the disk, which stays without power.
pub fn is_on_disk(pressure: &Pressure) -> bool {
    matches!(pressure, Pressure::Disk { .. } | Pressure::Inodes { .. })
}

/// The words after the mode that start a pressure.
pub(crate) fn press_words(id: PressureId, pressure: &Pressure) -> io::Result<[String; 2]> {
    Ok([id.to_string(), serde_json::to_string(pressure)?])
}

/// The words after the mode that remove its files.
pub(crate) fn remove_words(id: PressureId) -> [String; 2] {
    [id.to_string(), REMOVE.to_owned()]
}

/// Removes the files of a pressure, then its state. Missing ones are fine.
pub(crate) fn remove(id: PressureId) -> io::Result<()> {
    remove_whatever(&file(id))?;
    remove_whatever(&state_file(id))
}

/// Removes the files of all pressures but these: they were released while the machine was off.
pub(crate) fn sweep(kept: &[PressureId]) {
    for entry in fs::read_dir(FILES).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix("ballast-")?.parse::<PressureId>().ok());
        if id.is_some_and(|id| !kept.contains(&id)) {
            // What cannot be removed takes room; the machine runs.
            let _ = remove_whatever(&entry.path());
        }
    }
}

/// The mode: `words` are as [`press_words`] or [`remove_words`] gave them. Returns the exit code.
pub fn main(words: &[String]) -> i32 {
    let Some((id, what)) = words.first().and_then(|id| id.parse().ok()).zip(words.get(1)) else {
        eprintln!("{BALLAST_MODE}: this mode is started by a machine's first process only");
        return 2;
    };
    if what == memory::PIECE {
        return memory::piece(words.get(2).and_then(|bytes| bytes.parse().ok()).unwrap_or_default());
    }
    if what == REMOVE {
        return remove(id).map_or_else(|error| complain(id, &error.to_string()), |()| 0);
    }
    match serde_json::from_str(what) {
        Ok(pressure) => match press(id, pressure) {
            Ok(()) => 0,
            Err(error) => complain(id, &error.to_string()),
        },
        Err(error) => complain(id, &error.to_string()),
    }
}

fn complain(id: PressureId, problem: &str) -> i32 {
    eprintln!("{BALLAST_MODE} {id}: {problem}");
    // On a full /run only the log tells.
    let _ = tell(id, problem);
    1
}

/// Tells whoever waits; the first news counts.
fn tell(id: PressureId, state: &str) -> io::Result<()> {
    fs::create_dir_all(STATES)?;
    let unfinished = Path::new(STATES).join(format!(".{id}"));
    fs::write(&unfinished, state)?;
    fs::rename(unfinished, state_file(id))
}

fn press(id: PressureId, pressure: Pressure) -> io::Result<()> {
    match pressure {
        Pressure::Disk { leave_bytes } => fill_disk(id, leave_bytes)?,
        Pressure::Inodes { leave } => use_inodes(id, leave)?,
        Pressure::Memory { bytes } => memory::hold(id, bytes),
        Pressure::Cpu { processes } => {
            for _ in 0..processes {
                thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                })?;
            }
            tell(id, "ok")?;
            rest();
        }
        Pressure::Pids { leave } => use_pids(id, leave),
        Pressure::SlowDisk { .. } => return Err(io::Error::other("a slow disk is no ballast")),
    }
    tell(id, "ok")
}

fn rest() -> ! {
    loop {
        thread::park();
    }
}

fn file(id: PressureId) -> PathBuf {
    Path::new(FILES).join(format!("ballast-{id}"))
}

fn space() -> io::Result<Statvfs> {
    Ok(statvfs(FILES)?)
}

/// Grows a file until only so much is free. Its blocks are reserved, not written: quick, and no load for the host.
fn fill_disk(id: PressureId, leave_bytes: u64) -> io::Result<()> {
    fs::create_dir_all(FILES)?;
    let ballast = File::create(file(id))?;
    let mut bytes = 0_u64;
    loop {
        let space = space()?;
        let block = space.fragment_size();
        let free = space.blocks_available() * block;
        let more = (free.saturating_sub(leave_bytes) / block * block).min(PIECE_BYTES.max(free / 4));
        if more == 0 {
            break;
        }
        match fallocate(ballast.as_fd(), FallocateFlags::empty(), bytes as i64, more as i64) {
            Ok(()) => bytes += more,
            // The file system keeps some for itself.
            Err(nix::errno::Errno::ENOSPC) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    // Kept over a power cut, as the promise is.
    ballast.sync_all()?;
    File::open(FILES)?.sync_all()
}

fn use_inodes(id: PressureId, leave: u64) -> io::Result<()> {
    let top = file(id);
    fs::create_dir_all(&top)?;
    let mut made = 0_u64;
    let mut free = space()?.files_free();
    while free > leave {
        let directory = top.join((made / FILES_A_DIRECTORY).to_string());
        let batch = (free - leave).min(FILES_A_DIRECTORY - made % FILES_A_DIRECTORY);
        if !directory.exists() {
            fs::create_dir(&directory)?;
        }
        for number in 0..batch {
            match File::create(directory.join((made + number).to_string())) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        made += batch;
        // Others make files too, and the directory took one; counted anew after each batch.
        free = space()?.files_free();
    }
    Ok(())
}

/// Starts sleeping threads, which count as processes do, until only so many can be started, and keeps it so.
fn use_pids(id: PressureId, leave: u64) -> ! {
    let mut told = false;
    loop {
        let missing = usage::read().map_or(0, |usage| usage.tasks_max.saturating_sub(usage.tasks).saturating_sub(leave));
        let mut started = 0;
        while started < missing && thread::Builder::new().stack_size(STACK_BYTES).spawn(|| rest()).is_ok() {
            started += 1;
        }
        if started == 0 {
            told = told || tell(id, "ok").is_ok();
            thread::sleep(RETRY);
        }
    }
}

fn remove_whatever(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
