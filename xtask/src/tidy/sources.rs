//! What can be seen in the source files themselves.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Most lines of a file, comments and tests included.
const MOST_LINES: usize = 800;
/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];
/// Ways around the World.
const AROUND_THE_WORLD: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "tokio::time::",
    "tokio::spawn",
    "thread::spawn",
    "thread::sleep",
    "thread_rng",
    "rand::random",
    "sync::watch",
];
/// Crates that are the real world, or its users' hands.
const OF_THE_WORLD: &[&str] = &["crates/host/", "crates/runtime/", "crates/daruma/", "xtask/", "crates/store/examples/"];
/// Crates that talk to the kernel.
const UNSAFE_ALLOWED: &[&str] = &["crates/host/", "crates/runtime/"];

struct Source {
    path: String,
    text: String,
}

fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    collect(&root.join("crates"), &mut paths)?;
    collect(&root.join("xtask"), &mut paths)?;
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path)?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            Ok(Source { path, text })
        })
        .collect()
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// Size, module documentation, names.
pub fn check_files(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for source in sources(root)? {
        let lines = source.text.lines().count();
        if lines > MOST_LINES {
            complaints.push(format!("{} has {lines} lines; split it (at most {MOST_LINES})", source.path));
        }
        if !source.text.starts_with("//!") {
            complaints.push(format!("{} does not begin with //! and what lives there", source.path));
        }
        let stem = Path::new(&source.path).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem.as_str()) {
            complaints.push(format!("{} has a name that says nothing", source.path));
        }
    }
    Ok(complaints)
}

/// Time, tasks and chance.
pub fn check_world(root: &Path) -> Result<Vec<String>> {
    lines_with(root, AROUND_THE_WORLD, OF_THE_WORLD)
}

/// Unsafe code.
pub fn check_unsafe(root: &Path) -> Result<Vec<String>> {
    lines_with(root, &["unsafe {", "unsafe fn", "unsafe impl"], UNSAFE_ALLOWED)
}

fn lines_with(root: &Path, words: &[&str], allowed: &[&str]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for source in sources(root)? {
        if allowed.iter().any(|place| source.path.starts_with(place)) || source.path.contains("/tidy/") {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(word) = words.iter().find(|word| code.contains(**word)) {
                complaints.push(format!("{}:{} uses {word}", source.path, number + 1));
            }
        }
    }
    Ok(complaints)
}
