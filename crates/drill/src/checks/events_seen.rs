//! `eventsSeen`: Kubernetes Events that must have been recorded.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::{Finding, Range, Rule};
use crate::history::History;
use crate::record::{Entry, EntryKind};
use crate::span::length;

/// Parameters of `eventsSeen`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventsSeen {
    /// What must be seen.
    pub events: Vec<WantedEvent>,
    /// Whether the first of each must come in this order.
    #[serde(default)]
    pub in_order: bool,
    /// Looked for from the beginning of this step; from the start when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Looked for to the beginning of this step; to the end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// One Event that is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WantedEvent {
    /// Its reason, e.g. `NodeNotReady`.
    pub reason: String,
    /// The object it is about, e.g. `node/worker-1`; `*` stands for any text. Any object when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regarding: Option<String>,
    /// The component that reported it, e.g. `node-controller`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How often; at least once when absent. `{exactly: 0}` demands that it is not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Range>,
}

impl WantedEvent {
    fn times(&self) -> Range {
        self.times.unwrap_or(Range { at_least: Some(1), ..Range::default() })
    }

    fn is(&self, entry: &Entry) -> bool {
        entry.kind == EntryKind::Event
            && entry.reason == self.reason
            && self.by.as_ref().is_none_or(|by| *by == entry.who)
            && self.regarding.as_ref().is_none_or(|pattern| matches(pattern, &entry.about))
    }
}

impl fmt::Display for WantedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if let Some(regarding) = &self.regarding {
            write!(f, " of {regarding}")?;
        }
        if let Some(by) = &self.by {
            write!(f, " by {by}")?;
        }
        Ok(())
    }
}

impl Rule for EventsSeen {
    const ABOUT: &'static str = "Events of these reasons were recorded, about these objects, so often, in this order if asked.";
    const EXAMPLE: &'static str = "eventsSeen: {after: power-off, inOrder: true, events: [{reason: NodeNotReady, regarding: node/worker-1}, \
         {reason: TaintManagerEviction, regarding: pod/*, times: {exactly: 2}}]}";

    fn validate(&self, known: &Known) -> Vec<String> {
        let mut complaints: Vec<_> = [
            self.events.is_empty().then(|| "events: none is named".to_owned()),
            known.step("after", self.after.as_deref()),
            known.step("until", self.until.as_deref()),
        ]
        .into_iter()
        .flatten()
        .collect();
        for (index, event) in self.events.iter().enumerate() {
            complaints.extend(event.times().validate(&format!("events[{index}].times")));
            if event.reason.is_empty() {
                complaints.push(format!("events[{index}].reason: is empty"));
            }
            if self.in_order && event.times().holds(0) {
                complaints.push(format!("events[{index}].times: an event that need not be seen has no place in an order"));
            }
        }
        complaints
    }

    fn demand(&self) -> String {
        let wanted: Vec<_> = self
            .events
            .iter()
            .map(|event| match event.times {
                None => event.to_string(),
                Some(times) => format!("{event} ({times} times)"),
            })
            .collect();
        format!("events seen{}: {}", if self.in_order { " in this order" } else { "" }, wanted.join(", "))
    }

    fn judge(&self, history: &History<'_>) -> Finding {
        let (from, to) = match history.window(self.after.as_deref(), self.until.as_deref()) {
            Ok(window) => window,
            Err(why) => return Finding::broken(why),
        };
        let within: Vec<_> = history.record.timeline.iter().filter(|entry| (from..=to).contains(&entry.at_ms)).collect();
        let mut held = true;
        let mut texts = Vec::new();
        let mut position = 0;
        for event in &self.events {
            let seen: Vec<_> = within.iter().filter(|entry| event.is(entry)).collect();
            let first = seen.first().map(|entry| format!(", first at {}", length(entry.at_ms))).unwrap_or_default();
            let fine = event.times().holds(seen.len() as u64);
            let mut text = format!("{event}: {}{first}", times(seen.len()));
            if self.in_order {
                match within.iter().skip(position).position(|entry| event.is(entry)) {
                    Some(further) => position += further + 1,
                    None if fine => {
                        held = false;
                        text.push_str(" (not after the one before it)");
                    }
                    None => {}
                }
            }
            held &= fine;
            texts.push(text);
        }
        Finding::new(held, texts.join("; "))
    }
}

fn times(count: usize) -> String {
    match count {
        0 => "not seen".to_owned(),
        1 => "once".to_owned(),
        more => format!("{more} times"),
    }
}

/// Whether a text is what a pattern says, `*` being any text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, held) in [
            ("node/worker-1", "node/worker-1", true),
            ("node/worker-1", "node/worker-10", false),
            ("pod/*", "pod/default/web-x", true),
            ("*/web-*", "pod/default/web-x", true),
            ("pod/*-x", "pod/default/web-x", true),
            ("pod/*-y", "pod/default/web-x", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches(pattern, text), held, "{pattern} {text}");
        }
    }
}
