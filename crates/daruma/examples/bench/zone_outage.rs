//! The drill with 5,000 nodes and 100,000 pods in the virtual world.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Bench, Benchmark, figures};

pub const BENCHMARK: Benchmark = Benchmark {
    name: "zone-outage",
    about: "the built-in drill zone-outage (5,000 nodes, 100,000 pods, 15 virtual minutes); the set-up is not counted",
    run,
};

fn run(bench: &mut Bench) -> Result<(), String> {
    let reports = std::env::temp_dir().join(format!("daruma-bench-zone-outage-{}", std::process::id()));
    let mut child = Command::new(&bench.binary)
        .args(["drill", "run", "zone-outage", "--world", "sim", "--quiet", "--report"])
        .arg(&reports)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        peak = peak.max(figures::peak(child.id()));
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    if let Some(mut output) = child.stderr.take() {
        output.read_to_string(&mut said).map_err(|error| error.to_string())?;
    }
    let _ = std::fs::remove_dir_all(&reports);
    if !status.success() {
        return Err(said);
    }
    let played = played(&said).ok_or_else(|| format!("no time in {said:?}"))?;
    figures::print("zone outage, 5,000 nodes: the played part", &format!("{played:.1} s"), "60 s");
    figures::print("zone outage: peak RSS", &figures::megabytes(peak), "6000 MB");
    Ok(())
}

/// Seconds out of `set up in X s, played in Y s of real time`.
fn played(said: &str) -> Option<f64> {
    let (_, rest) = said.rsplit_once("played in ")?;
    rest.split_once(' ')?.0.parse().ok()
}
