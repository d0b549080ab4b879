//! Drills played on a whole virtual cluster: what is recorded, and that everything is taken back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod day;
mod faults;
mod taking_back;
