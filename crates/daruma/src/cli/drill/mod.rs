//! `daruma drill`: a file a verb.

mod compare;
mod interrupt;
mod lock;
mod outcome;
mod real;
mod run;
mod source;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use daruma_drill::{WorldKind, builtin, faults};

use super::Which;

pub use interrupt::Interrupt;
pub use real::mend;
pub use source::Source;

/// Flags of `daruma drill`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The built-in drills.
    List,
    /// Print a built-in drill's file, or a file as it is understood.
    Show(Source),
    /// Play a drill, in the real world or the virtual one.
    Run(run::Flags),
    /// Play a drill in the virtual world under a grid of settings and print one table.
    Compare(compare::Flags),
    /// Print the JSON schema of drill files.
    Schema {
        /// The schema of report.json instead.
        #[arg(long)]
        report: bool,
    },
    /// The faults that a drill can make.
    Faults,
    /// Take back what a drill that was killed left broken.
    Undo,
}

/// Which world a drill is played in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum World {
    /// Real machines on this host.
    Real,
    /// Simulated machines under a virtual clock, in this process.
    Sim,
}

/// Runs the verb. Exit code 0 of a run means that every check held.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match &flags.verb {
        Verb::List => {
            for drill in builtin::ALL {
                let description = drill.drill(&Default::default()).map(|drill| drill.spec.description).unwrap_or_default();
                let only = match drill.only_in {
                    Some(WorldKind::Sim) => " (virtual world only)",
                    Some(WorldKind::Real) => " (real world only)",
                    None => "",
                };
                writeln!(out, "{:<28}{description}{only}", drill.name)?;
            }
        }
        Verb::Show(source) => writeln!(out, "{}", source.text()?.trim_end())?,
        Verb::Run(run) => return run::run(run, &flags.which),
        Verb::Compare(compare) => return compare::run(compare),
        Verb::Schema { report } => {
            let schema = if *report { daruma_drill::report::json_schema() } else { daruma_drill::schema() };
            writeln!(out, "{}", serde_json::to_string_pretty(&schema)?)?;
        }
        Verb::Faults => {
            for fault in faults::ALL {
                writeln!(out, "{:<20}{}", fault.name(), fault.summary())?;
            }
        }
        Verb::Undo => return real::undo(&flags.which),
    }
    Ok(ExitCode::SUCCESS)
}
