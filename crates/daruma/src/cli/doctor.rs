//! `daruma doctor`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use daruma_host::doctor::{self, Finding};

/// Flags of `daruma doctor`.
#[derive(Debug, Args)]
pub struct Flags {}

/// Prints what works and what is missing. The exit code is 1 when a cluster cannot run here.
pub fn run(_: &Flags) -> Result<ExitCode> {
    let mut fatal = false;
    for finding in doctor::check() {
        println!("{}", line(&finding));
        fatal |= is_fatal(&finding);
    }
    Ok(if fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whether a cluster cannot run because of this.
pub fn is_fatal(finding: &Finding) -> bool {
    !finding.is_well() && !finding.optional
}

/// One finding for a person.
pub fn line(finding: &Finding) -> String {
    match &finding.problem {
        None => format!("ok       {}", finding.name),
        Some(problem) => {
            let word = if finding.optional { "missing" } else { "FAILED " };
            format!("{word}  {}: {problem}; {}", finding.name, finding.hint)
        }
    }
}
