//! Probes and lifecycle handlers.
//!
//! Source: kubernetes `validateProbe`, `validateHandler`, `validateLifecycle`.

use serde_json::Value;

use crate::access::{get, has, integer, list, number, text};
use crate::field::{Errors, Path};
use crate::names;

/// A port by number or by name.
pub(crate) fn port(errors: &mut Errors, path: &Path<'_>, port: &Value) {
    if let Some(name) = port.as_str() {
        errors.all_invalid(path, name, names::port_name(name));
        return;
    }
    let number = port.as_i64().unwrap_or_default();
    if let Some(wrong) = names::port_number(number) {
        errors.invalid(path, number, wrong);
    }
}

fn handler(errors: &mut Errors, path: &Path<'_>, handler: &Value, grace: Option<i64>) {
    let mut found = false;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = get(handler, kind);
        if action.is_null() {
            continue;
        }
        let path = path.child(kind);
        if std::mem::replace(&mut found, true) {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match kind {
            "exec" if list(action, "command").is_empty() => errors.required(&path.child("command"), ""),
            "httpGet" => http_get(errors, &path, action),
            "tcpSocket" | "grpc" => port(errors, &path.child("port"), get(action, "port")),
            "sleep" => {
                let seconds = number(action, "seconds");
                if let Some(grace) = grace
                    && !(0..=grace).contains(&seconds)
                {
                    let text = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.invalid(&path, seconds, text);
                }
            }
            _ => {}
        }
    }
    if !found {
        errors.required(path, "must specify a handler type");
    }
}

fn http_get(errors: &mut Errors, path: &Path<'_>, action: &Value) {
    if text(action, "path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    port(errors, &path.child("port"), get(action, "port"));
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in list(action, "httpHeaders") {
        let name = text(header, "name");
        if let Some(wrong) = names::http_header(name) {
            errors.invalid(&path.child("httpHeaders"), name, wrong);
        }
    }
}

/// All probes of a container.
pub(super) fn probes(errors: &mut Errors, path: &Path<'_>, container: &Value, grace: Option<i64>) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = get(container, key);
        if probe.is_null() {
            continue;
        }
        let path = path.child(key);
        handler(errors, &path, probe, grace);
        for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
            errors.nonnegative(&path.child(key), number(probe, key));
        }
        let own_grace = integer(probe, "terminationGracePeriodSeconds");
        let grace_path = path.child("terminationGracePeriodSeconds");
        if let Some(seconds) = own_grace.filter(|seconds| *seconds <= 0) {
            errors.invalid(&grace_path, seconds, "must be greater than 0");
        }
        if key == "readinessProbe" {
            if let Some(seconds) = own_grace {
                errors.invalid(&grace_path, seconds, "must not be set for readinessProbes");
            }
        } else if number(probe, "successThreshold") != 1 {
            errors.invalid(&path.child("successThreshold"), number(probe, "successThreshold"), "must be 1");
        }
    }
}

/// Handlers that run after the start and before the stop.
pub(super) fn lifecycle(errors: &mut Errors, path: &Path<'_>, lifecycle: &Value, grace: Option<i64>) {
    for key in ["postStart", "preStop"] {
        if has(lifecycle, key) {
            handler(errors, &path.child(key), get(lifecycle, key), grace);
        }
    }
}
