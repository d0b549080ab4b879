//! What init runs: the command of the machine's description, and processes that use the machine up.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use crate::machine::ballast::BALLAST_MODE;
use crate::machine::{MachineSpec, oom};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts the command with its output on `output`. Returns its process id; init reaps it with all others.
pub(super) fn start(spec: &MachineSpec, output: &OwnedFd) -> io::Result<i32> {
    let (program, arguments) = spec.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).env("HOME", "/root").envs(&spec.env);
    spawn(&mut command, output)
}

/// Starts this program in its mode that uses the machine up, as the leader of a process group.
pub(super) fn start_ballast(words: &[String], output: &OwnedFd) -> io::Result<i32> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(BALLAST_MODE).args(words).env_clear().env("PATH", PATH).process_group(0);
    spawn(&mut command, output)
}

fn spawn(command: &mut Command, output: &OwnedFd) -> io::Result<i32> {
    command.current_dir("/").stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    // Init blocks all signals, and a child inherits that: it could never be asked to end.
    #[expect(unsafe_code, reason = "a step between fork and exec")]
    // SAFETY: writing a file of a short name and `sigprocmask` allocate nothing and take no lock.
    unsafe {
        command.pre_exec(|| {
            oom::protect_command();
            Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
        });
    }
    let child = command.spawn()?;
    Ok(child.id() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

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
