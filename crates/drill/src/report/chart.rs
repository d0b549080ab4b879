//! The picture of a run as one SVG: availability, requests, nodes and pods over one time axis. Pure.
//!
//! It needs no script to be seen; the page's script adds what the pointer and the keys are told.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::junit::escape;
use super::lanes::{Group, Lane, Lanes, Segment, pod_class};
use super::terminal::clock;
use crate::history::{DELETED, History, mends};
use crate::record::{AtMs, EntryKind, NodeState, PodState};
use crate::span::length;

const WIDTH: f64 = 1240.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 20.0;
/// Columns into which grouped rows and requests are counted.
const COLUMNS: usize = 350;
/// Workloads and probes with a band of their own.
const MOST_BANDS: usize = 3;

/// Draws everything. Gives the SVG and what was left out, in sentences.
pub(super) fn draw(history: &History<'_>) -> (String, Vec<String>) {
    let lanes = Lanes::of(history);
    let mut chart = Chart { history, end: history.end().max(1), y: 0.0, body: String::new(), left_out: lanes.left_out.clone() };
    let flags = chart.flags();
    let top = chart.y;
    chart.workloads();
    chart.probes();
    for group in &lanes.groups {
        chart.group(group);
    }
    for lane in &lanes.lanes {
        chart.lane(lane);
    }
    chart.axis(top);
    let bottom = chart.y;
    let mut svg = format!(
        "<svg id=\"chart\" viewBox=\"0 0 {WIDTH} {bottom:.0}\" role=\"group\" tabindex=\"0\" aria-label=\"What happened over time. \
         Arrow keys go from one thing to the next.\">\n<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" class=\"hatch-a\"/><rect width=\"3\" height=\"6\" class=\"hatch-b\"/>\
         </pattern></defs>\n"
    );
    svg.push_str(&chart.body);
    for (x, class) in flags {
        let _ = writeln!(
            svg,
            "<line class=\"mark {class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.0}\" y2=\"{:.0}\"/>",
            bottom - 24.0
        );
    }
    svg.push_str("</svg>\n");
    (svg, chart.left_out)
}

struct Chart<'a, 'r> {
    history: &'a History<'r>,
    end: AtMs,
    y: f64,
    body: String,
    left_out: Vec<String>,
}

impl Chart<'_, '_> {
    fn x(&self, at_ms: AtMs) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (at_ms.min(self.end) as f64 / self.end as f64)
    }

    /// Column of a moment, and the moment at which a column begins.
    fn column(&self, at_ms: AtMs) -> usize {
        ((u128::from(at_ms.min(self.end)) * COLUMNS as u128 / u128::from(self.end)) as usize).min(COLUMNS - 1)
    }

    fn column_at(&self, column: usize) -> AtMs {
        (u128::from(self.end) * column as u128 / COLUMNS as u128) as AtMs
    }

    fn label(&mut self, y: f64, class: &str, text: &str) {
        const FITS: usize = 25;
        let count = text.chars().count();
        let short: String = if count > FITS { text.chars().take(FITS - 1).chain(['…']).collect() } else { text.to_owned() };
        let title = if count > FITS { format!("<title>{}</title>", escape(text)) } else { String::new() };
        let x = LEFT - 10.0;
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"end\">{}{title}</text>",
            escape(&short)
        );
    }

    /// Numbered flags of what the drill did; gives the x of each with its class.
    fn flags(&mut self) -> Vec<(f64, &'static str)> {
        const MOST: usize = 60;
        let acts: Vec<_> = self
            .history
            .record
            .timeline
            .iter()
            .enumerate()
            .filter(|(_, entry)| matches!(entry.kind, EntryKind::Fault | EntryKind::Undo))
            .collect();
        if acts.len() > MOST {
            let sentence = format!("{} of {} faults and undos have no flag above the picture.", acts.len() - MOST, acts.len());
            self.left_out.push(sentence);
        }
        let mut levels: Vec<f64> = Vec::new();
        let mut marks = Vec::new();
        for (number, (index, entry)) in acts.into_iter().take(MOST).enumerate() {
            let x = self.x(entry.at_ms);
            let level = levels.iter().position(|last| x - last > 22.0).unwrap_or(levels.len());
            if level == levels.len() {
                levels.push(x);
            } else {
                levels[level] = x;
            }
            let y = 14.0 + 22.0 * level as f64;
            let class = if mends(entry) { "undo" } else { "fault" };
            let tip = format!("{} {} {}", clock(entry.at_ms), entry.about, entry.text);
            let _ = writeln!(
                self.body,
                "<a class=\"flag {class}\" href=\"#l{index}\"><circle cx=\"{x:.1}\" cy=\"{y:.0}\" r=\"9\"/>\
                 <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text><title>{}</title></a>",
                y + 4.0,
                number + 1,
                escape(&tip),
            );
            marks.push((x, class));
        }
        self.y = 8.0 + 22.0 * levels.len().max(1) as f64;
        marks
    }

    /// A band a workload, those that suffered most; the others together.
    fn workloads(&mut self) {
        let end = self.history.end();
        let mut by_suffering: Vec<(u64, &str)> = self
            .history
            .applications()
            .map(|workload| (self.history.below_desired(workload, 0, end).iter().map(|(from, to)| to - from).sum(), workload))
            .collect();
        by_suffering.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        let rest = by_suffering.split_off(by_suffering.len().min(MOST_BANDS));
        by_suffering.sort_by_key(|(_, workload)| *workload);
        for (_, workload) in by_suffering {
            let spans = self.history.replicas(workload, 0, end);
            let steps = spans.iter().map(|span| (span.from_ms, span.desired, span.available)).collect::<Vec<_>>();
            let (sort, name) = workload.rsplit_once('/').unwrap_or(("", workload));
            self.replicas(name, sort.strip_prefix("default/").unwrap_or(sort), &steps);
        }
        if !rest.is_empty() {
            let mut deltas: BTreeMap<AtMs, (i64, i64)> = BTreeMap::new();
            for (_, workload) in &rest {
                let (mut desired, mut available) = (0, 0);
                for span in self.history.replicas(workload, 0, end) {
                    let delta = deltas.entry(span.from_ms).or_default();
                    delta.0 += i64::from(span.desired) - desired;
                    delta.1 += i64::from(span.available) - available;
                    (desired, available) = (span.desired.into(), span.available.into());
                }
            }
            let (mut desired, mut available) = (0i64, 0i64);
            let steps: Vec<_> = deltas
                .into_iter()
                .map(|(at, delta)| {
                    desired += delta.0;
                    available += delta.1;
                    (at, desired.max(0) as u32, available.max(0) as u32)
                })
                .collect();
            self.replicas(&format!("{} other workloads", rest.len()), "all together", &steps);
        }
    }

    /// Steps of (from, desired, available).
    fn replicas(&mut self, title: &str, sort: &str, steps: &[(AtMs, u32, u32)]) {
        const HEIGHT: f64 = 76.0;
        let Some(&(start, ..)) = steps.first() else { return };
        let most = steps.iter().map(|(_, desired, available)| *desired.max(available)).max().unwrap_or(0).max(1);
        let (top, base) = (self.y + 12.0, self.y + 12.0 + HEIGHT);
        let up = |number: u32| base - HEIGHT * f64::from(number) / f64::from(most);
        let thin = self.thinned(steps);
        let (mut have, mut want) = (format!("M{:.1} {base:.1}", self.x(start)), String::new());
        for (index, (at, desired, available)) in thin.iter().enumerate() {
            let (from, to) = (self.x(*at), thin.get(index + 1).map_or(self.x(self.end), |next| self.x(next.0)));
            let _ = write!(have, "L{from:.1} {:.1}H{to:.1}", up(*available));
            let _ = write!(want, "{}{from:.1} {:.1}H{to:.1}", if index == 0 { "M" } else { "L" }, up(*desired));
        }
        let end = self.x(self.end);
        let _ = write!(have, "L{end:.1} {base:.1}Z");
        let missing = format!("{want}L{end:.1} {base:.1}L{:.1} {base:.1}Z", self.x(start));
        let _ = writeln!(self.body, "<g class=\"lane band\" aria-label=\"{}\">", escape(title));
        self.label(top + 12.0, "name", title);
        self.label(top + 27.0, "sub", sort);
        self.label(top + 41.0, "sub", &format!("available, 0 to {most}"));
        let _ = writeln!(
            self.body,
            "<path class=\"missing\" d=\"{missing}\"/><path class=\"have\" d=\"{have}\"/><path class=\"want\" d=\"{want}\"/>"
        );
        for (index, (at, desired, available)) in thin.iter().enumerate() {
            let to = thin.get(index + 1).map_or(self.end, |next| next.0);
            let (from_x, width) = (self.x(*at), (self.x(to) - self.x(*at)).max(0.5));
            let tip = format!("{title}: {available} of {desired} available\n{}", between(*at, to));
            let _ = writeln!(
                self.body,
                "<rect class=\"hit\" x=\"{from_x:.1}\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"{HEIGHT:.0}\"><title>{}</title></rect>",
                escape(&tip)
            );
        }
        self.body.push_str("</g>\n");
        self.y = base + 6.0;
    }

    /// Steps that fall into one column become one: its lowest.
    fn thinned(&self, steps: &[(AtMs, u32, u32)]) -> Vec<(AtMs, u32, u32)> {
        if steps.len() <= COLUMNS {
            return steps.to_vec();
        }
        let mut thin: Vec<(AtMs, u32, u32)> = Vec::new();
        for step in steps {
            match thin.last_mut() {
                Some(last) if self.column(last.0) == self.column(step.0) => {
                    *last = (last.0, step.1, last.2.min(step.2));
                }
                _ => thin.push(*step),
            }
        }
        thin
    }

    /// A band a probe: the share of failed requests by column, in red.
    fn probes(&mut self) {
        const HEIGHT: f64 = 30.0;
        const MOST_GAP: usize = 8;
        let mut names: Vec<&str> = self.history.probes().collect();
        if names.len() > MOST_BANDS * 2 {
            self.left_out.push(format!("Of {} probes the first {} are drawn.", names.len(), MOST_BANDS * 2));
            names.truncate(MOST_BANDS * 2);
        }
        for probe in names {
            let mut columns = vec![(0u32, 0u32, ""); COLUMNS];
            for request in self.history.requests(probe, 0, AtMs::MAX) {
                let column = &mut columns[self.column(request.at_ms)];
                match &request.error {
                    None => column.0 += 1,
                    Some(error) => (column.1, column.2) = (column.1 + 1, error),
                }
            }
            let (top, base) = (self.y + 8.0, self.y + 8.0 + HEIGHT);
            let _ = writeln!(self.body, "<g class=\"lane band\" aria-label=\"requests of {}\">", escape(probe));
            self.label(top + 14.0, "name", probe);
            self.label(top + 28.0, "sub", "requests");
            let used: Vec<usize> = (0..COLUMNS).filter(|column| columns[*column].0 + columns[*column].1 > 0).collect();
            let (mut answered, mut bars) = (String::new(), String::new());
            for (place, index) in used.iter().enumerate() {
                // A probe that asks rarely leaves columns empty: what it met holds until it asks again.
                let next = used.get(place + 1).copied().unwrap_or(index + 1);
                let until = if next - index <= MOST_GAP { next } else { index + 1 };
                let (from, to) = (self.column_at(*index), self.column_at(until));
                // A little more than its share, or what lies behind shines through between two columns.
                let (x, wide) = (self.x(from), (self.x(to) - self.x(from) + 0.6).min(WIDTH - RIGHT - self.x(from)));
                let (fine, failed, error) = columns[*index];
                let high = HEIGHT * f64::from(failed) / f64::from(fine + failed);
                if fine > 0 {
                    let _ = write!(answered, "M{x:.1} {base:.0}h{wide:.1}v-{:.1}h-{wide:.1}z", HEIGHT - high);
                }
                if failed > 0 {
                    let tip = format!("{probe}: {failed} of {} requests failed\n{error}\n{}", fine + failed, between(from, to));
                    let _ = writeln!(
                        bars,
                        "<rect class=\"failed\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                        high.max(3.0),
                        escape(&tip)
                    );
                }
            }
            let _ = writeln!(self.body, "<path class=\"answered\" d=\"{answered}\"/>{bars}</g>");
            self.y = base + 4.0;
        }
    }

    /// Nodes counted by what they are, and below their pods.
    fn group(&mut self, group: &Group) {
        let node_class = |state: &NodeState| match state.ready.as_str() {
            DELETED => None,
            "True" => Some(0),
            _ if state.taints.iter().any(|taint| taint.ends_with(":NoExecute")) => Some(2),
            _ => Some(1),
        };
        let of_nodes = self.history.record.nodes.iter().filter(|state| group.nodes.contains(&state.node));
        let nodes = self.counted(of_nodes.map(|state| (state.node.as_str(), state.at_ms, node_class(state))));
        let pod_class = |state: &PodState| match pod_class(&state.status, state.available) {
            _ if state.status == DELETED => None,
            "p-ok" => Some(0),
            "p-unready" => Some(1),
            "p-end" => Some(2),
            "p-wait" | "p-make" => Some(3),
            "p-done" => None,
            _ => Some(4),
        };
        let of_pods = self.history.record.pods.iter().filter(|state| group.nodes.contains(&state.node));
        let pods = self.counted(of_pods.map(|state| (state.uid.as_str(), state.at_ms, pod_class(state))));
        let title = format!("{}: {} nodes", group.title, group.nodes.len());
        self.stacked(
            &title,
            "nodes",
            &nodes,
            &[("n-ready", "Ready"), ("n-lost", "NotReady"), ("n-evict", "NotReady, NoExecute")],
        );
        let classes = [
            ("p-ok", "available"),
            ("p-unready", "Running, not ready"),
            ("p-end", "Terminating"),
            ("p-make", "being made"),
            ("p-bad", "in trouble"),
        ];
        self.stacked("", "pods", &pods, &classes);
    }

    /// How many things were of each class at the end of each column.
    fn counted<'s>(&self, states: impl Iterator<Item = (&'s str, AtMs, Option<usize>)>) -> Vec<[u32; 5]> {
        let mut of: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        let mut deltas = vec![[0i64; 5]; COLUMNS];
        for (name, at, class) in states {
            let column = self.column(at);
            let before = of.insert(name, class).flatten();
            if let Some(before) = before {
                deltas[column][before] -= 1;
            }
            if let Some(class) = class {
                deltas[column][class] += 1;
            }
        }
        let mut now = [0i64; 5];
        deltas
            .into_iter()
            .map(|delta| {
                now.iter_mut().zip(delta).for_each(|(now, delta)| *now += delta);
                now.map(|count| count.max(0) as u32)
            })
            .collect()
    }

    fn stacked(&mut self, title: &str, noun: &str, columns: &[[u32; 5]], classes: &[(&'static str, &str)]) {
        const HEIGHT: f64 = 40.0;
        let most = f64::from(columns.iter().map(|counts| counts.iter().sum::<u32>()).max().unwrap_or(0).max(1));
        let (top, base) = (self.y + 8.0, self.y + 8.0 + HEIGHT);
        let _ = writeln!(self.body, "<g class=\"lane band\" aria-label=\"{} {noun}\">", escape(title));
        self.label(top + 12.0, "name", title);
        self.label(top + 27.0, "sub", noun);
        // Stretches without a change are one rectangle a class.
        let mut from = 0;
        while from < columns.len() {
            let to = (from + 1..columns.len()).find(|column| columns[*column] != columns[from]).unwrap_or(columns.len());
            let (from_ms, to_ms) = (self.column_at(from), self.column_at(to));
            let x = self.x(from_ms);
            let width = (self.x(to_ms) - x + 0.6).min(WIDTH - RIGHT - x);
            let mut y = base;
            let told: Vec<_> = classes
                .iter()
                .enumerate()
                .filter(|(index, _)| columns[from][*index] > 0)
                .map(|(index, (_, words))| format!("{} {words}", columns[from][index]))
                .collect();
            let tip = escape(&format!("{noun}: {}\n{}", told.join(", "), between(from_ms, to_ms)));
            for (index, (class, _)) in classes.iter().enumerate().filter(|(index, _)| columns[from][*index] > 0) {
                // What there is one of among thousands must still be seen.
                let high = (HEIGHT * f64::from(columns[from][index]) / most).max(1.0);
                y -= high;
                let _ = writeln!(
                    self.body,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{high:.1}\"><title>{tip}</title></rect>"
                );
            }
            from = to;
        }
        self.body.push_str("</g>\n");
        self.y = base + 4.0;
    }

    fn lane(&mut self, lane: &Lane) {
        const ROW: f64 = 13.0;
        let top = self.y + 10.0;
        let _ = writeln!(self.body, "<g class=\"lane node\" data-node=\"{0}\" aria-label=\"{0}\">", escape(&lane.node));
        self.label(top + 14.0, "name", &lane.node);
        if !lane.zone.is_empty() {
            self.label(top + 28.0, "sub", &format!("zone {}", lane.zone));
        }
        for segment in &lane.broken {
            self.segment(segment, top, 4.0, false);
        }
        let mut y = top + 5.0;
        if !lane.states.is_empty() {
            for segment in &lane.states {
                self.segment(segment, y, 14.0, true);
            }
            y += 17.0;
        }
        for row in &lane.rows {
            for segment in row {
                self.segment(segment, y, ROW - 2.0, true);
            }
            y += ROW;
        }
        self.body.push_str("</g>\n");
        let zone = if lane.zone.is_empty() { 0.0 } else { 34.0 };
        self.y = y.max(top + zone) + 2.0;
    }

    fn segment(&mut self, segment: &Segment, y: f64, height: f64, labelled: bool) {
        let (x, width) = (self.x(segment.from_ms), (self.x(segment.to_ms) - self.x(segment.from_ms)).max(0.8));
        let tip = format!("{}\n{}", segment.tip, between(segment.from_ms, segment.to_ms));
        let _ = writeln!(
            self.body,
            "<rect class=\"{}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.0}\" rx=\"1.5\"><title>{}</title></rect>",
            segment.class,
            escape(&tip)
        );
        // Six units a letter at this size.
        if labelled && width > 6.0 * segment.label.chars().count() as f64 + 8.0 {
            let _ = writeln!(
                self.body,
                "<text class=\"in {}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                segment.class,
                x + 4.0,
                y + height / 2.0 + 3.2,
                escape(&segment.label)
            );
        }
    }

    fn axis(&mut self, top: f64) {
        const STEPS_S: &[u64] = &[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
        let step = STEPS_S.iter().map(|seconds| seconds * 1000).find(|step| self.end / step <= 12).unwrap_or(86_400_000 * 7);
        let base = self.y + 8.0;
        let mut axis = String::from("<g class=\"axis\">\n");
        let mut at = 0;
        while at <= self.end {
            let x = self.x(at);
            let _ = writeln!(
                axis,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.0}\" y2=\"{base:.0}\"/><text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                base + 14.0,
                clock(at).trim_end_matches(".0")
            );
            at += step;
        }
        axis.push_str("</g>\n");
        // Below everything else, so that the lines lie behind.
        self.body.insert_str(0, &axis);
        self.y = base + 22.0;
    }
}

fn between(from_ms: AtMs, to_ms: AtMs) -> String {
    format!("{} to {} ({})", clock(from_ms), clock(to_ms), length(to_ms.saturating_sub(from_ms)))
}
