//! The drills that come with the program, as files of `crates/drill/drills`, named once in [`ALL`].

use std::collections::BTreeMap;

use crate::WorldKind;
use crate::file::{Drill, FileErrors, Placed, parse_placed};

/// A drill that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
    /// The only world that it makes sense in; `None` where both do.
    pub only_in: Option<WorldKind>,
}

macro_rules! drill {
    ($name:literal) => {
        drill!($name, None)
    };
    ($name:literal, $only_in:expr) => {
        Builtin { name: $name, text: include_str!(concat!("../drills/", $name, ".yaml")), only_in: $only_in }
    };
}

/// Every built-in drill: the story's scenes in their order, the story, then the others.
pub const ALL: &[Builtin] = &[
    drill!("start"),
    drill!("force-delete"),
    drill!("reset"),
    drill!("power-off"),
    drill!("rolling-restart"),
    drill!("top", Some(WorldKind::Real)),
    drill!("story"),
    drill!("load-balancer"),
    drill!("rebalancer"),
    drill!("short-of-memory"),
    drill!("short-of-disk"),
    drill!("short-of-cpu"),
    drill!("partition"),
    drill!("hang"),
    drill!("rolling-restart-under-load"),
    drill!("statefulset-node-lost"),
    drill!("statefulset-out-of-service"),
    drill!("control-plane"),
    drill!("slow-store"),
    drill!("zone-mostly-gone", Some(WorldKind::Sim)),
    drill!("large-zone-mostly-gone", Some(WorldKind::Sim)),
    drill!("zone-outage", Some(WorldKind::Sim)),
];

/// Files that built-in drills name.
const FILES: &[(&str, &str)] = &[("manifests/bootcamp.yaml", include_str!("../drills/manifests/bootcamp.yaml"))];

/// The built-in drill of this name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|drill| drill.name == name)
}

/// Text of a file that a built-in drill names.
///
/// # Errors
/// In words, when there is none.
pub fn read(path: &str) -> Result<String, String> {
    let found = FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
    found.ok_or_else(|| format!("no built-in file {path:?}"))
}

impl Builtin {
    /// Reads it, with values of its parameters.
    ///
    /// # Errors
    /// When a value makes no sense; the file itself is right.
    pub fn drill(&self, sets: &BTreeMap<String, String>) -> Result<Drill, FileErrors> {
        self.placed(sets).map(|placed| placed.drill)
    }

    /// As [`Builtin::drill`], with the places in its file.
    ///
    /// # Errors
    /// As [`Builtin::drill`].
    pub fn placed(&self, sets: &BTreeMap<String, String>) -> Result<Placed, FileErrors> {
        parse_placed(&format!("{}.yaml", self.name), self.text, sets, &read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_one_is_right() {
        for builtin in ALL {
            let drill = builtin.drill(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(drill.metadata.name, builtin.name);
            assert!(drill.spec.description.ends_with('.') && !drill.spec.checks.is_empty(), "{}", builtin.name);
        }
    }

    #[test]
    fn every_file_is_named() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/drills");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        for name in names.filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned)) {
            assert!(find(&name).is_some(), "{name} is missing in ALL");
        }
    }

    #[test]
    fn parameters_are_put_in() {
        let sets = [("grace", "40s"), ("tolerationSeconds", "30"), ("replicas", "6"), ("surge", "50%")];
        let sets = sets.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let drill = find("power-off").unwrap().drill(&sets).unwrap();
        assert_eq!(drill.spec.settings.default_toleration_seconds, Some(30));
        assert_eq!(drill.spec.manifests[0]["spec"]["replicas"], 6);
        assert!(find("power-off").unwrap().drill(&[("height".to_owned(), "3".to_owned())].into()).is_err());
    }
}
