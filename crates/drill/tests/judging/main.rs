//! Checks, figures and reports, judged by records of plausible runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod browser;
mod checks;
mod figures;
mod golden;
mod manual;
mod outage;
mod records;
mod story;
