//! `daruma sim`: the virtual world.

mod control;
mod explore;
mod front;
mod pace;
mod shrink;
mod streams;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Flags of `daruma sim`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a simulated cluster that kubectl can look at, its clock paced against the wall clock; Ctrl-C ends it.
    Up(up::Flags),
    /// Play a drill under many seeds and stop at the first that breaks a check or an invariant.
    Explore(explore::Flags),
    #[command(flatten)]
    Control(control::Verb),
}

/// Runs the verb.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    match &flags.verb {
        Verb::Up(flags) => up::run(flags)?,
        Verb::Explore(flags) => return explore::run(flags),
        Verb::Control(verb) => control::run(verb)?,
    }
    Ok(ExitCode::SUCCESS)
}
