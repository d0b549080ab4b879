//! Everything that must hold before a change lands. People and machines run the same.

use std::path::Path;

use anyhow::Result;

use crate::{tidy, tools};

/// Formatting, rules, lints, build, tests: the quickest first.
pub fn run(root: &Path) -> Result<()> {
    step(root, &["fmt", "--all", "--check"])?;
    tidy::run(root)?;
    if tools::on_path("cargo-deny") {
        step(root, &["deny", "check", "licenses", "bans", "sources"])?;
    }
    let extra_path = tools::ensure(root)?;
    step(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // Black-box tests drive the optimised binary; all other code is tested as it compiles fastest.
    let binary = tools::build(root, &["--release".to_owned()])?;
    let nextest = tools::cargo().args(["nextest", "--version"]).output().is_ok_and(|it| it.status.success());
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test"] };
    let mut tests = tools::cargo();
    tests.args(runner).arg("--workspace").env("DARUMA_BINARY", binary);
    if let Some(directory) = extra_path {
        let path = std::env::var("PATH").unwrap_or_default();
        tests.env("PATH", format!("{}:{path}", directory.display()));
    }
    tools::run(tests.current_dir(root))
}

fn step(root: &Path, arguments: &[&str]) -> Result<()> {
    tools::run(tools::cargo().args(arguments).current_dir(root))
}
