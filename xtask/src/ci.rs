//! Everything that must hold before a change lands. People and machines run the same.

use std::path::Path;
use std::process::Command;

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
    step(root, &["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // Tests run the optimised binary, so everything is built once, optimised.
    let nextest = Command::new(env!("CARGO")).args(["nextest", "--version"]).output().is_ok_and(|it| it.status.success());
    let runner: &[&str] = if nextest { &["nextest", "run"] } else { &["test"] };
    let mut tests = Command::new(env!("CARGO"));
    tests.args(runner).args(["--release", "--workspace"]);
    if let Some(directory) = extra_path {
        let path = std::env::var("PATH").unwrap_or_default();
        tests.env("PATH", format!("{}:{path}", directory.display()));
    }
    tools::run(tests.current_dir(root))
}

fn step(root: &Path, arguments: &[&str]) -> Result<()> {
    tools::run(Command::new(env!("CARGO")).args(arguments).current_dir(root))
}
