//! No acknowledged write is lost: what a commit has confirmed is there when the store is opened again.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_store::embedded::Loaded;

use super::{Invariant, Seen, Stored, Verdict};

#[derive(Default)]
pub(super) struct AcknowledgedWrites {
    last: u64,
    /// Last change of each key; whether it is there.
    written: BTreeMap<Arc<str>, (u64, bool)>,
}

impl Invariant for AcknowledgedWrites {
    fn name(&self) -> &'static str {
        "acknowledged-writes-stay"
    }

    fn stored(&mut self, _: &Seen, event: &Stored<'_>) -> Verdict {
        let change = event.change;
        self.last = self.last.max(change.revision);
        self.written.insert(change.key.clone(), (change.revision, change.record.is_some()));
        Ok(())
    }

    fn loaded(&mut self, loaded: &Loaded) -> Verdict {
        if loaded.revision < self.last {
            return Err(format!("the store came back at revision {}; {} was acknowledged", loaded.revision, self.last));
        }
        let found: BTreeMap<&str, u64> = loaded.records.iter().map(|(key, record)| (&**key, record.mod_revision)).collect();
        // A write that was durable but not yet acknowledged may have come on top.
        let more = loaded.revision > self.last;
        for (key, (revision, is_there)) in &self.written {
            let same = match found.get(&**key) {
                Some(seen) => *seen > self.last || (*is_there && seen == revision),
                None => more || !is_there,
            };
            if !same {
                let what = if *is_there { "written" } else { "deleted" };
                return Err(format!("{key} was {what} at revision {revision}; the store came back with {:?}", found.get(&**key)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn fires() {
        let written = [("put", "core/nodes/a", 1, "{}"), ("put", "core/nodes/b", 2, "{}"), ("delete", "core/nodes/b", 3, "")];
        let with = |more: &[(&'static str, &'static str, u64, &'static str)]| [&written, more].concat();
        check(&with(&[("load", "core/nodes/a@1", 3, "")]), &[]);
        check(&with(&[("load", "core/nodes/a@1 core/nodes/c@4", 4, "")]), &[]);
        check(&with(&[("load", "core/nodes/a@1", 2, "")]), &["acknowledged-writes-stay"]);
        check(&with(&[("load", "", 3, "")]), &["acknowledged-writes-stay"]);
        check(&with(&[("load", "core/nodes/a@1 core/nodes/b@2", 3, "")]), &["acknowledged-writes-stay"]);
    }
}
