//! The shim: one small single-threaded process per pod that owns the pod's name spaces, its
//! container processes, their streams and log files. It outlives the engine's process.
//!
//! libcontainer is not used for this: its exec leaves a process of its own to be reaped per call, a
//! failed one keeps the PID name space from ending, and its errors are not the texts that users of
//! Kubernetes know. What a container needs of the kernel is in [`rootfs`], [`spawn`] and [`process`].
//!
//! Invariant: no thread is ever started here.

pub mod capabilities;
mod container;
pub mod log;
pub mod process;
pub mod protocol;
mod rootfs;
mod server;
pub mod setup;
mod spawn;
pub use container::set_nonblocking;
pub mod users;

use std::ffi::OsString;
use std::path::PathBuf;

/// Name of the control socket in a shim's directory.
pub const SOCKET: &str = "ctl.sock";
/// Name of the specification in a shim's directory.
pub const SPEC: &str = "shim.json";
/// Name of the file with the shim's process id.
pub const PID: &str = "pid";

/// The binary's `shim` mode: `args` are the words after the mode's name, `--dir DIRECTORY`. The
/// caller's process ends with 0 once the shim is ready in the background, else with 1 and the
/// reason on standard error. Must be called before any thread exists.
pub fn shim_main(args: &[OsString]) -> ! {
    let directory = match args {
        [flag, directory] if flag == "--dir" => PathBuf::from(directory),
        _ => {
            eprintln!("usage: shim --dir DIRECTORY");
            std::process::exit(2);
        }
    };
    match setup::background(&directory) {
        Ok(None) => std::process::exit(0),
        Ok(Some(sandbox)) => server::Server::new(sandbox).run(),
        Err(text) => {
            eprintln!("{text}");
            std::process::exit(1)
        }
    }
}

/// Wall-clock time. The shim has no world: it is what the world's containers run under.
#[allow(clippy::disallowed_methods, reason = "the shim is a process of its own below every world")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Nanoseconds since the epoch.
fn nanoseconds(at: jiff::Timestamp) -> i64 {
    at.as_nanosecond() as i64
}
