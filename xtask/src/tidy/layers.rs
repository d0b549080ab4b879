//! Dependencies between our crates go down only; crates of one level do not know each other.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// Level of each crate, the highest first. A crate may depend on crates of lower levels only.
const LEVELS: &[&[&str]] = &[
    &["daruma", "xtask"],
    &["daruma-rehearsal"],
    &["daruma-cluster", "daruma-host", "daruma-runtime", "daruma-sim"],
    &[
        "daruma-apiserver",
        "daruma-controllers",
        "daruma-scheduler",
        "daruma-kubelet",
        "daruma-network",
        "daruma-metrics",
        "daruma-drill",
    ],
    &["daruma-store", "daruma-client", "daruma-kinds", "daruma-streams"],
    &["daruma-api", "daruma-world"],
];

/// The rule.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let level = |name: &str| LEVELS.iter().position(|names| names.contains(&name));
    let mut complaints = Vec::new();
    for (name, dependencies) in packages(&metadata) {
        let Some(own) = level(&name) else {
            complaints.push(format!("crate {name} has no level; give it one in xtask/src/tidy/layers.rs"));
            continue;
        };
        for dependency in dependencies {
            if level(&dependency).is_some_and(|other| other <= own) {
                complaints.push(format!("{name} (level {}) must not depend on {dependency}", LEVELS.len() - 1 - own));
            }
        }
    }
    Ok(complaints)
}

/// Our crates with the names of what they depend on; development dependencies are not looked at.
fn packages(metadata: &Value) -> BTreeMap<String, Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), normal.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}
