//! Plays written histories to all rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use daruma_apiserver::storage::keys;
use daruma_store::embedded::{Change, Loaded, Record};

use super::{Changed, Guard, Running, Watched};

/// One step: verb, subject, revision (or second), value.
pub type Step = (&'static str, &'static str, u64, &'static str);

/// Which rules a history breaks. Verbs: `put` and `delete` a key; `load` `KEY@REVISION …`; `ask` and `list` a prefix; `watch`
/// a key; `run` `NAMESPACE/POD/UID@MACHINE …` at a second; `settled`.
pub fn check(history: &[Step], broken: &[&str]) {
    let guard = Guard::default();
    let mut known = BTreeMap::new();
    let mut living = BTreeSet::new();
    for (verb, subject, number, value) in history {
        let key = format!("{}{subject}", keys::ROOT);
        let record = |revision| Record { value: (*value).into(), create_revision: 1, mod_revision: revision, lease: None };
        match *verb {
            "put" | "delete" => {
                let record = (*verb == "put").then(|| record(*number));
                let replaces = known.insert(key.clone(), *number);
                guard.stored(Duration::ZERO, &Change { key: key.into(), revision: *number, record, replaces });
            }
            "load" => {
                let records = subject.split_whitespace().map(|one| {
                    let (key, revision) = one.split_once('@').expect("KEY@REVISION");
                    (format!("{}{key}", keys::ROOT).into(), record(revision.parse().expect("a number")))
                });
                guard.loaded(Duration::ZERO, &Loaded { revision: *number, records: records.collect() });
            }
            "ask" => guard.watched(Duration::ZERO, &Watched::Asked { prefix: key }),
            "list" => guard.watched(Duration::ZERO, &Watched::Listed { prefix: key, revision: *number }),
            "watch" => {
                let (prefix, key) = keys::split(&key).expect("a whole key");
                let event = Watched::Event { prefix: prefix.into(), key: key.into(), revision: *number };
                guard.watched(Duration::ZERO, &event);
            }
            "run" => {
                let now: BTreeSet<Running> = subject.split_whitespace().map(running).collect();
                let began = now.difference(&living).cloned().collect();
                let ended = living.difference(&now).cloned().collect();
                guard.running(Duration::from_secs(*number), &Changed { began, ended });
                living = now;
            }
            "settled" => guard.settled(Duration::ZERO),
            other => panic!("no verb {other}"),
        }
    }
    let violations = guard.violations();
    let names: Vec<&str> = violations.iter().map(|violation| violation.invariant).collect();
    assert_eq!(names, broken, "{violations:?}");
}

fn running(text: &str) -> Running {
    let (pod, machine) = text.split_once('@').expect("POD@MACHINE");
    let parts: Vec<&str> = pod.split('/').collect();
    let [namespace, pod, uid] = parts[..] else { panic!("NAMESPACE/POD/UID") };
    let of = str::to_owned;
    Running { namespace: of(namespace), pod: of(pod), uid: of(uid), container: "c".into(), machine: of(machine) }
}
