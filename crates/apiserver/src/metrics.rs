//! What the server counts of itself, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Upper bounds of `apiserver_request_duration_seconds` (apiserver pkg/endpoints/metrics).
const BUCKETS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.25, 2.0, 5.0, 15.0, 60.0];

#[derive(Debug, Default, Clone)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum += other.sum;
    }
}

/// Requests of one sort.
#[derive(Debug, Default)]
struct Requests {
    count: u64,
    /// Times to the answer; of requests that are long-running by nature, none.
    durations: Histogram,
}

#[derive(Debug, Default)]
struct State {
    /// By verb, group, version, resource, subresource and code, a line each: one text is found without making any.
    requests: BTreeMap<String, Requests>,
    /// Such a text in the making.
    key: String,
    watches: BTreeMap<&'static str, i64>,
    reading: i64,
    mutating: i64,
    rejected: u64,
}

/// The counters. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Mutex<State>>);

/// Counts an open watch while it lives.
#[derive(Debug)]
pub struct OpenWatch {
    metrics: Metrics,
    resource: &'static str,
}

/// Counts a request in flight while it lives.
#[derive(Debug)]
pub struct InFlight {
    metrics: Metrics,
    mutating: bool,
}

/// One answered request.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// What was asked.
    pub info: &'a crate::http::RequestInfo,
    /// Whether the patch is the application of a configuration.
    pub is_apply: bool,
    /// HTTP status.
    pub code: u16,
    /// Time to the answer's head.
    pub duration: Duration,
}

impl Metrics {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }

    /// Counts an answered request.
    pub fn answered(&self, answered: Answered<'_>) {
        let info = answered.info;
        let seconds = answered.duration.as_secs_f64();
        let mut guard = self.state();
        let state = &mut *guard;
        state.key.clear();
        if answered.is_apply {
            state.key.push_str("APPLY");
        } else if info.is_resource {
            state.key.extend(info.verb.chars().map(|letter| letter.to_ascii_uppercase()));
        } else {
            state.key.push_str("GET");
        }
        for part in [&info.group, &info.version, &info.resource, &info.subresource] {
            state.key.push('\n');
            // A path can name anything.
            state.key.push_str(if part.contains('\n') { "" } else { part });
        }
        // Writing to a text does not fail.
        let _ = write!(state.key, "\n{}", answered.code);
        let requests = match state.requests.get_mut(&state.key) {
            Some(requests) => requests,
            None => state.requests.entry(state.key.clone()).or_default(),
        };
        requests.count += 1;
        if !info.is_long_running() {
            let durations = &mut requests.durations;
            for (bound, count) in BUCKETS.iter().zip(&mut durations.counts) {
                *count += u64::from(seconds <= *bound);
            }
            durations.count += 1;
            durations.sum += seconds;
        }
    }

    /// Admits a request if fewer than `limit` of its sort run.
    pub fn begin(&self, mutating: bool, limit: usize) -> Option<InFlight> {
        let mut state = self.state();
        let running = if mutating { &mut state.mutating } else { &mut state.reading };
        if *running >= limit as i64 {
            state.rejected += 1;
            return None;
        }
        *running += 1;
        drop(state);
        Some(InFlight { metrics: self.clone(), mutating })
    }

    /// Counts a watch until the guard goes.
    pub fn watch_opened(&self, resource: &'static str) -> OpenWatch {
        *self.state().watches.entry(resource).or_default() += 1;
        OpenWatch { metrics: self.clone(), resource }
    }

    /// The text, with how many objects of each resource are stored.
    pub fn render(&self, objects: &BTreeMap<String, usize>) -> String {
        let state = self.state();
        let mut out = String::new();
        let head = |out: &mut String, name: &str, help: &str, kind: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        head(&mut out, "apiserver_request_total", "Requests by verb, resource and code.", "counter");
        let mut durations: BTreeMap<(&str, String), Histogram> = BTreeMap::new();
        for (key, requests) in &state.requests {
            let mut parts = key.split('\n');
            let [verb, group, version, resource, subresource, code] = std::array::from_fn(|_| parts.next().unwrap_or_default());
            let _ = writeln!(
                out,
                "apiserver_request_total{{code=\"{code}\",group=\"{group}\",resource=\"{resource}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\"}} {}",
                requests.count
            );
            if requests.durations.count > 0 {
                let full = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
                durations.entry((verb, full)).or_default().add(&requests.durations);
            }
        }
        head(&mut out, "apiserver_request_duration_seconds", "Time to the answer, long-running requests excepted.", "histogram");
        for ((verb, resource), histogram) in &durations {
            let labels = format!("resource=\"{resource}\",verb=\"{verb}\"");
            for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
                let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count);
            let _ = writeln!(out, "apiserver_request_duration_seconds_sum{{{labels}}} {}", histogram.sum);
            let _ = writeln!(out, "apiserver_request_duration_seconds_count{{{labels}}} {}", histogram.count);
        }
        head(&mut out, "apiserver_current_inflight_requests", "Requests being served.", "gauge");
        let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"mutating\"}} {}", state.mutating);
        let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"readOnly\"}} {}", state.reading);
        head(&mut out, "apiserver_rejected_requests_total", "Requests refused for their number.", "counter");
        let _ = writeln!(out, "apiserver_rejected_requests_total {}", state.rejected);
        head(&mut out, "apiserver_longrunning_requests", "Open watches.", "gauge");
        for (resource, count) in &state.watches {
            let _ = writeln!(out, "apiserver_longrunning_requests{{resource=\"{resource}\",verb=\"WATCH\"}} {count}");
        }
        head(&mut out, "apiserver_storage_objects", "Stored objects of loaded resources.", "gauge");
        for (resource, count) in objects {
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}");
        }
        out
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        if let Some(count) = self.metrics.state().watches.get_mut(self.resource) {
            *count -= 1;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.metrics.state();
        let running = if self.mutating { &mut state.mutating } else { &mut state.reading };
        *running -= 1;
    }
}
