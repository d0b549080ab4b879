//! Who gets which names: within a group each plural, singular, short name and kind belongs to one definition.
//!
//! Facts: kubernetes apiextensions-apiserver pkg/controller/status/naming_controller.go and
//! pkg/controller/establish/establishing_controller.go.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::definition::{Condition, Definition, find};
use crate::document::{self, text, texts};

/// Condition of a definition that has all names that it wants.
pub const NAMES_ACCEPTED: &str = "NamesAccepted";
/// Condition of a definition whose resources are served.
pub const ESTABLISHED: &str = "Established";

/// The definition with the names that it gets, beside what others of its group (and itself) have got before; `None`
/// where nothing is to be written.
pub fn accept(definition: &Definition, all: &[Definition], now: jiff::Timestamp) -> Option<Value> {
    let object = &*definition.object;
    let wanted = &object["spec"]["names"];
    let accepted = &object["status"]["acceptedNames"];
    if is_same(wanted, accepted) {
        return None;
    }
    let taken = Taken::by(all.iter().filter(|one| one.group() == definition.group()));
    let (names, naming) = decide(wanted, accepted, &taken);
    if is_same(&names, accepted) && naming.is_in(object) {
        return None;
    }
    let mut new = object.clone();
    document::child(&mut new, "status").insert("acceptedNames".into(), names);
    naming.set(&mut new, now);
    if let Some(establishing) = establishing(object, naming.holds) {
        establishing.set(&mut new, now);
    }
    Some(new)
}

/// The condition of a definition whose resources are served from now on.
pub fn established() -> Condition {
    Condition {
        kind: ESTABLISHED,
        holds: true,
        reason: "InitialNamesAccepted",
        message: "the initial names have been accepted".into(),
    }
}

/// What is said of serving when names are decided; `None` where it stays as it is.
fn establishing(object: &Value, accepted: bool) -> Option<Condition> {
    let before = find(object, ESTABLISHED);
    if before.is_some_and(|before| text(before, "/status") == "True") {
        return None;
    }
    if accepted {
        let message = "the initial names have been accepted".into();
        return Some(Condition { kind: ESTABLISHED, holds: false, reason: "Installing", message });
    }
    let message = "not all names are accepted".into();
    before.is_none().then_some(Condition { kind: ESTABLISHED, holds: false, reason: "NotAccepted", message })
}

/// Names that are taken in a group.
#[derive(Debug, Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn by<'a>(definitions: impl Iterator<Item = &'a Definition>) -> Self {
        let mut taken = Self::default();
        for definition in definitions {
            let names = &definition.object["status"]["acceptedNames"];
            taken.resources.extend([text(names, "/plural").to_owned(), text(names, "/singular").to_owned()]);
            taken.resources.extend(texts(names, "/shortNames").into_iter().map(str::to_owned));
            taken.kinds.extend([text(names, "/kind").to_owned(), text(names, "/listKind").to_owned()]);
        }
        taken
    }
}

/// The names that are accepted, and what is said of them: the last conflict, where there are any.
fn decide(wanted: &Value, accepted: &Value, taken: &Taken) -> (Value, Condition) {
    let mut names = accepted.as_object().cloned().unwrap_or_default();
    let mut conflict = None;
    let mut take = |names: &mut Map<String, Value>, key: &str, used: &BTreeSet<String>, reason: &'static str| {
        let (new, old) = (text(wanted, &format!("/{key}")), text(accepted, &format!("/{key}")));
        if new != old && used.contains(new) {
            conflict = Some((reason, in_use(new)));
        } else if !new.is_empty() {
            names.insert(key.into(), new.into());
        }
    };
    take(&mut names, "plural", &taken.resources, "PluralConflict");
    take(&mut names, "singular", &taken.resources, "SingularConflict");
    take_short_names(wanted, accepted, taken).map_or_else(
        |message| conflict = Some(("ShortNamesConflict", message)),
        |short| keep_list(&mut names, "shortNames", short),
    );
    let mut take = |names: &mut Map<String, Value>, key: &str, reason: &'static str| {
        let (new, old) = (text(wanted, &format!("/{key}")), text(accepted, &format!("/{key}")));
        if new != old && taken.kinds.contains(new) {
            conflict = Some((reason, in_use(new)));
        } else if !new.is_empty() {
            names.insert(key.into(), new.into());
        }
    };
    take(&mut names, "kind", "KindConflict");
    take(&mut names, "listKind", "ListKindConflict");
    keep_list(&mut names, "categories", texts(wanted, "/categories"));
    let naming = match conflict {
        Some((reason, message)) => Condition { kind: NAMES_ACCEPTED, holds: false, reason, message },
        None => Condition { kind: NAMES_ACCEPTED, holds: true, reason: "NoConflicts", message: "no conflicts found".into() },
    };
    (Value::Object(names), naming)
}

fn take_short_names<'a>(wanted: &'a Value, accepted: &Value, taken: &Taken) -> Result<Vec<&'a str>, String> {
    let (new, old) = (texts(wanted, "/shortNames"), texts(accepted, "/shortNames"));
    if new == old {
        return Ok(new);
    }
    // What the definition has already, it may have as a short name, too.
    let own = |name: &str| old.contains(&name) || name == text(accepted, "/plural") || name == text(accepted, "/singular");
    let mut conflicts: Vec<String> = Vec::new();
    for name in new.iter().filter(|name| !own(name) && taken.resources.contains(**name)) {
        if !conflicts.contains(&in_use(name)) {
            conflicts.push(in_use(name));
        }
    }
    match conflicts.as_slice() {
        [] => Ok(new),
        [one] => Err(one.clone()),
        more => Err(format!("[{}]", more.join(", "))),
    }
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

fn keep_list(names: &mut Map<String, Value>, key: &str, list: Vec<&str>) {
    if list.is_empty() {
        names.remove(key);
    } else {
        names.insert(key.into(), json!(list));
    }
}

/// Whether names are the same, where a missing one is an empty one.
fn is_same(left: &Value, right: &Value) -> bool {
    ["plural", "singular", "kind", "listKind"].iter().all(|key| text(left, &format!("/{key}")) == text(right, &format!("/{key}")))
        && ["shortNames", "categories"].iter().all(|key| texts(left, &format!("/{key}")) == texts(right, &format!("/{key}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn definition(group: &str, wanted: Value, accepted: Value) -> Definition {
        let name = format!("{}.{group}", text(&wanted, "/plural"));
        let object = json!({"metadata": {"name": name}, "spec": {"group": group, "names": wanted},
            "status": {"acceptedNames": accepted}});
        Definition { revision: 1, object: Arc::new(object) }
    }

    fn names(plural: &str, singular: &str, kind: &str, short: &[&str]) -> Value {
        json!({"plural": plural, "singular": singular, "kind": kind, "listKind": format!("{kind}List"), "shortNames": short})
    }

    #[track_caller]
    fn check(wanted: Value, reason: &str, message: &str, established: &str) -> Value {
        let other = names("crontabs", "crontab", "CronTab", &["ct", "cr"]);
        let all = [
            definition("g", other.clone(), other.clone()),
            definition("elsewhere", names("jobs", "job", "Job", &[]), names("jobs", "job", "Job", &[])),
            definition("g", wanted, json!({})),
        ];
        let new = accept(&all[2], &all, jiff::Timestamp::UNIX_EPOCH).expect("names are new");
        let naming = find(&new, NAMES_ACCEPTED).expect("set");
        assert_eq!((text(naming, "/reason"), text(naming, "/message")), (reason, message));
        assert_eq!(text(find(&new, ESTABLISHED).expect("set"), "/reason"), established);
        new["status"]["acceptedNames"].clone()
    }

    #[test]
    fn names_belong_to_whom_they_were_given_first() {
        let free = names("jobs", "job", "Job", &["j"]);
        assert_eq!(check(free.clone(), "NoConflicts", "no conflicts found", "Installing"), free);
        let accepted =
            check(names("jobs", "crontab", "Job", &["j"]), "SingularConflict", "\"crontab\" is already in use", "NotAccepted");
        assert_eq!((text(&accepted, "/plural"), text(&accepted, "/singular")), ("jobs", ""));
        check(names("ct", "c", "C", &[]), "PluralConflict", "\"ct\" is already in use", "NotAccepted");
        check(names("jobs", "job", "CronTab", &[]), "ListKindConflict", "\"CronTabList\" is already in use", "NotAccepted");
        let message = "[\"ct\" is already in use, \"cr\" is already in use]";
        check(names("jobs", "job", "Job", &["ct", "cr", "ct"]), "ShortNamesConflict", message, "NotAccepted");
    }

    #[test]
    fn nothing_is_written_twice() {
        let wanted = names("jobs", "job", "Job", &[]);
        let first = definition("g", wanted.clone(), json!({"plural": "", "kind": ""}));
        let new = accept(&first, std::slice::from_ref(&first), jiff::Timestamp::UNIX_EPOCH).expect("names are new");
        let second = Definition { revision: 2, object: Arc::new(new) };
        assert_eq!(accept(&second, std::slice::from_ref(&second), jiff::Timestamp::UNIX_EPOCH), None);
    }
}
