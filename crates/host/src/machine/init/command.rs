//! The command that init runs, and when it is run again. Pure but for [`start`].

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use crate::machine::MachineSpec;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A command that ran this long starts again with the first delay.
const STEADY: Duration = Duration::from_secs(30);

/// How long to wait before the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST_DELAY }
    }

    /// The delay after a run of the length `ran`.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.next = FIRST_DELAY;
        }
        let delay = self.next;
        self.next = (delay * 2).min(LONGEST_DELAY);
        delay
    }
}

/// Starts the command with its output on `output`. Returns its process id; init reaps it with all others.
pub(super) fn start(spec: &MachineSpec, output: &OwnedFd) -> io::Result<i32> {
    let (program, arguments) = spec.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .envs(&spec.env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    // Init blocks all signals, and a child inherits that: it could never be asked to end.
    #[expect(unsafe_code, reason = "a step between fork and exec")]
    // SAFETY: `sigprocmask` is async-signal-safe, and an empty set allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?));
    }
    let child = command.spawn()?;
    Ok(child.id() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_are_forgotten() {
        let mut backoff = Backoff::new();
        let delays: Vec<u128> = (0..9).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.after(STEADY), FIRST_DELAY);
    }

    #[test]
    fn the_command_hears_signals() {
        let mut spec = crate::machine::spec::tests::spec();
        spec.command = ["/bin/sh", "-c", "grep SigBlk /proc/self/status"].map(str::to_owned).to_vec();
        let (mut printed, output) = std::io::pipe().expect("a pipe");
        let output = OwnedFd::from(output);
        let blocked = |how| sigprocmask(how, Some(&SigSet::all()), None).expect("a mask");
        blocked(SigmaskHow::SIG_BLOCK);
        let pid = start(&spec, &output).expect("started");
        blocked(SigmaskHow::SIG_UNBLOCK);
        drop(output);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut printed, &mut text).expect("read");
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).expect("ended");
        assert_eq!(text.trim(), "SigBlk:\t0000000000000000");
    }
}
