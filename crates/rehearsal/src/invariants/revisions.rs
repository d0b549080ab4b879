//! Resource versions only grow.

use super::{Invariant, Seen, Stored, Verdict, Watched};

#[derive(Default)]
pub(super) struct Revisions {
    last: u64,
}

impl Invariant for Revisions {
    fn name(&self) -> &'static str {
        "resource-versions-grow"
    }

    fn stored(&mut self, _: &Seen, event: &Stored<'_>) -> Verdict {
        let revision = event.change.revision;
        let last = self.last;
        self.last = last.max(revision);
        if revision <= last {
            return Err(format!("{} was written at revision {revision}, after revision {last}", event.change.key));
        }
        match &event.change.record {
            Some(record) if record.mod_revision != revision => {
                Err(format!("{} carries revision {} at revision {revision}", event.change.key, record.mod_revision))
            }
            _ => Ok(()),
        }
    }

    fn watched(&mut self, event: &Watched) -> Verdict {
        let (Watched::Listed { revision, .. } | Watched::Event { revision, .. }) = event else { return Ok(()) };
        if *revision > self.last {
            return Err(format!("a client saw revision {revision}; the store is at {}", self.last));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn fires() {
        check(&[("put", "core/nodes/a", 1, "{}"), ("put", "core/nodes/a", 2, "{}")], &[]);
        check(&[("put", "core/nodes/a", 2, "{}"), ("put", "core/nodes/b", 2, "{}")], &["resource-versions-grow"]);
        // A client is told of a revision that the store has not reached.
        check(&[("put", "core/nodes/a", 1, "{}"), ("list", "core/nodes/", 2, "")], &["resource-versions-grow"]);
    }
}
