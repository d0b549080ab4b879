//! `daruma sim explore`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};
use clap::Args;
use daruma_drill::file::Drill;
use daruma_rehearsal::{Rehearsal, RehearsalError};

use super::shrink;
use crate::cli::drill::{Interrupt, Source};

/// Flags of `daruma sim explore`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    source: Source,
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Seeds played at once; as many as there are CPUs by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Where the shortest drill that still shows the failure is written [default: NAME-seed-N.yaml].
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Plays seed after seed. Exit code 0 if all held.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let drill = flags.source.for_rehearsal(&BTreeMap::new())?;
    let jobs = flags.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let interrupt = Interrupt::listen()?;
    let (next, played) = (AtomicU64::new(flags.from), AtomicU64::new(0));
    let end = flags.from.saturating_add(flags.seeds);
    let stop = AtomicBool::new(false);
    // The lowest failing seed, whoever finds it first.
    let found: Mutex<Option<(u64, Vec<Complaint>)>> = Mutex::default();
    let failed: Mutex<Option<RehearsalError>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) && !interrupt.asked() {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end {
                        return;
                    }
                    match broken(&drill, seed, &|| interrupt.asked()) {
                        Ok(complaints) if complaints.is_empty() => {}
                        Ok(_) if interrupt.asked() => return,
                        Ok(complaints) => {
                            stop.store(true, Ordering::SeqCst);
                            let mut found = found.lock().expect("no panic while held");
                            if found.as_ref().is_none_or(|(earlier, _)| seed < *earlier) {
                                *found = Some((seed, complaints));
                            }
                        }
                        Err(error) => {
                            stop.store(true, Ordering::SeqCst);
                            *failed.lock().expect("no panic while held") = Some(error);
                        }
                    }
                    played.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().expect("no panic while held") {
        return Err(error.into());
    }
    let played = played.into_inner();
    let Some((seed, complaints)) = found.into_inner().expect("no panic while held") else {
        println!("{played} seeds from {} on: every check and invariant held", flags.from);
        return Ok(if interrupt.asked() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    };
    println!("seed {seed} breaks (after {played} seeds):");
    for complaint in &complaints {
        println!("  {}", complaint.text);
    }
    // Another drill may break something else: what is looked for is the first that was found.
    let shortest = shrink::shrink(&drill, &interrupt, &|candidate| {
        let found = broken(candidate, seed, &|| interrupt.asked());
        found.is_ok_and(|found| found.iter().any(|one| one.rule == complaints[0].rule))
    });
    let name = &drill.metadata.name;
    let path = flags.write.clone().unwrap_or_else(|| PathBuf::from(format!("{name}-seed-{seed}.yaml")));
    std::fs::write(&path, shrink::text(&shortest)?).with_context(|| format!("writing {}", path.display()))?;
    println!(
        "the shortest drill that still shows {} has {} of {} steps: {}",
        if complaints.len() > 1 { "the first of them" } else { "it" },
        shortest.spec.steps.len(),
        drill.spec.steps.len(),
        path.display()
    );
    println!("play it again: daruma drill run {} --world sim --seed {seed}", path.display());
    Ok(ExitCode::FAILURE)
}

/// Something that a seed breaks.
struct Complaint {
    /// The check with its demand, or the invariant; the end of a drill that could not go on.
    rule: String,
    /// In words.
    text: String,
}

/// What one seed breaks.
fn broken(drill: &Drill, seed: u64, interrupted: &(dyn Fn() -> bool + Sync)) -> Result<Vec<Complaint>, RehearsalError> {
    let report = Rehearsal { seed, invariants: true, keeps_log: false }.play(drill, &mut (), interrupted)?.report(drill);
    let complaints = report.verdicts.iter().filter(|verdict| !verdict.held).map(|verdict| {
        let rule = format!("{}: {}", verdict.check, verdict.demand);
        Complaint { text: format!("{rule}: {}", verdict.text), rule }
    });
    let aborted = report.record.aborted.iter().map(|why| Complaint { rule: "aborted".into(), text: why.clone() });
    Ok(complaints.chain(aborted).collect())
}
