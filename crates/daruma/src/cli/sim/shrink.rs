//! From a drill that fails to the shortest one that still fails.

use std::collections::BTreeMap;

use anyhow::Result;
use daruma_drill::file::{self, Drill};

use crate::cli::drill::Interrupt;

/// Leaves out steps, probes and checks, one at a time and from the end, for as long as `fails` says that what is left
/// still fails. What a drill's file would be refused for is not tried.
pub fn shrink(drill: &Drill, interrupt: &Interrupt, fails: &dyn Fn(&Drill) -> bool) -> Drill {
    let mut shortest = drill.clone();
    loop {
        let before = shortest.clone();
        for part in [Part::Steps, Part::Probes, Part::Checks] {
            let mut index = part.len(&shortest);
            while index > 0 && !interrupt.asked() {
                index -= 1;
                let mut candidate = shortest.clone();
                part.remove(&mut candidate, index);
                if is_right(&candidate) && fails(&candidate) {
                    shortest = candidate;
                }
            }
        }
        if shortest == before || interrupt.asked() {
            return shortest;
        }
    }
}

#[derive(Clone, Copy)]
enum Part {
    Steps,
    Probes,
    Checks,
}

impl Part {
    fn len(self, drill: &Drill) -> usize {
        match self {
            Self::Steps => drill.spec.steps.len(),
            Self::Probes => drill.spec.probes.len(),
            Self::Checks => drill.spec.checks.len(),
        }
    }

    fn remove(self, drill: &mut Drill, index: usize) {
        match self {
            Self::Steps => drop(drill.spec.steps.remove(index)),
            Self::Probes => drop(drill.spec.probes.remove(index)),
            Self::Checks => drop(drill.spec.checks.remove(index)),
        }
    }
}

/// The drill as a file. JSON is YAML, and says the same.
pub fn text(drill: &Drill) -> Result<String> {
    Ok(serde_json::to_string_pretty(drill)? + "\n")
}

fn is_right(drill: &Drill) -> bool {
    text(drill).is_ok_and(|text| file::parse("shorter", &text, &BTreeMap::new(), &|_| Err("no files".into())).is_ok())
}
