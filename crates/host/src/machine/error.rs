//! What can go wrong with a machine.

use std::io;

/// A machine could not be made, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The system refused a step.
    #[error("{doing}: {source}")]
    System {
        /// The step, as a phrase that follows "failed while".
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program that is needed is not installed.
    #[error("the program {program} is not installed; {hint}")]
    NoProgram {
        /// The missing program.
        program: &'static str,
        /// How to get it.
        hint: &'static str,
    },
    /// A program that is needed failed.
    #[error("{program} failed: {output}")]
    Program {
        /// The failed program.
        program: &'static str,
        /// What it printed.
        output: String,
    },
    /// The machine description makes no sense.
    #[error("machine {machine}: {problem}")]
    Invalid {
        /// The machine.
        machine: String,
        /// What is wrong with its description.
        problem: String,
    },
}

/// Adds what was being done to an error of the system.
pub trait Doing<T> {
    /// Names the step that failed.
    fn doing(self, step: impl FnOnce() -> String) -> Result<T, MachineError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, step: impl FnOnce() -> String) -> Result<T, MachineError> {
        self.map_err(|source| MachineError::System { doing: step(), source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, step: impl FnOnce() -> String) -> Result<T, MachineError> {
        self.map_err(|errno| MachineError::System { doing: step(), source: errno.into() })
    }
}
