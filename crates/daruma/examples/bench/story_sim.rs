//! The whole story in the virtual world, and how many seeds of it are played in a minute.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Bench, Benchmark, figures};

pub const STORY: Benchmark =
    Benchmark { name: "story-sim", about: "daruma drill run story --world sim, exec to exit, 5 seeds", run: story };
pub const SEEDS: Benchmark =
    Benchmark { name: "seeds", about: "daruma sim explore story --seeds 60 --jobs 2, with all invariants", run: seeds };

/// Seeds that are played.
const COUNT: u32 = 60;

fn story(bench: &mut Bench) -> Result<(), String> {
    let reports = std::env::temp_dir().join(format!("daruma-bench-story-sim-{}", std::process::id()));
    let mut times = Vec::new();
    for seed in 1..=5 {
        let started = Instant::now();
        let output = Command::new(&bench.binary)
            .args(["drill", "run", "story", "--world", "sim", "--quiet", "--seed", &seed.to_string(), "--report"])
            .arg(&reports)
            .output()
            .map_err(|error| error.to_string())?;
        times.push(started.elapsed());
        if !output.status.success() {
            return Err(format!("seed {seed}: {}", String::from_utf8_lossy(&output.stdout)));
        }
    }
    let _ = std::fs::remove_dir_all(&reports);
    figures::print("the story in the virtual world", &figures::time(figures::median(&mut times)), "150 ms");
    Ok(())
}

fn seeds(bench: &mut Bench) -> Result<(), String> {
    let started = Instant::now();
    let output = Command::new(&bench.binary)
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
