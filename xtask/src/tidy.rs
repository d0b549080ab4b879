//! The rules of the house, checked by a program.
//!
//! Each rule is a function that gives its complaints; [`RULES`] names them all.

mod layers;
mod sources;

use std::path::Path;

use anyhow::{Result, bail};

/// A rule: looks at the workspace and gives its complaints.
type Rule = fn(&Path) -> Result<Vec<String>>;

const RULES: &[(&str, Rule)] = &[
    ("dependencies go down the layers only", layers::check),
    ("every file is small, documented and well named", sources::check_files),
    ("time, tasks and chance come from the World", sources::check_world),
    ("unsafe code is in host and runtime only", sources::check_unsafe),
    ("documents that every reader needs are there", check_documents),
];

/// Runs all rules.
pub fn run(root: &Path) -> Result<()> {
    let mut complaints = 0;
    for (title, rule) in RULES {
        for complaint in rule(root)? {
            eprintln!("tidy: {complaint}\n      ({title})");
            complaints += 1;
        }
    }
    if complaints > 0 {
        bail!("{complaints} complaints");
    }
    println!("tidy: all {} rules hold", RULES.len());
    Ok(())
}

fn check_documents(root: &Path) -> Result<Vec<String>> {
    let wanted = ["README.md", "ARCHITECTURE.md", "LICENSE", "docs/decisions", ".ci/run"];
    Ok(wanted.iter().filter(|path| !root.join(path).exists()).map(|path| format!("{path} is missing")).collect())
}
