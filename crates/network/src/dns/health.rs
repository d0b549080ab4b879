//! Health of the DNS server: `/health` (port 8080), `/ready` (port 8181), `/metrics` (port 9153).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use daruma_client::Body;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};

use super::directory::Watched;
use crate::http_answer::{not_found, text};

const PLAIN: &str = "text/plain; charset=utf-8";

/// What the endpoints tell. Clones share it.
#[derive(Clone, Default)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    watched: Option<Watched>,
    answers: BTreeMap<&'static str, u64>,
}

impl Health {
    /// Not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers a request.
    pub fn handle<B>(&self, request: Request<B>) -> BoxFuture<'static, Response<Body>> {
        let response = match request.uri().path() {
            "/health" => text(StatusCode::OK, PLAIN, "OK"),
            "/ready" if self.is_ready() => text(StatusCode::OK, PLAIN, "OK"),
            "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "kubernetes"),
            "/metrics" => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics()),
            _ => not_found(),
        };
        Box::pin(std::future::ready(response))
    }

    /// Whether everything that answers are made from has arrived.
    pub fn is_ready(&self) -> bool {
        self.with(|state| state.watched.as_ref().is_some_and(Watched::has_synced))
    }

    pub(super) fn watch(&self, watched: Watched) {
        self.with(|state| state.watched = Some(watched));
    }

    pub(super) fn answered(&self, code: &'static str) {
        self.with(|state| *state.answers.entry(code).or_default() += 1);
    }

    fn metrics(&self) -> String {
        self.with(|state| {
            let name = "coredns_dns_responses_total";
            let mut out = format!("# HELP {name} Counter of response status codes.\n# TYPE {name} counter\n");
            for (code, count) in &state.answers {
                let _ = writeln!(out, "{name}{{rcode=\"{code}\"}} {count}");
            }
            out
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().expect("no panic while held"))
    }
}
