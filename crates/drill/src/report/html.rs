//! `report.html`: one file, nothing loaded from elsewhere; all of its text is there without its script.

use std::fmt::Write as _;

use super::junit::escape;
use super::terminal::{clock, fault_rows, probe_rows, workload_rows};
use super::thin::{Line, timeline};
use super::{Report, chart};
use crate::WorldKind;
use crate::history::History;
use crate::record::EntryKind;
use crate::span::length;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Colours and what they mean.
const LEGEND: &[(&str, &str, &str)] = &[
    ("broken", "what was done to the machine", "Nodes"),
    ("n-ready", "Ready", ""),
    ("n-taint", "Ready, but tainted, under pressure or cordoned", ""),
    ("n-lost", "NotReady", ""),
    ("n-evict", "NotReady and tainted NoExecute", ""),
    ("p-ok", "Running and ready", "Pods"),
    ("p-unready", "Running, but its condition Ready is False", ""),
    ("p-wait", "Pending", ""),
    ("p-make", "ContainerCreating", ""),
    ("p-end", "Terminating", ""),
    ("p-bad", "Error, CrashLoopBackOff, Evicted, …", ""),
    ("answered", "answered", "Requests"),
    ("failed", "failed", ""),
];

/// The report as one HTML file.
pub fn html(report: &Report) -> String {
    let record = &report.record;
    let history = History::new(record);
    let (picture, mut left_out) = chart::draw(&history);
    let lines = timeline(&record.timeline);
    let shown = lines.iter().filter(|line| matches!(line, Line::Entry(..))).count();
    if shown < record.timeline.len() {
        left_out.push(format!(
            "The timeline shows {shown} of {} lines: of those that are alike the first few. report.json has them all.",
            record.timeline.len()
        ));
    }
    let title = escape(&record.drill);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · drill report</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#picture\">To the picture</a>\n"
    );
    header(&mut page, report);
    page.push_str("<main>\n");
    checks(&mut page, report);
    let _ = writeln!(
        page,
        "<section id=\"picture\">\n<h2>What happened</h2>\n<p class=\"hint\">Time runs from left to right. Numbered flags are what the drill \
         did: <span class=\"key fault\">broke</span> or <span class=\"key undo\">mended</span>. Above each node's state, a hatched bar shows what was \
         really done to the machine: the gap between the two is what the cluster did not know yet.</p>"
    );
    legend(&mut page);
    let _ = writeln!(
        page,
        "<figure><div class=\"scroll\">\n{picture}</div><div id=\"tip\" role=\"status\" aria-live=\"polite\" hidden></div></figure>"
    );
    if !left_out.is_empty() {
        page.push_str("<ul class=\"left-out\">\n");
        for sentence in &left_out {
            let _ = writeln!(page, "<li>{}</li>", escape(sentence));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</section>\n");
    figures(&mut page, report);
    write_timeline(&mut page, &lines);
    settings(&mut page, report);
    let _ = write!(page, "</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    page
}

fn header(page: &mut String, report: &Report) {
    let record = &report.record;
    let class = if report.held { "held" } else { "broke" };
    let world = match (record.world, record.seed) {
        (WorldKind::Real, _) => "real machines".to_owned(),
        (WorldKind::Sim, Some(seed)) => format!("virtual machines, seed {seed}"),
        (WorldKind::Sim, None) => "virtual machines".to_owned(),
    };
    let _ = writeln!(
        page,
        "<header>\n<div class=\"title\"><h1>{}</h1><span class=\"badge {class}\">{}</span>\
         <button id=\"theme\" type=\"button\" hidden>Light or dark</button></div>\n<p>{}</p>\n\
         <p class=\"meta\">{world} · began {} · took {}</p>\n</header>",
        escape(&record.drill),
        escape(&report.outcome()),
        escape(&record.description),
        record.started,
        length(record.took_ms),
    );
}

fn checks(page: &mut String, report: &Report) {
    if report.verdicts.is_empty() {
        return;
    }
    page.push_str("<section id=\"checks\">\n<h2>Checks</h2>\n<ul class=\"checks\">\n");
    for verdict in &report.verdicts {
        let (class, mark, word) = if verdict.held { ("held", "✓", "held") } else { ("broke", "✗", "did not hold") };
        let _ = writeln!(
            page,
            "<li class=\"{class}\"><span class=\"verdict\" role=\"img\" aria-label=\"{word}\">{mark}</span><div><strong>{}</strong> \
             <code>{}</code><br><span class=\"measured\">{}</span></div></li>",
            escape(&verdict.demand),
            escape(&verdict.check),
            escape(&verdict.text),
        );
    }
    page.push_str("</ul>\n</section>\n");
}

fn legend(page: &mut String) {
    page.push_str("<div class=\"legend\">\n<ul>\n");
    for (index, (class, words, group)) in LEGEND.iter().enumerate() {
        if !group.is_empty() {
            let before = if index == 0 { "" } else { "</ul>\n<ul>\n" };
            let _ = writeln!(page, "{before}<li class=\"group\">{group}</li>");
        }
        let _ = writeln!(
            page,
            "<li><svg width=\"18\" height=\"12\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"18\" height=\"12\" rx=\"2\"/></svg>{words}</li>"
        );
    }
    page.push_str("</ul>\n</div>\n");
}

fn figures(page: &mut String, report: &Report) {
    page.push_str("<section id=\"figures\">\n<h2>Figures</h2>\n");
    let tables = [fault_rows(&report.figures), probe_rows(&report.figures), workload_rows(&report.figures)];
    for rows in tables.iter().filter(|rows| rows.len() > 1) {
        page.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
        for cell in &rows[0] {
            let _ = write!(page, "<th scope=\"col\">{}</th>", sentence_case(cell));
        }
        page.push_str("</tr></thead>\n<tbody>\n");
        for row in &rows[1..] {
            page.push_str("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let cell = escape(cell);
                let _ = if index == 0 { write!(page, "<th scope=\"row\">{cell}</th>") } else { write!(page, "<td>{cell}</td>") };
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n");
    }
    if !report.record.left_behind.is_empty() {
        page.push_str("<h3>Left behind</h3>\n<ul>\n");
        for thing in &report.record.left_behind {
            let _ = writeln!(page, "<li>{}</li>", escape(thing));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</section>\n");
}

/// `DETECTED AFTER` as `Detected after`.
fn sentence_case(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or(String::new(), |first| format!("{first}{}", letters.as_str().to_lowercase()))
}

const fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Fault => "fault",
        EntryKind::Undo => "undo",
        EntryKind::Step => "step",
        EntryKind::View => "view",
        EntryKind::Change => "change",
        EntryKind::Event => "event",
        EntryKind::Check => "check",
    }
}

fn write_timeline(page: &mut String, lines: &[Line<'_>]) {
    page.push_str("<section id=\"timeline\">\n<h2>Timeline</h2>\n<form id=\"filter\" hidden>\n");
    page.push_str("<label>Find <input type=\"search\" id=\"find\" placeholder=\"worker-1, Terminating, …\"></label>\n");
    let kinds = [
        EntryKind::Fault,
        EntryKind::Undo,
        EntryKind::Step,
        EntryKind::View,
        EntryKind::Change,
        EntryKind::Event,
        EntryKind::Check,
    ];
    for kind in kinds.map(kind_name) {
        let _ = writeln!(page, "<label><input type=\"checkbox\" name=\"kind\" value=\"{kind}\" checked> {kind}</label>");
    }
    page.push_str("<output id=\"count\"></output>\n</form>\n<div class=\"scroll\"><table class=\"lines\">\n<thead><tr>");
    for title in ["Time", "What", "Who", "Object", "Text"] {
        let _ = write!(page, "<th scope=\"col\">{title}</th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for line in lines {
        let (index, entry) = match line {
            Line::More { at_ms, text } => {
                let _ =
                    writeln!(page, "<tr class=\"more\"><td>{}</td><td colspan=\"4\">{}</td></tr>", clock(*at_ms), escape(text));
                continue;
            }
            Line::Entry(index, entry) => (index, entry),
        };
        let kind = kind_name(entry.kind);
        let reason = if entry.reason.is_empty() { String::new() } else { format!("<b>{}</b> ", escape(&entry.reason)) };
        let text = match entry.text.split_once('\n') {
            _ if entry.kind == EntryKind::View && !entry.about.is_empty() => {
                format!("<pre tabindex=\"0\">{}</pre>", escape(&entry.text))
            }
            Some((first, rest)) => format!("{}<pre tabindex=\"0\">{}</pre>", escape(first), escape(rest)),
            None => escape(&entry.text),
        };
        let _ = writeln!(
            page,
            "<tr id=\"l{index}\" class=\"{kind}\" data-kind=\"{kind}\"><td>{}</td><td>{kind}</td><td>{}</td><td>{}</td><td>{reason}{text}</td></tr>",
            clock(entry.at_ms),
            escape(&entry.who),
            escape(&entry.about),
        );
    }
    page.push_str("</tbody></table></div>\n</section>\n");
}

fn settings(page: &mut String, report: &Report) {
    if report.record.settings.is_empty() {
        return;
    }
    page.push_str("<section id=\"settings\">\n<h2>Settings</h2>\n<dl>\n");
    for (name, value) in &report.record.settings {
        let _ = writeln!(page, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    page.push_str("</dl>\n</section>\n");
}
