//! `daruma drill compare`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use daruma_drill::Span;
use daruma_drill::compare::{Row, grid, table};
use daruma_drill::file::Drill;
use daruma_rehearsal::Rehearsal;

use super::Source;
use super::interrupt::Interrupt;

/// Most runs of one grid.
const RUNS: usize = 1000;

/// Flags of `daruma drill compare`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    source: Source,
    /// Values of a parameter of the drill, or of `grace` (node monitor grace period) or `toleration` (seconds), e.g.
    /// --vary grace=40s,50s --vary replicas=2,4. Every combination is played.
    #[arg(long, value_name = "KEY=VALUE,VALUE…", value_parser = axis, default_values = ["grace=40s,50s", "toleration=30,300"])]
    vary: Vec<(String, Vec<String>)>,
    /// Seed of the virtual world.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The table as JSON.
    #[arg(long)]
    json: bool,
}

/// Plays every combination and prints the table. Checks are not judged: other settings have other demands.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let points = grid(&flags.vary);
    if points.len() > RUNS {
        bail!("{} combinations are more than {RUNS}; vary fewer values", points.len());
    }
    let interrupt = Interrupt::listen()?;
    let mut rows = Vec::new();
    for point in points {
        let mut sets = point.clone();
        let settings = [sets.remove("grace"), sets.remove("toleration")];
        let mut drill = flags.source.for_rehearsal(&sets)?;
        set(&mut drill, settings)?;
        let rehearsed = Rehearsal { seed: flags.seed, invariants: false, keeps_log: false }
            .play(&drill, &mut (), &|| interrupt.asked())
            .with_context(|| format!("with {point:?}"))?;
        rows.push(Row::of(point, &rehearsed.record));
        if interrupt.asked() {
            break;
        }
    }
    if flags.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn set(drill: &mut Drill, [grace, toleration]: [Option<String>; 2]) -> Result<()> {
    if let Some(grace) = grace {
        let span: Span = grace.parse().with_context(|| format!("--vary grace: {grace:?}"))?;
        drill.spec.settings.node_monitor_grace_period = Some(span);
    }
    if let Some(toleration) = toleration {
        let seconds = toleration.parse().with_context(|| format!("--vary toleration: {toleration:?} is no number of seconds"))?;
        drill.spec.settings.default_toleration_seconds = Some(seconds);
    }
    Ok(())
}

fn axis(text: &str) -> Result<(String, Vec<String>), String> {
    let (key, values) = super::source::pair(text)?;
    let values: Vec<String> = values.split(',').map(str::to_owned).collect();
    if values.iter().any(String::is_empty) {
        return Err(format!("{text:?} is not KEY=VALUE,VALUE…"));
    }
    Ok((key, values))
}
