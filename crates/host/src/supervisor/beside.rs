//! Programs that stand beside the machines, each with a card of its own at the switch: started with it, kept running,
//! ended with it.
#![expect(clippy::disallowed_methods, reason = "the supervisor has no world: it is the machines' clock")]

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::machine::MachineError;
use crate::machine::switch::Switch;
use crate::netlink::namespace;

/// Time from the end of a program to its next start.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// One program: this binary in the mode that the first of its arguments names.
#[derive(Debug)]
pub(super) struct Beside {
    arguments: Vec<String>,
    namespace: File,
    child: Option<Child>,
    start_at: Option<Instant>,
}

impl Beside {
    /// A program that starts as soon as [`Self::tend`] is called.
    pub(super) fn new(arguments: &[String], switch: &mut Switch) -> Result<Self, MachineError> {
        let namespace = switch.plug_program(name(arguments))?;
        Ok(Self { arguments: arguments.to_vec(), namespace, child: None, start_at: Some(Instant::now()) })
    }

    /// When it has to be started.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.start_at
    }

    /// Notes its end, and starts it where that is due.
    pub(super) fn tend(&mut self, now: Instant) {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            eprintln!("supervisor: {} has ended", name(&self.arguments));
            self.child = None;
            self.start_at = Some(now + RESTART_DELAY);
        }
        if self.start_at.is_some_and(|at| now >= at) {
            self.start_at = None;
            match namespace::visit(&self.namespace, || spawn(&self.arguments)) {
                Ok(child) => self.child = Some(child),
                Err(error) => {
                    eprintln!("supervisor: starting {}: {error}", name(&self.arguments));
                    self.start_at = Some(now + RESTART_DELAY);
                }
            }
        }
    }
}

fn name(arguments: &[String]) -> &str {
    arguments.first().map_or("program", String::as_str)
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // One that has ended already is as good as killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Its output goes where the supervisor's errors go: into its log.
fn spawn(arguments: &[String]) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
    if let Ok(level) = std::env::var("DARUMA_LOG") {
        command.env("DARUMA_LOG", level);
    }
    #[expect(unsafe_code, reason = "what a child sets of itself between fork and exec")]
    // SAFETY: prctl and sigprocmask are safe to call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            // The supervisor's death is the end of its switch; and the signals that it blocks for itself are to be heard.
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            Ok(())
        });
    }
    command.spawn()
}
