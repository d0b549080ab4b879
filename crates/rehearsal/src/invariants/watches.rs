//! A watch misses nothing and repeats nothing.

use std::collections::{BTreeMap, VecDeque};

use daruma_apiserver::storage::keys;

use super::{Invariant, Seen, Stored, Verdict, Watched};

/// Changes per watched prefix that no watcher has been told of yet, since its first list was asked for: what is written while
/// the list is on its way is no part of it.
#[derive(Default)]
pub(super) struct Watches {
    due: BTreeMap<String, VecDeque<(u64, String)>>,
}

impl Invariant for Watches {
    fn name(&self) -> &'static str {
        "watches-are-complete"
    }

    fn stored(&mut self, _: &Seen, event: &Stored<'_>) -> Verdict {
        let Some((prefix, key)) = keys::split(&event.change.key) else { return Ok(()) };
        if let Some(due) = self.due.get_mut(prefix) {
            due.push_back((event.change.revision, key.to_owned()));
        }
        Ok(())
    }

    fn watched(&mut self, event: &Watched) -> Verdict {
        match event {
            Watched::Asked { prefix } => {
                self.due.entry(prefix.clone()).or_default();
                Ok(())
            }
            Watched::Listed { prefix, revision } => {
                self.due.entry(prefix.clone()).or_default().retain(|(due, _)| due > revision);
                Ok(())
            }
            Watched::Event { prefix, key, revision } => {
                let due = self.due.entry(prefix.clone()).or_default();
                match due.front() {
                    Some((next, name)) if next == revision && name == key => {
                        due.pop_front();
                        Ok(())
                    }
                    Some((next, name)) if next < revision => {
                        let missed = format!("a watch of {prefix} missed {name} at {next}; it went on with {key} at {revision}");
                        due.retain(|(due, _)| due > revision);
                        Err(missed)
                    }
                    _ => Err(format!("a watch of {prefix} told of {key} at {revision} again, or of what never was")),
                }
            }
        }
    }

    fn settled(&mut self, _: &Seen) -> Verdict {
        match self.due.iter().find_map(|(prefix, due)| Some((prefix, due.front()?))) {
            Some((prefix, (revision, key))) => Err(format!("a watch of {prefix} was never told of {key} at {revision}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn fires() {
        let start = [
            ("put", "core/nodes/a", 1, "{}"),
            ("ask", "core/nodes/", 0, ""),
            ("list", "core/nodes/", 1, ""),
            ("put", "core/nodes/b", 2, "{}"),
            ("put", "core/nodes/a", 3, "{}"),
        ];
        let with = |more: &[(&'static str, &'static str, u64, &'static str)]| [&start, more].concat();
        let (a, b) = (("watch", "core/nodes/a", 3, ""), ("watch", "core/nodes/b", 2, ""));
        check(&with(&[b, a]), &[]);
        check(&with(&[b, a, a]), &["watches-are-complete"]);
        check(&with(&[a]), &["watches-are-complete"]);
        check(&with(&[b, ("list", "core/nodes/", 3, "")]), &[]);
        check(&with(&[("settled", "", 0, "")]), &["watches-are-complete"]);
        // Written while the list was on its way to the client.
        let late = [
            ("put", "core/nodes/a", 1, "{}"),
            ("ask", "core/nodes/", 0, ""),
            ("put", "core/nodes/b", 2, "{}"),
            ("list", "core/nodes/", 1, ""),
            b,
        ];
        check(&late, &[]);
        check(&[&late[..], &[b]].concat(), &["watches-are-complete"]);
    }
}
