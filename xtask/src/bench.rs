//! Figures: programs that print medians.

use std::path::Path;

use anyhow::Result;

use crate::tools;

/// Builds the optimised binary and runs its benchmarks; `names` chooses some of them. `--binary PATH`
/// among them measures another build.
pub fn run(root: &Path, names: &[&str]) -> Result<()> {
    tools::run(tools::cargo().args(["build", "--release", "--package", "daruma"]).current_dir(root))?;
    tools::run(
        tools::cargo()
            .args(["run", "--release", "--package", "daruma", "--example", "bench", "--"])
            .args(names)
            .current_dir(root),
    )
}
