//! Patches that need no schema. Strategic merge patches belong to the kinds.

mod json_patch;
mod merge_patch;

pub use json_patch::json_patch;
pub use merge_patch::merge_patch;

/// Why a patch was refused, in the real server's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself makes no sense (400).
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object (422).
    #[error("{0}")]
    DoesNotApply(String),
}
