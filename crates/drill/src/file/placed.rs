//! Where the parts of a drill stand in its file, for what is found out after it was read.

use super::Drill;
use super::parse::{FileError, FileErrors};
use super::yaml::Node;

/// Something about a drill that is refused, by its place in the document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Problem {
    /// Path of the place, e.g. `spec.steps[2].fault`. What of it is not written in the file stands for the innermost thing that is.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

/// A drill and the file that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// The drill.
    pub drill: Drill,
    pub(super) file: Places,
}

impl Placed {
    /// Problems with their lines and columns; right where there are none.
    ///
    /// # Errors
    /// All of them, in the order of the file.
    pub fn refuse(&self, problems: Vec<Problem>) -> Result<(), FileErrors> {
        self.file.refuse(problems)
    }
}

/// The tree of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Places {
    pub name: String,
    pub root: Node,
}

impl Places {
    pub(super) fn refuse(&self, problems: Vec<Problem>) -> Result<(), FileErrors> {
        let error = |Problem { place, message }: Problem| FileError {
            file: self.name.clone(),
            position: self.root.position(&place),
            place,
            message,
        };
        let mut errors: Vec<FileError> = problems.into_iter().map(error).collect();
        errors.sort();
        if errors.is_empty() { Ok(()) } else { Err(FileErrors(errors)) }
    }
}
