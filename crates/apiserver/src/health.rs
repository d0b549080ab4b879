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
    let wanted = check.join("/");
    let mut checks = vec![("ping".to_owned(), true), ("log".to_owned(), true)];
    checks.push(("etcd".into(), call.server.store.revision().await.is_ok()));
    if endpoint == "readyz" {
        checks.push(("informer-sync".into(), call.server.feed.is_following()));
    }
    for (name, done) in call.server.boot.hooks() {
        checks.push((format!("poststarthook/{name}"), done));
    }
    if endpoint == "readyz" {
        checks.push(("shutdown".into(), true));
    }
    if !wanted.is_empty() {
        let Some((_, good)) = checks.iter().find(|(name, _)| *name == wanted) else {
            return Err(answer::no_such_path());
        };
        let (status, text) = if *good {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal server error: not finished")
        };
        return Ok(answer::text(status, text));
    }
    let excluded: Vec<&str> = call.query.all("exclude").collect();
    let mut lines = String::new();
    let mut good = true;
    for (name, passed) in &checks {
        let (sign, tail) = if excluded.contains(&name.as_str()) {
            ('+', "excluded: ok")
        } else if *passed {
            ('+', "ok")
        } else {
            good = false;
            ('-', "failed: reason withheld")
        };
        let _ = writeln!(lines, "[{sign}]{name} {tail}");
    }
    if !good {
        return Ok(answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n")));
    }
    let text = if call.query.get("verbose").is_some() { format!("{lines}{endpoint} check passed\n") } else { "ok".to_owned() };
    Ok(answer::text(StatusCode::OK, text))
}
