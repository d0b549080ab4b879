//! From a drill that fails to the shortest one that still fails.

use std::collections::BTreeMap;

use anyhow::Result;
use daruma_drill::file::{self, Drill};

use crate::cli::drill::Interrupt;

/// Leaves out steps, probes and checks for as long as `fails` says that what is left still fails: one at a time and from the end, and
/// where none can go alone, two steps together (what is broken and what mends it). What a drill's file would be refused for is not
/// tried. Nothing of what is given back can be left out, alone or with one more step.
pub fn shrink(drill: &Drill, interrupt: &Interrupt, fails: &dyn Fn(&Drill) -> bool) -> Drill {
    let mut shortest = drill.clone();
    let works = |candidate: &Drill| !interrupt.asked() && is_right(candidate) && fails(candidate);
    loop {
        let before = shortest.clone();
        for part in [Part::Steps, Part::Probes, Part::Checks] {
            for index in (0..part.len(&shortest)).rev() {
                let mut candidate = shortest.clone();
                part.remove(&mut candidate, index);
                if works(&candidate) {
                    shortest = candidate;
                }
            }
        }
        if shortest == before {
            let Some(shorter) = pairs(&before).find(works) else { return shortest };
            shortest = shorter;
        }
        if interrupt.asked() {
            return shortest;
        }
    }
}

/// The drill without any two of its steps, the last ones first.
fn pairs(drill: &Drill) -> impl Iterator<Item = Drill> {
    let count = drill.spec.steps.len();
    let places = (0..count).rev().flat_map(|second| (0..second).rev().map(move |first| (first, second)));
    places.map(|(first, second)| {
        let mut candidate = drill.clone();
        Part::Steps.remove(&mut candidate, second);
        Part::Steps.remove(&mut candidate, first);
        candidate
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortens a drill of these steps, whose failure shows where `shows` says so of the steps that are left.
    #[track_caller]
    fn check(steps: &[&str], shows: &dyn Fn(&[String]) -> bool, left: &[&str]) {
        let lines: String = steps.iter().map(|step| format!("  - {step}\n")).collect();
        let text = format!(
            "apiVersion: daruma.dev/v1\nkind: Drill\nmetadata: {{name: long}}\nspec:\n  steps:\n{lines}  checks:\n  \
             - nodeDetectedWithin: {{after: power-off, limit: 1s}}\n  - nothingLeftBehind: {{}}\n"
        );
        let drill = file::parse("long", &text, &BTreeMap::new(), &|_| Err("no files".into())).expect("a drill");
        let names = |drill: &Drill| drill.spec.steps.iter().map(|step| step.identity().to_owned()).collect::<Vec<_>>();
        let shortest = shrink(&drill, &Interrupt::default(), &|candidate| shows(&names(candidate)));
        assert_eq!(names(&shortest), left);
        let again = text_of(&shortest);
        assert!(file::parse("short", &again, &BTreeMap::new(), &|_| Err("no files".into())).is_ok_and(|again| again == shortest));
    }

    fn text_of(drill: &Drill) -> String {
        text(drill).expect("it is written")
    }

    const OFF: &str = "{fault: power-off, target: {machine: worker-1}}";
    const HANG: &str = "{fault: hang, target: {machine: worker-0}}";

    #[test]
    fn the_shortest_is_left() {
        let has = |names: &[String], name: &str| names.iter().any(|one| one == name);
        let steps = ["sleep: 1s", OFF, "sleep: 70s", "undo: power-off"];
        check(&steps, &|names| has(names, "power-off"), &["power-off"]);
        check(&steps, &|names| has(names, "power-off") && has(names, "undo"), &["power-off", "undo"]);
        check(&steps, &|_| true, &[]);
        check(&steps, &|names| names.len() == 4, &["sleep", "power-off", "sleep", "undo"]);
        // Neither the hang nor its end can go without the other.
        let both = [HANG, OFF, "undo: hang"];
        check(&both, &|names| has(names, "power-off") && has(names, "hang") == has(names, "undo"), &["power-off"]);
    }
}
