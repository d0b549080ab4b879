//! `daruma drill run`.
#![expect(clippy::disallowed_methods, reason = "a person is told how long it took")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use daruma_drill::file::Drill;
use daruma_drill::record::Entry;
use daruma_drill::report::{Report, terminal};
use daruma_drill::{Progress, WorldKind};
use daruma_rehearsal::Rehearsal;

use super::interrupt::Interrupt;
use super::outcome::{self, Timeline};
use super::{Source, World, real, source};
use crate::cli::Which;

/// More nodes than this are rehearsed without the standing invariants, which read every change of a pod or a node once more.
const INVARIANTS_UP_TO: u32 = 1000;

/// Flags of `daruma drill run`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    source: Source,
    /// Where it is played. On real machines by default, unless the drill can be played in the virtual world only.
    #[arg(long, value_enum)]
    world: Option<World>,
    /// Seed of the virtual world; the same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory for report.html, report.json and junit.xml [default: drill-NAME].
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Leave the real cluster that was started for the drill running.
    #[arg(long)]
    keep: bool,
    /// Print the end only, not the timeline.
    #[arg(short, long)]
    quiet: bool,
    /// Write the virtual world's event log (every change of the store, every act on a machine) to this file.
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
}

/// Plays the drill. Exit code 0 only if every check held.
pub fn run(flags: &Flags, which: &Which) -> Result<ExitCode> {
    let placed = flags.source.placed()?;
    let drill = &placed.drill;
    let world = chosen_world(flags, drill)?;
    placed.refuse(match world {
        World::Sim => source::rehearsal_problems(drill),
        World::Real => real::problems(drill),
    })?;
    let interrupt = Interrupt::listen()?;
    let mut timeline = Timeline(outcome::style());
    let progress: &mut dyn Progress = if flags.quiet { &mut () } else { &mut timeline };
    let report = match world {
        World::Sim => rehearse(flags, drill, progress, &interrupt)?,
        World::Real => real::play(&placed, which, flags.keep, progress, &interrupt)?,
    };
    println!("\n{}", terminal::summary(&report, outcome::style()).trim_end());
    let directory = flags.report.clone().unwrap_or_else(|| PathBuf::from(format!("drill-{}", drill.metadata.name)));
    outcome::write(&report, &directory)?;
    println!("report: {}", directory.join("report.html").display());
    Ok(if report.held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen_world(flags: &Flags, drill: &Drill) -> Result<World> {
    let name = &drill.metadata.name;
    match (flags.world, flags.source.only_in()) {
        (Some(World::Real), Some(WorldKind::Sim)) => bail!("drill {name} is played in the virtual world only (--world sim)"),
        (Some(World::Sim), Some(WorldKind::Real)) => bail!("drill {name} is played on real machines only (--world real)"),
        (Some(world), _) => Ok(world),
        (None, Some(WorldKind::Sim)) => Ok(World::Sim),
        (None, _) if !drill.spec.cluster.preload.is_empty() => Ok(World::Sim),
        (None, _) => Ok(World::Real),
    }
}

fn rehearse(flags: &Flags, drill: &Drill, progress: &mut dyn Progress, interrupt: &Interrupt) -> Result<Report> {
    let nodes = drill.spec.cluster.workers.saturating_add(drill.spec.cluster.simulated);
    let (invariants, keeps_log) = (nodes <= INVARIANTS_UP_TO, flags.event_log.is_some());
    let rehearsal = Rehearsal { seed: flags.seed, invariants, keeps_log };
    let started = Instant::now();
    let mut progress = Stopwatch { shown: progress, began: None };
    let prepared = rehearsal.prepare(drill)?;
    let rehearsed = prepared.play(drill, &mut progress, &|| interrupt.asked());
    // This process ends with the world, and taking one of 5,000 nodes apart takes seconds.
    std::mem::forget(prepared);
    let began = progress.began.unwrap_or(started);
    eprintln!(
        "set up in {:.1} s, played in {:.1} s of real time",
        (began - started).as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    if let Some(path) = &flags.event_log {
        std::fs::write(path, rehearsed.log.text())?;
    }
    Ok(rehearsed.report(drill))
}

/// Notes when the drill's time axis begins.
struct Stopwatch<'a> {
    shown: &'a mut dyn Progress,
    began: Option<Instant>,
}

impl Progress for Stopwatch<'_> {
    fn entry(&mut self, entry: &Entry) {
        self.shown.entry(entry);
    }

    fn begins(&mut self) {
        self.began = Some(Instant::now());
        self.shown.begins();
    }
}
