//! The modes of the binary that this crate starts: each is a process with one duty, entered before any thread exists.

use std::path::Path;

use crate::machine::link_faults::delay;
use crate::machine::{ballast, init_main, power};
use crate::supervisor;

/// Runs the mode that `mode` names with the words after it; gives its exit code, or `None` where it names none of these.
pub fn run(mode: &str, words: &[String]) -> Option<i32> {
    match mode {
        power::INIT_MODE => init_main(words),
        supervisor::SUPERVISOR_MODE => Some(supervisor::main(Path::new(words.first().map(String::as_str).unwrap_or_default()))),
        ballast::BALLAST_MODE => Some(ballast::main(words)),
        delay::DELAY_MODE => Some(delay::main(words)),
        _ => None,
    }
}
