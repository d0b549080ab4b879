//! Checks, figures and reports, judged by records of plausible runs.

mod browser;
mod checks;
mod figures;
mod golden;
mod manual;
mod outage;
mod records;
mod story;
