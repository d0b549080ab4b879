//! Figures: programs that print medians.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{dist, tools};

/// Builds the binary as it is handed out and runs its benchmarks; `names` chooses some of them. `--release` among them
/// measures the quicker build that people work with, `--binary PATH` any other.
///
/// # Errors
/// Where the build or a benchmark fails.
pub fn run(root: &Path, names: &[&str]) -> Result<()> {
    let release = || vec!["--release".to_owned()];
    let how = if names.contains(&"--binary") {
        release()
    } else if names.contains(&"--release") {
        tools::build(root, &release())?;
        release()
    } else {
        dist::run(root)?.how
    };
    let mut benchmarks = program(&how);
    tools::run(benchmarks.args(names.iter().filter(|name| **name != "--release")).current_dir(root))
}

/// The program that measures the binary beside it, or another, built with these arguments of cargo.
pub fn program(how: &[String]) -> Command {
    let mut program = tools::cargo();
    program.arg("run").args(how).args(["--package", "daruma", "--example", "bench", "--"]);
    program
}
