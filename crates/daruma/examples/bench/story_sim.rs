//! The whole story in the virtual world, and how many seeds of it are played in a minute.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use daruma_drill::file::Drill;
use daruma_rehearsal::Rehearsal;

use crate::{Bench, Benchmark, figures};

pub const STORY: Benchmark =
    Benchmark { name: "story-sim", about: "the built-in drill story in the virtual world, set-up included, 5 seeds", run: story };
pub const SEEDS: Benchmark =
    Benchmark { name: "seeds", about: "daruma sim explore story --seeds 60 --jobs 2, with all invariants", run: seeds };

/// Seeds that are played.
const COUNT: u32 = 60;

fn story(_bench: &mut Bench) -> Result<(), String> {
    let builtin = daruma_drill::builtin::find("story").ok_or("there is no such drill")?;
    let drill: Drill = builtin.drill(&BTreeMap::new()).map_err(|errors| errors.to_string())?;
    let mut times = Vec::new();
    for seed in 1..=5 {
        let started = Instant::now();
        let rehearsal = Rehearsal { seed, invariants: true };
        let rehearsed = rehearsal.play(&drill, &mut (), &|| false).map_err(|error| error.to_string())?;
        times.push(started.elapsed());
        if !rehearsed.report(&drill).held {
            return Err(format!("a check of the story did not hold with seed {seed}"));
        }
    }
    figures::print("the story in the virtual world", &figures::time(figures::median(&mut times)), "150 ms");
    Ok(())
}

fn seeds(bench: &mut Bench) -> Result<(), String> {
    let started = Instant::now();
    let output = std::process::Command::new(&bench.binary)
        .args(["sim", "explore", "story", "--jobs", "2", "--seeds", &COUNT.to_string()])
        .output()
        .map_err(|error| error.to_string())?;
    let took: Duration = started.elapsed();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let a_minute = f64::from(COUNT) * 60.0 / took.as_secs_f64();
    figures::print("seeds of the story", &format!("{a_minute:.0}/min"), "300/min");
    Ok(())
}
