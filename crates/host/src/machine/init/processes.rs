//! The machine's processes as a whole: who survives, who is buried, who is told to go.
#![expect(clippy::disallowed_methods, reason = "waits for the end of processes")]

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Reaps every process that has ended; returns their ids and how they ended.
pub(super) fn bury() -> Vec<(i32, String)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid.as_raw(), format!("exited with code {code}"))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid.as_raw(), format!("was killed by {signal}"))),
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => {}
        }
    }
}

/// Signals every process of the machine but init. False when there is none.
pub(super) fn signal_all(signal: Signal) -> bool {
    kill(Pid::from_raw(-1), signal) != Err(Errno::ESRCH)
}

/// Whether any process but init lives.
pub(super) fn others_live() -> bool {
    kill(Pid::from_raw(-1), None) != Err(Errno::ESRCH)
}

/// Ends the machine: the kernel kills what is left and tells the supervisor which of the two it was.
pub(super) fn end(reboot: bool) -> ! {
    let mode = if reboot { nix::sys::reboot::RebootMode::RB_AUTOBOOT } else { nix::sys::reboot::RebootMode::RB_POWER_OFF };
    // What was killed may be in the middle of a write. One that the kernel holds does not keep the machine.
    for _ in 0..200 {
        bury();
        if !others_live() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Only the machine's own disk: the host's others are none of its business.
    if let Ok(disk) = fs::File::open("/var") {
        let _ = nix::unistd::syncfs(&disk);
    }
    let refused = nix::sys::reboot::reboot(mode);
    eprintln!("init: ending the machine failed: {refused:?}");
    std::process::exit(if reboot { 4 } else { 5 })
}
