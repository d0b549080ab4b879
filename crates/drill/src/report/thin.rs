//! What is left out of a report when there is too much of it, and how that is said. Pure.

use std::collections::BTreeMap;

use crate::record::{Entry, EntryKind};
use crate::report::terminal::clock;

/// Lines that the report shows at most.
pub(super) const MOST_LINES: usize = 1500;

/// A line of the report's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// As it was recorded, with its number in the record.
    Entry(usize, &'a Entry),
    /// Stands for more of the same, in words; `at_ms` is where it stands.
    More { at_ms: u64, text: String },
}

/// The timeline, thinned: what the drill did stays, of changes and events that are alike the first few and a word
/// on the rest.
pub(super) fn timeline(entries: &[Entry]) -> Vec<Line<'_>> {
    if entries.len() <= MOST_LINES {
        return entries.iter().enumerate().map(|(index, entry)| Line::Entry(index, entry)).collect();
    }
    // The more kinds of lines there are, the fewer of each.
    for each in [20, 8, 3, 1] {
        let lines = with_first(entries, each);
        if lines.len() <= MOST_LINES {
            return lines;
        }
    }
    let mut lines = with_first(entries, 1);
    let left_out = lines.len() - MOST_LINES;
    let last_at = entries.last().map_or(0, |entry| entry.at_ms);
    lines.truncate(MOST_LINES);
    lines.push(Line::More { at_ms: last_at, text: format!("{left_out} more lines; report.json has them all") });
    lines
}

fn with_first(entries: &[Entry], each: usize) -> Vec<Line<'_>> {
    let mut alike: BTreeMap<Likeness<'_>, (usize, u64)> = BTreeMap::new();
    for entry in entries {
        if let Some(likeness) = likeness(entry) {
            let (count, last) = alike.entry(likeness).or_default();
            *count += 1;
            *last = entry.at_ms;
        }
    }
    let mut seen: BTreeMap<Likeness<'_>, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(likeness) = likeness(entry) else {
            lines.push(Line::Entry(index, entry));
            continue;
        };
        let (count, last) = alike[&likeness];
        let seen = seen.entry(likeness).or_default();
        *seen += 1;
        // A word for one line saves nothing.
        if *seen <= each || count == each + 1 {
            lines.push(Line::Entry(index, entry));
        } else if *seen == each + 1 {
            let text = format!("{} more like this until {}", count - each, clock(last));
            lines.push(Line::More { at_ms: entry.at_ms, text });
        }
    }
    lines
}

type Likeness<'a> = (EntryKind, &'a str, &'a str, &'a str, String);

/// What makes two lines alike; `None` for lines that always stay.
fn likeness(entry: &Entry) -> Option<Likeness<'_>> {
    let (noun, name) = entry.about.split_once('/').unwrap_or((&entry.about, ""));
    let text = match entry.kind {
        EntryKind::Event => String::new(),
        EntryKind::Change if name.is_empty() => without_names(&entry.text),
        EntryKind::Change => without_names(&entry.text.replace(name, "")),
        _ => return None,
    };
    Some((entry.kind, &entry.who, noun, &entry.reason, text))
}

/// Words with digits or slashes in them are names, addresses or counts.
fn without_names(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit() || c == '/'));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_lines_are_told_once() {
        let mut entries = vec![Entry::new(0, EntryKind::Fault, "drill", "zone/b", "power off")];
        for number in 0..5000u64 {
            let about = format!("node/worker-{number}");
            entries.push(Entry::new(1000 + number, EntryKind::Change, "node-controller", &about, "Ready True → Unknown"));
        }
        entries.push(Entry::new(7000, EntryKind::Undo, "drill", "zone/b", "power on"));
        let lines = timeline(&entries);
        assert_eq!(lines.len(), 1 + 20 + 1 + 1);
        let said = "4980 more like this until 0:05.9";
        assert_eq!(lines[21], Line::More { at_ms: 1020, text: said.to_owned() });
        assert_eq!(lines[22], Line::Entry(5001, &entries[5001]));
    }

    #[test]
    fn few_lines_stay_as_they_are() {
        let entries = vec![Entry::new(0, EntryKind::Event, "a", "node/x", "b"); MOST_LINES];
        assert_eq!(timeline(&entries).len(), MOST_LINES);
    }

    #[test]
    fn there_is_an_end() {
        let step = |number: usize| Entry::new(0, EntryKind::Step, "drill", "", &number.to_string());
        let entries: Vec<_> = (0..MOST_LINES * 2).map(step).collect();
        assert_eq!(timeline(&entries).len(), MOST_LINES + 1);
    }
}
