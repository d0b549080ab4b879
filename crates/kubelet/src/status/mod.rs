//! A pod's status: generated from what runs, sent where it changed.

mod conditions;
mod containers;
mod generate;
pub mod patch;
mod phase;
mod sender;
#[cfg(test)]
mod tests;

pub(crate) use generate::to_seconds;
pub use generate::{Inputs, failed_status, generate};
pub use sender::{run_sender, send};

/// Whether the phase is final.
pub fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}
