//! Drills: a bad day written down as a file, played, timed, checked and reported.
//!
//! Invariant: nothing in here knows which world it plays in; everything goes through the [`Stage`].

pub mod builtin;
pub mod checks;
pub mod compare;
pub mod faults;
pub mod figures;
pub mod file;
pub mod history;
mod objects;
mod observe;
pub mod preflight;
mod probes;
pub mod record;
mod recorder;
pub mod report;
mod runner;
mod scene;
mod span;
mod stage;
mod steps;
pub mod undo;
pub mod view;

pub use file::{Drill, schema};
pub use observe::SeenPod;
pub use runner::{Options, Progress, run, run_with};
pub use scene::Scene;
pub use span::{NotASpan, Span, length};
pub use stage::{Stage, WorldKind};
