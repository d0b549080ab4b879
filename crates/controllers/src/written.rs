//! What a controller has written itself, so that it does not decide on a local copy from before.
//!
//! Source of the idea: kubernetes pkg/controller/util/consistency. Deciding on a stale copy does no
//! harm, but it ends in conflicts, and those eat the client's rate limit.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// How long a write is waited for; the object may have gone before any watch showed it.
const PATIENCE: Duration = Duration::from_secs(5);
/// When to look again at a copy that does not show a write; its watch event comes long before.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Revisions written, by the key that is synced and the uid of the object.
#[derive(Debug, Default)]
pub(crate) struct Written {
    by_key: Mutex<BTreeMap<String, Writes>>,
}

/// Revision and time by uid.
type Writes = BTreeMap<String, (u64, Duration)>;

impl Written {
    /// An object has this revision now (monotonic time).
    pub(crate) fn wrote(&self, key: &str, uid: &str, version: Option<&String>, now: Duration) {
        let mut by_key = self.by_key.lock().expect("no panic while held");
        by_key.entry(key.to_owned()).or_default().insert(uid.to_owned(), (revision(version), now));
    }

    /// Whether the local copy, as `shown` gives it by uid, has everything that was written.
    pub(crate) fn is_shown(&self, key: &str, shown: impl Fn(&str) -> Option<u64>, now: Duration) -> bool {
        let mut by_key = self.by_key.lock().expect("no panic while held");
        let Some(written) = by_key.get_mut(key) else { return true };
        written
            .retain(|uid, (version, at)| now.saturating_sub(*at) < PATIENCE && shown(uid).is_none_or(|shown| shown < *version));
        let shown = written.is_empty();
        if shown {
            by_key.remove(key);
        }
        shown
    }
}

/// A revision as a number.
pub(crate) fn revision(text: Option<&String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_until_shown_or_out_of_patience() {
        let written = Written::default();
        let second = Duration::from_secs;
        written.wrote("k", "u", Some(&"7".to_owned()), second(1));
        assert!(!written.is_shown("k", |_| Some(6), second(2)));
        assert!(!written.is_shown("k", |_| None, second(2)));
        assert!(written.is_shown("other", |_| None, second(2)));
        assert!(written.is_shown("k", |_| Some(7), second(2)));
        written.wrote("k", "u", Some(&"9".to_owned()), second(3));
        assert!(written.is_shown("k", |_| Some(7), second(9)));
    }
}
