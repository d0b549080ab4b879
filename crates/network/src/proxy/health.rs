//! Health and metrics of the proxy: `/healthz`, `/livez` (port 10256), `/metrics`, `/proxyMode` (port 10249).
//!
//! Source: kubernetes pkg/proxy/healthcheck/proxy_health.go, pkg/proxy/metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_client::Body;
use daruma_world::World;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use serde::Serialize;

use crate::http_answer::{json, not_found, text};

/// A change that has not been applied for so long makes the proxy unhealthy (twice the sync period of 30 s).
const LIMIT: Duration = Duration::from_secs(60);
/// Upper bounds of the duration histogram in seconds: 1 ms, doubling.
const BUCKETS: usize = 15;

impl State {
    fn is_healthy(&self, now: Duration) -> bool {
        self.waiting_since.is_none_or(|since| now.saturating_sub(since) < LIMIT)
    }
}

/// What the endpoints tell. Clones share it.
#[derive(Clone)]
pub struct Health {
    world: World,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last_updated: Option<jiff::Timestamp>,
    /// The oldest change that is not applied yet (monotonic).
    waiting_since: Option<Duration>,
    /// The node is known, and not about to go.
    node_eligible: bool,
    changes: u64,
    failures: u64,
    syncs: u64,
    seconds_sum: f64,
    buckets: [u64; BUCKETS],
}

impl Health {
    /// Nothing applied yet.
    pub fn new(world: &World) -> Self {
        Self { world: world.clone(), state: Arc::default() }
    }

    /// Answers a request.
    pub fn handle<B>(&self, request: Request<B>) -> BoxFuture<'static, Response<Body>> {
        let response = match request.uri().path() {
            "/healthz" => self.healthz(true),
            "/livez" => self.healthz(false),
            "/metrics" => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics()),
            "/proxyMode" => text(StatusCode::OK, "text/plain; charset=utf-8", "nftables"),
            _ => not_found(),
        };
        Box::pin(std::future::ready(response))
    }

    pub(super) fn change_seen(&self) {
        let now = self.world.monotonic();
        self.with(|state| {
            state.changes += 1;
            state.waiting_since.get_or_insert(now);
        });
    }

    pub(super) fn node_eligible(&self, eligible: bool) {
        self.with(|state| state.node_eligible = eligible);
    }

    pub(super) fn applied(&self, now: jiff::Timestamp, took: Duration) {
        self.with(|state| {
            state.last_updated = Some(now);
            state.waiting_since = None;
            state.syncs += 1;
            state.seconds_sum += took.as_secs_f64();
            for (bucket, bound) in state.buckets.iter_mut().zip(bounds()) {
                *bucket += u64::from(took.as_secs_f64() <= bound);
            }
        });
    }

    /// It begins to look at changes; until the first one is late it counts as healthy.
    pub(super) fn started(&self, now: jiff::Timestamp) {
        self.with(|state| *state.last_updated.get_or_insert(now));
    }

    pub(super) fn checked(&self, now: jiff::Timestamp) {
        self.with(|state| state.last_updated = Some(now));
    }

    pub(super) fn failed(&self) {
        let now = self.world.monotonic();
        self.with(|state| {
            state.failures += 1;
            state.waiting_since.get_or_insert(now);
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().expect("no panic while held"))
    }

    /// Every change was applied in time.
    pub(super) fn is_healthy(&self) -> bool {
        let now = self.world.monotonic();
        self.with(|state| state.is_healthy(now))
    }

    fn healthz(&self, look_at_node: bool) -> Response<Body> {
        let (now, monotonic) = (self.world.now(), self.world.monotonic());
        let (updated, healthy, eligible) =
            self.with(|state| (state.last_updated, state.is_healthy(monotonic), state.node_eligible));
        let node_eligible = look_at_node.then_some(eligible);
        let good = healthy && node_eligible != Some(false);
        let status = updated.map(|updated| ("IPv4", Proxier { last_updated: print_time(updated), healthy }));
        let told = Told {
            // As the real one: a healthy proxy reports "now" as its last update.
            last_updated: if good { print_time(now) } else { updated.map_or_else(|| NEVER.to_owned(), print_time) },
            current_time: print_time(now),
            node_eligible,
            healthy,
            status: status.into_iter().collect(),
        };
        let body = serde_json::to_string(&told).expect("texts and numbers");
        json(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
    }

    fn metrics(&self) -> String {
        self.with(|state| {
            let mut out = String::new();
            let name = "kubeproxy_sync_proxy_rules_duration_seconds";
            let _ = writeln!(out, "# HELP {name} SyncProxyRules latency in seconds\n# TYPE {name} histogram");
            for (bucket, bound) in state.buckets.iter().zip(bounds()) {
                let _ = writeln!(out, "{name}_bucket{{ip_family=\"IPv4\",le=\"{bound}\"}} {bucket}");
            }
            let _ = writeln!(out, "{name}_bucket{{ip_family=\"IPv4\",le=\"+Inf\"}} {}", state.syncs);
            let _ = writeln!(out, "{name}_sum{{ip_family=\"IPv4\"}} {}", state.seconds_sum);
            let _ = writeln!(out, "{name}_count{{ip_family=\"IPv4\"}} {}", state.syncs);
            let mut single = |name: &str, kind: &str, help: &str, value: f64| {
                let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{ip_family=\"IPv4\"}} {value}");
            };
            let last = state.last_updated.map_or(0.0, |at| at.as_millisecond() as f64 / 1000.0);
            single(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "gauge",
                "The last time proxy rules were successfully synced",
                last,
            );
            single(
                "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
                "counter",
                "Number of failed rule changes",
                state.failures as f64,
            );
            single(
                "kubeproxy_sync_proxy_rules_changes_total",
                "counter",
                "Service and endpoint changes seen",
                state.changes as f64,
            );
            out
        })
    }
}

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The answer (proxy_health.go ProxyHealth).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<&'static str, Proxier>,
}

/// Health of the rules of one family of addresses.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Proxier {
    last_updated: String,
    healthy: bool,
}

/// As Go writes a time into JSON.
fn print_time(at: jiff::Timestamp) -> String {
    at.to_string()
}

fn bounds() -> impl Iterator<Item = f64> {
    (0..BUCKETS).map(|power| 0.001 * f64::from(1u32 << power))
}
