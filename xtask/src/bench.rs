//! Figures: programs that print medians.

use std::path::Path;

use anyhow::Result;

use crate::{dist, tools};

/// Builds the binary as it is handed out and runs its benchmarks; `names` chooses some of them. `--release` among them
/// measures the quicker build that people work with, `--binary PATH` any other.
pub fn run(root: &Path, names: &[&str]) -> Result<()> {
    let mut benchmarks = tools::cargo();
    benchmarks.args(["run", "--release", "--package", "daruma", "--example", "bench", "--"]);
    benchmarks.args(names.iter().filter(|name| **name != "--release"));
    if !names.contains(&"--binary") {
        let binary = if names.contains(&"--release") { tools::build(root, &["--release"])? } else { dist::run(root)? };
        benchmarks.arg("--binary").arg(binary);
    }
    tools::run(benchmarks.current_dir(root))
}
