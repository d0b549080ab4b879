//! Which drill: a built-in one by its name, or a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use daruma_drill::file::{self, Drill};
use daruma_drill::{WorldKind, builtin};

/// The drill and values of its parameters.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// A file, or the name of a built-in drill (`daruma drill list`).
    #[arg(value_name = "FILE|NAME")]
    drill: String,
    /// Value of a parameter of the drill.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
    sets: Vec<(String, String)>,
}

impl Source {
    /// The file's text.
    pub fn text(&self) -> Result<String> {
        if let Some(known) = builtin::find(&self.drill) {
            return Ok(known.text.to_owned());
        }
        let path = Path::new(&self.drill);
        if !path.exists() {
            let known: Vec<&str> = builtin::ALL.iter().map(|drill| drill.name).collect();
            bail!("{:?} is neither a file nor a built-in drill; those are {}", self.drill, known.join(", "));
        }
        fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
    }

    /// The drill, verified, with its parameters put in.
    pub fn drill(&self) -> Result<Drill> {
        self.drill_with(&BTreeMap::new())
    }

    /// As [`Source::drill`], with further values.
    pub fn drill_with(&self, more: &BTreeMap<String, String>) -> Result<Drill> {
        let mut sets: BTreeMap<String, String> = self.sets.iter().cloned().collect();
        sets.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
        if let Some(known) = builtin::find(&self.drill) {
            return Ok(known.drill(&sets)?);
        }
        let text = self.text()?;
        let directory = Path::new(&self.drill).parent().unwrap_or(Path::new(".")).to_owned();
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(file::parse(&self.drill, &text, &sets, &read)?)
    }

    /// The only world that a built-in drill makes sense in.
    pub fn only_in(&self) -> Option<WorldKind> {
        builtin::find(&self.drill).and_then(|drill| drill.only_in)
    }
}

/// `KEY=VALUE` taken apart.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}
