//! The timeline on a terminal, line by line as it happens, and the tables at the end.

use std::fmt::Write as _;

use super::{Report, columns};
use crate::figures::Figures;
use crate::record::{AtMs, Entry, EntryKind};
use crate::span::length;

/// Most lines of one kind.
const MOST: usize = 20;

/// Whether the one who reads sees colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Text alone: files, pipes.
    #[default]
    Plain,
    /// ANSI colours.
    Colour,
}

/// ANSI colours by what they mean.
#[derive(Clone, Copy)]
enum Ink {
    Broken,
    Mended,
    Done,
    Changed,
    Quiet,
}

impl Style {
    fn paint(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Broken => "1;31",
            Ink::Mended => "1;32",
            Ink::Done => "1;36",
            Ink::Changed => "33",
            Ink::Quiet => "2",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// One line of the timeline (several for a view), ending in a line break: time since the drill began, what sort of
/// line, who did or noticed it, the object, the text.
pub fn line(entry: &Entry, style: Style) -> String {
    let (mark, ink) = match entry.kind {
        EntryKind::Fault => ("✗", Ink::Broken),
        EntryKind::Undo => ("↺", Ink::Mended),
        EntryKind::Step => ("▸", Ink::Done),
        EntryKind::View => ("$", Ink::Done),
        EntryKind::Change => ("·", Ink::Changed),
        EntryKind::Event => ("!", Ink::Quiet),
        EntryKind::Check => ("✓", Ink::Done),
    };
    let time = style.paint(Ink::Quiet, &format!("{:>9}", clock(entry.at_ms)));
    let who = format!("{:<24}", entry.who);
    let who = style.paint(Ink::Quiet, &who);
    let about = if entry.about.is_empty() { String::new() } else { format!("{}  ", entry.about) };
    let reason = if entry.reason.is_empty() { String::new() } else { format!("{}: ", entry.reason) };
    let mut lines = entry.text.lines();
    // A table stands under the command that shows it, so that its columns stay in line.
    let is_table = entry.kind == EntryKind::View && !entry.about.is_empty();
    let first = if is_table { "" } else { lines.next().unwrap_or_default() };
    let said = match entry.kind {
        EntryKind::Change | EntryKind::Event | EntryKind::View => format!("{about}{reason}{first}"),
        _ => style.paint(ink, &format!("{about}{reason}{first}")),
    };
    let mut text = format!("{time}  {} {who}  {said}", style.paint(ink, mark));
    text.truncate(text.trim_end().len());
    text.push('\n');
    for more in lines {
        let _ = writeln!(text, "{:>13}{more}", "");
    }
    text
}

/// Time since the beginning as `m:ss.t`, or `h:mm:ss.t` from an hour on.
pub fn clock(at_ms: AtMs) -> String {
    let tenths = at_ms / 100;
    let (hours, minutes, seconds) = (tenths / 36_000, tenths / 600 % 60, tenths % 600);
    let seconds = format!("{:02}.{}", seconds / 10, seconds % 10);
    if hours == 0 { format!("{minutes}:{seconds}") } else { format!("{hours}:{minutes:02}:{seconds}") }
}

/// What stands at the end: figures, checks, and whether all held.
pub fn summary(report: &Report, style: Style) -> String {
    let mut text = figures(&report.figures);
    if !report.record.left_behind.is_empty() {
        text.push_str("\nLeft behind:\n");
        for thing in report.record.left_behind.iter().take(MOST) {
            let _ = writeln!(text, "  {thing}");
        }
        if let Some(more) = report.record.left_behind.len().checked_sub(MOST).filter(|more| *more > 0) {
            let _ = writeln!(text, "  (and {more} more, all of them in report.json)");
        }
    }
    if !report.verdicts.is_empty() {
        text.push('\n');
    }
    for verdict in &report.verdicts {
        let (mark, ink) = if verdict.held { ("✓", Ink::Mended) } else { ("✗", Ink::Broken) };
        let _ = writeln!(text, "{} {} {}", style.paint(ink, mark), style.paint(ink, &verdict.check), verdict.demand);
        let _ = writeln!(text, "    {}", style.paint(Ink::Quiet, &verdict.text));
    }
    let ink = if report.held { Ink::Mended } else { Ink::Broken };
    let outcome = format!("{}: {} ({})", report.record.drill, report.outcome(), length(report.record.took_ms));
    let _ = writeln!(text, "\n{}", style.paint(ink, &outcome));
    text
}

/// The tables of figures.
pub fn figures(figures: &Figures) -> String {
    let tables = [fault_rows(figures), probe_rows(figures), workload_rows(figures)];
    tables.iter().filter(|rows| rows.len() > 1).map(|rows| columns(rows)).collect::<Vec<_>>().join("\n")
}

fn head(titles: &[&str]) -> Vec<Vec<String>> {
    vec![titles.iter().map(|title| (*title).to_owned()).collect()]
}

/// Figures of faults as rows, the first of them the head.
pub(super) fn fault_rows(figures: &Figures) -> Vec<Vec<String>> {
    let mut rows = head(&["FAULT", "AT", "DETECTED AFTER", "EVICTED AFTER", "REPLACED AFTER", "BACK AFTER"]);
    let after = |ms: Option<u64>| ms.map_or("-".to_owned(), length);
    for fault in &figures.faults {
        let name = if fault.step.is_empty() { &fault.text } else { &fault.step };
        rows.push(vec![
            name.clone(),
            clock(fault.at_ms),
            match fault.detected_after_ms {
                None if fault.machines.is_empty() => "-".to_owned(),
                None => "not noticed".to_owned(),
                Some(ms) => length(ms),
            },
            match (fault.evicted_after_ms, fault.evicted_pods) {
                (Some(ms), pods) if pods > 1 => format!("{} ({pods} pods)", length(ms)),
                (ms, _) => after(ms),
            },
            after(fault.replaced_after_ms),
            match (fault.fell, fault.back_after_ms) {
                (false, _) => "never fell".to_owned(),
                (true, None) => "not back".to_owned(),
                (true, Some(ms)) => length(ms),
            },
        ]);
    }
    rows
}

/// Figures of probes as rows, the first of them the head.
pub(super) fn probe_rows(figures: &Figures) -> Vec<Vec<String>> {
    let mut rows = head(&["PROBE", "SENT", "FAILED", "OUTAGES", "LONGEST OUTAGE", "SLOWEST ANSWER"]);
    for probe in &figures.probes {
        let longest = if probe.outages == 0 { "-".to_owned() } else { length(probe.longest_outage_ms) };
        let share = if probe.failed == 0 {
            "0".to_owned()
        } else {
            format!("{} ({:.2} %)", probe.failed, 100.0 * probe.failed as f64 / probe.sent as f64)
        };
        let slowest = format!("{} ms", probe.slowest_ms);
        rows.push(vec![probe.probe.clone(), probe.sent.to_string(), share, probe.outages.to_string(), longest, slowest]);
    }
    rows
}

/// Figures of workloads as rows, the first of them the head, those that suffered most first; at most 20.
pub(super) fn workload_rows(figures: &Figures) -> Vec<Vec<String>> {
    let mut rows = head(&["WORKLOAD", "REPLICAS", "LOWEST", "UNAVAILABLE", "DOWN", "RESTARTS", "SPREAD BEFORE", "SPREAD AFTER"]);
    let mut workloads: Vec<_> = figures.workloads.iter().collect();
    if workloads.len() > MOST {
        workloads.sort_by_key(|workload| std::cmp::Reverse((workload.down_ms, workload.unavailable_ms, workload.restarts)));
    }
    for workload in workloads.iter().take(MOST) {
        rows.push(vec![
            workload.workload.clone(),
            workload.desired.to_string(),
            workload.lowest.to_string(),
            length(workload.unavailable_ms),
            length(workload.down_ms),
            workload.restarts.to_string(),
            workload.spread_before.clone(),
            workload.spread_after.clone(),
        ]);
    }
    if workloads.len() > MOST {
        rows.push(vec![format!("(and {} more)", workloads.len() - MOST)]);
    }
    rows
}
