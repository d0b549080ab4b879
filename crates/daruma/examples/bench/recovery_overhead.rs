//! What the programs add to the timers of a node's loss, on real machines.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::{Bench, Benchmark, figures};

pub const BENCHMARK: Benchmark = Benchmark {
    name: "recovery-overhead",
    about: "the drill power-off on real machines with short timers, 3 times: eviction due to deleted, deleted to replaced",
    run,
};

/// For how long pods tolerate a node that is not there.
const TOLERATION: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;

fn run(bench: &mut Bench) -> Result<(), String> {
    let root = std::env::temp_dir().join(format!("daruma-bench-recovery-{}", std::process::id()));
    let measured = measure(&bench.binary, &root);
    let _ = std::fs::remove_dir_all(&root);
    let (mut deleted, mut replaced) = measured?;
    figures::print("eviction due to deleted, worst", &figures::time(figures::percentile(&mut deleted, 99)), "1 s");
    figures::print("deleted to the replacement Running, worst", &figures::time(figures::percentile(&mut replaced, 99)), "1 s");
    Ok(())
}

/// Due is when the toleration ends, counted from when a watch showed the node as not Ready; so the part before that,
/// up to ten seconds between heartbeats and five between two looks at them, is timers and is not counted.
fn measure(binary: &Path, root: &Path) -> Result<(Vec<Duration>, Vec<Duration>), String> {
    let (mut deleted, mut replaced) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let report = root.join(format!("report-{round}"));
        let toleration = format!("tolerationSeconds={}", TOLERATION.as_secs());
        // A check that wants longer timers may fail; the figures count.
        let output = Command::new(binary)
            .args(["drill", "run", "power-off", "--world", "real", "--quiet", "--set", "grace=15s", "--set", &toleration])
            .arg("--report")
            .arg(&report)
            .arg("--root")
            .arg(root)
            .args(["--name", &format!("bench-recovery-{}", std::process::id() % 10_000)])
            .output()
            .map_err(|error| error.to_string())?;
        let text = std::fs::read_to_string(report.join("report.json"))
            .map_err(|_| format!("no report: {}", String::from_utf8_lossy(&output.stderr)))?;
        let report: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let fault = &report["figures"]["faults"][0];
        let at = |name: &str| fault[name].as_u64().map(Duration::from_millis).ok_or_else(|| format!("no {name} in {fault}"));
        let (noticed, gone, back) = (at("detectedAfterMs")?, at("evictedAfterMs")?, at("replacedAfterMs")?);
        deleted.push(gone.saturating_sub(noticed + TOLERATION));
        replaced.push(back.saturating_sub(gone));
    }
    Ok((deleted, replaced))
}
