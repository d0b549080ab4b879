//! The binary that is handed out: built once to be watched at its work, and then again by what was seen
//! (profile-guided optimisation; the chapter of that name in the rustc book).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{bench, tools};

/// Seeds of the story that the watched binary plays: none of those that are measured.
const SEEDS: [&str; 3] = ["1001", "1002", "1003"];

/// What else it does: real processes, TLS, HTTP/2, the store on a disk. Code that is not seen at work is built to be small.
const BENCHMARKS: [&str; 4] = ["create-pods", "lists", "watchers", "scheduling"];

/// The binary, and how cargo builds what stands beside it.
pub struct Dist {
    /// Where it is.
    pub binary: PathBuf,
    /// Arguments of `cargo build` and `cargo run`.
    pub how: Vec<String>,
}

/// Builds it. Takes as long as two builds and two minutes.
///
/// # Errors
/// Where a build or the training fails, and where the tool that merges profiles is neither there nor to be had.
pub fn run(root: &Path) -> Result<Dist> {
    let host = rustc(&["--print", "host-tuple"])?;
    let merge = Path::new(&rustc(&["--print", "sysroot"])?).join("lib/rustlib").join(&host).join("bin/llvm-profdata");
    if !merge.is_file() {
        let installed = tools::run(Command::new("rustup").args(["component", "add", "llvm-tools"]));
        installed.with_context(|| format!("{} is missing: install the toolchain's llvm-tools", merge.display()))?;
    }
    let training = fs::canonicalize(root)?.join("target/training");
    let (seen, profile) = (training.join("seen"), training.join("daruma.profdata"));
    if seen.exists() {
        fs::remove_dir_all(&seen).context("removing what was seen the last time")?;
    }

    let mut watched = arguments(&host, &format!("-Cprofile-generate={}", seen.display()));
    watched.extend(["--target-dir".into(), training.display().to_string()]);
    train(root, &watched, &training, &seen)?;
    tools::run(Command::new(&merge).arg("merge").arg("-o").arg(&profile).arg(&seen))?;
    let how = arguments(&host, &format!("-Cprofile-use={}", profile.display()));
    Ok(Dist { binary: tools::build(root, &how)?, how })
}

/// Arguments of cargo that build with a further flag of rustc.
fn arguments(host: &str, flag: &str) -> Vec<String> {
    // Joined by cargo with the flags of .cargo/config.toml, which an environment variable would replace.
    let flags = format!("target.{host}.rustflags=[{flag:?}]");
    ["--profile", "dist", "--config", &flags].map(str::to_owned).to_vec()
}

fn train(root: &Path, how: &[String], training: &Path, seen: &Path) -> Result<()> {
    let watched = tools::build(root, how)?;
    // Processes that end add to what those before them saw; four files, so that those that run side by side do not wait.
    let seen = seen.join("%4m.profraw");
    for seed in SEEDS {
        let mut play = Command::new(&watched);
        play.args(["drill", "run", "story", "--world", "sim", "--seed", seed]).stdout(Stdio::null());
        tools::run(play.current_dir(training).env("LLVM_PROFILE_FILE", &seen))?;
    }
    tools::run(bench::program(how).args(BENCHMARKS).current_dir(root).env("LLVM_PROFILE_FILE", &seen))
}

/// What rustc prints.
fn rustc(arguments: &[&str]) -> Result<String> {
    let output = Command::new("rustc").args(arguments).output().context("asking rustc")?;
    if !output.status.success() {
        bail!("rustc {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
