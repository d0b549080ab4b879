//! `/healthz`, `/livez`, `/readyz`: one check after another, by name.
//!
//! Form of the answers: kubernetes apiserver pkg/server/healthz.

use std::fmt::Write;

use daruma_api::status::ApiError;
use daruma_client::Body;
use http::{Response, StatusCode};

use crate::call::Call;
use crate::http::answer;

/// Answers one of the three, as a whole or for one check.
///
/// # Errors
/// 404 for an unknown check.
pub async fn answer(call: &Call, endpoint: &str, check: &[&str]) -> Result<Response<Body>, ApiError> {
    let server = &call.server;
    let is_ready = endpoint == "readyz";
    let checks = [("ping", true), ("log", true), ("etcd", server.store.revision().await.is_ok())]
        .into_iter()
        .chain(is_ready.then(|| ("informer-sync", server.feed.is_following())))
        .map(|(name, passed)| Check { group: "", name, passed })
        .chain(server.boot.hooks().map(|(name, passed)| Check { group: "poststarthook/", name, passed }))
        .chain(is_ready.then_some(Check { group: "", name: "shutdown", passed: true }));
    if !check.is_empty() {
        let wanted = check.join("/");
        let found = checks.into_iter().find(|check| check.is(&wanted)).ok_or_else(answer::no_such_path)?;
        let (status, text) = if found.passed {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal server error: not finished")
        };
        return Ok(answer::text(status, text));
    }
    let is_excluded = |check: &Check| call.query.all("exclude").any(|name| check.is(name));
    let is_good = checks.clone().all(|check| check.passed || is_excluded(&check));
    if is_good && call.query.get("verbose").is_none() {
        return Ok(answer::text(StatusCode::OK, "ok"));
    }
    let mut lines = String::new();
    for check in checks {
        let (sign, tail) = if is_excluded(&check) {
            ('+', "excluded: ok")
        } else if check.passed {
            ('+', "ok")
        } else {
            ('-', "failed: reason withheld")
        };
        let _ = writeln!(lines, "[{sign}]{}{} {tail}", check.group, check.name);
    }
    Ok(if is_good {
        answer::text(StatusCode::OK, format!("{lines}{endpoint} check passed\n"))
    } else {
        answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"))
    })
}

/// One check and its outcome.
#[derive(Clone, Copy)]
struct Check {
    /// What stands before its name.
    group: &'static str,
    name: &'static str,
    passed: bool,
}

impl Check {
    fn is(&self, name: &str) -> bool {
        name.strip_prefix(self.group) == Some(self.name)
    }
}
