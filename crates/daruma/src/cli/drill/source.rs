//! Which drill: a built-in one by its name, or a file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use daruma_drill::file::{self, Drill, Placed, Problem};
use daruma_drill::{WorldKind, builtin, preflight};

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

    /// The drill, verified, with its parameters put in, and with its places in the file.
    pub fn placed(&self) -> Result<Placed> {
        self.placed_with(&BTreeMap::new())
    }

    /// The drill for the virtual world, with further values of parameters.
    ///
    /// # Errors
    /// What is wrong with it, or cannot be done there.
    pub fn for_rehearsal(&self, more: &BTreeMap<String, String>) -> Result<Drill> {
        let placed = self.placed_with(more)?;
        placed.refuse(rehearsal_problems(&placed.drill))?;
        Ok(placed.drill)
    }

    fn placed_with(&self, more: &BTreeMap<String, String>) -> Result<Placed> {
        let mut sets: BTreeMap<String, String> = self.sets.iter().cloned().collect();
        sets.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
        if let Some(known) = builtin::find(&self.drill) {
            return Ok(known.placed(&sets)?);
        }
        let text = self.text()?;
        let directory = Path::new(&self.drill).parent().unwrap_or(Path::new(".")).to_owned();
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(file::parse_placed(&self.drill, &text, &sets, &read)?)
    }

    /// The only world that a built-in drill makes sense in.
    pub fn only_in(&self) -> Option<WorldKind> {
        builtin::find(&self.drill).and_then(|drill| drill.only_in)
    }
}

/// What cannot be done of it in the virtual world.
pub fn rehearsal_problems(drill: &Drill) -> Vec<Problem> {
    preflight::problems(drill, WorldKind::Sim, &daruma_sim::supports).into_iter().chain(settings_problems(drill)).collect()
}

/// Settings of components that there are not, or that make no sense.
pub fn settings_problems(drill: &Drill) -> Vec<Problem> {
    let problem = |(name, value): (&String, &String)| {
        let (component, flag) = name.split_once('.')?;
        let error = crate::components::check_setting(component, flag, value).err()?.to_string();
        // It begins with the setting as the command line has it.
        let message = error.split_once(": ").map_or(error.as_str(), |(_, message)| message);
        Some(Problem::new(format!("spec.settings.set.{name}"), message))
    };
    drill.spec.settings.set.iter().filter_map(problem).collect()
}

/// `KEY=VALUE` taken apart.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}
