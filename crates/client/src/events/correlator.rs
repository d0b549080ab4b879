//! What becomes of an event before it is sent: counted, combined or dropped. Pure.
//!
//! Source: client-go tools/record/events_cache.go.

use std::collections::BTreeSet;
use std::time::Duration;

use daruma_api::core::v1::Event;
use daruma_api::metav1::Time;

use super::lru::Lru;

/// Entries of each memory (maxLruCacheEntries).
const ENTRIES: usize = 4096;
/// Distinct messages from which on similar events are combined (defaultAggregateMaxEvents).
const SIMILAR: usize = 10;
/// Similar events this far apart have nothing to do with each other (defaultAggregateIntervalInSeconds).
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
/// Events that a source may tell about an object at once (defaultSpamBurst).
const BURST: f64 = 25.0;
/// After that, one more every so often (defaultSpamQPS).
const REFILL: Duration = Duration::from_secs(300);

/// An event to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Correlated {
    /// The whole event, with its count.
    pub(super) event: Event,
    /// Whether it was sent before: then its count, time and message are to be updated.
    pub(super) repeats: bool,
}

/// Messages seen of similar events.
struct Similar {
    messages: BTreeSet<String>,
    last: Duration,
}

/// A sent event.
#[derive(Clone)]
struct Sent {
    count: i32,
    name: Option<String>,
    first_timestamp: Option<Time>,
}

/// A token bucket.
struct Allowance {
    tokens: f64,
    at: Duration,
}

/// The memory of what was told.
pub(super) struct Correlator {
    similar: Lru<Similar>,
    sent: Lru<Option<Sent>>,
    allowances: Lru<Allowance>,
}

impl Default for Correlator {
    fn default() -> Self {
        Self { similar: Lru::new(ENTRIES), sent: Lru::new(ENTRIES), allowances: Lru::new(ENTRIES) }
    }
}

impl Correlator {
    /// Takes in an event told at `now` (monotonic); `None` where it is dropped.
    pub(super) fn correlate(&mut self, event: Event, now: Duration) -> Option<Correlated> {
        let source = source_key(&event);
        let (event, key) = self.combine(event, &source, now);
        let correlated = self.count(event, &key);
        self.is_allowed(&source, now).then_some(correlated)
    }

    /// From the tenth distinct message on, similar events become one. Gives the key to count it by.
    fn combine(&mut self, mut event: Event, source: &str, now: Duration) -> (Event, String) {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let group = [
            source.to_owned(),
            part(&event.type_),
            part(&event.reason),
            part(&event.reporting_component),
            part(&event.reporting_instance),
        ]
        .join("\n");
        let message = part(&event.message);
        let similar = self.similar.entry(&group, || Similar { messages: BTreeSet::new(), last: now });
        if now.saturating_sub(similar.last) > SIMILAR_WITHIN {
            similar.messages.clear();
        }
        similar.messages.insert(message.clone());
        similar.last = now;
        if similar.messages.len() < SIMILAR {
            let key = [&group, &part(&event.involved_object.field_path), &message].map(String::as_str).join("\n");
            return (event, key);
        }
        similar.messages.pop_first();
        event.message = Some(format!("(combined from similar events): {message}"));
        (event, group)
    }

    fn count(&mut self, mut event: Event, key: &str) -> Correlated {
        let sent = self.sent.entry(key, || None);
        let repeats = sent.is_some();
        if let Some(sent) = sent {
            event.metadata.name.clone_from(&sent.name);
            event.first_timestamp.clone_from(&sent.first_timestamp);
            event.count = Some(sent.count.saturating_add(1));
        }
        *sent = Some(Sent {
            count: event.count.unwrap_or(1),
            name: event.metadata.name.clone(),
            first_timestamp: event.first_timestamp.clone(),
        });
        Correlated { event, repeats }
    }

    fn is_allowed(&mut self, source: &str, now: Duration) -> bool {
        let allowance = self.allowances.entry(source, || Allowance { tokens: BURST, at: now });
        let earned = now.saturating_sub(allowance.at).as_secs_f64() / REFILL.as_secs_f64();
        *allowance = Allowance { tokens: (allowance.tokens + earned).min(BURST), at: now };
        let allowed = allowance.tokens >= 1.0;
        if allowed {
            allowance.tokens -= 1.0;
        }
        allowed
    }
}

/// Names source and object.
fn source_key(event: &Event) -> String {
    let object = &event.involved_object;
    let source = event.source.as_ref();
    [
        source.and_then(|source| source.component.as_deref()),
        source.and_then(|source| source.host.as_deref()),
        object.kind.as_deref(),
        object.namespace.as_deref(),
        object.name.as_deref(),
        object.uid.as_deref(),
        object.api_version.as_deref(),
    ]
    .map(Option::unwrap_or_default)
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_api::core::v1::{EventSource, ObjectReference};
    use daruma_api::metav1::ObjectMeta;

    fn event(object: &str, message: &str, number: u32) -> Event {
        Event {
            metadata: ObjectMeta { name: Some(format!("{object}.{number:x}")), ..Default::default() },
            involved_object: ObjectReference { name: Some(object.into()), ..Default::default() },
            source: Some(EventSource { component: Some("kubelet".into()), host: None }),
            reason: Some("BackOff".into()),
            message: Some(message.into()),
            count: Some(1),
            ..Default::default()
        }
    }

    /// Name, count, message and whether it repeats.
    fn check(correlator: &mut Correlator, at_secs: u64, input: Event, expected: Option<(&str, i32, &str, bool)>) {
        let got = correlator.correlate(input, Duration::from_secs(at_secs));
        let got = got.as_ref().map(|correlated| {
            let event = &correlated.event;
            (
                event.metadata.name.as_deref().unwrap_or_default(),
                event.count.unwrap_or_default(),
                event.message.as_deref().unwrap_or_default(),
                correlated.repeats,
            )
        });
        assert_eq!(got, expected);
    }

    #[test]
    fn repeats_are_counted_in_the_first_event() {
        let mut correlator = Correlator::default();
        check(&mut correlator, 0, event("a", "m", 1), Some(("a.1", 1, "m", false)));
        check(&mut correlator, 1, event("a", "m", 2), Some(("a.1", 2, "m", true)));
        check(&mut correlator, 1, event("b", "m", 3), Some(("b.3", 1, "m", false)));
        check(&mut correlator, 900, event("a", "m", 4), Some(("a.1", 3, "m", true)));
    }

    #[test]
    fn the_tenth_similar_event_starts_a_combined_one() {
        let mut correlator = Correlator::default();
        for number in 1..=9 {
            let message = number.to_string();
            check(&mut correlator, 0, event("a", &message, number), Some((&format!("a.{number:x}"), 1, &message, false)));
        }
        check(&mut correlator, 1, event("a", "10", 10), Some(("a.a", 1, "(combined from similar events): 10", false)));
        check(&mut correlator, 2, event("a", "11", 11), Some(("a.a", 2, "(combined from similar events): 11", true)));
        check(&mut correlator, 603, event("a", "12", 12), Some(("a.c", 1, "12", false)));
    }

    #[test]
    fn a_source_that_talks_too_much_is_cut_off() {
        let mut correlator = Correlator::default();
        for number in 1..=25 {
            check(&mut correlator, 0, event("a", "m", number), Some(("a.1", number as i32, "m", number > 1)));
        }
        check(&mut correlator, 0, event("a", "m", 26), None);
        check(&mut correlator, 0, event("b", "m", 27), Some(("b.1b", 1, "m", false)));
        check(&mut correlator, 299, event("a", "m", 28), None);
        check(&mut correlator, 301, event("a", "m", 29), Some(("a.1", 28, "m", true)));
    }
}
