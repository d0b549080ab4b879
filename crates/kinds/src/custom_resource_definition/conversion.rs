//! How objects are brought from one version to another.
//!
//! Source: apiextensions-apiserver pkg/apis/apiextensions/validation/validation.go (`validateCustomResourceConversion`),
//! apiserver pkg/util/webhook/validation.go.

use serde_json::Value;

use crate::access::{at, get, has, list, number, text};
use crate::field::{Errors, Path, Shown};
use crate::names;

const ACCEPTED: [&str; 2] = ["v1", "v1beta1"];
const FORM: &str = "; desired format: https://host[/path]";

/// Checks `spec.conversion`.
pub(super) fn validate(errors: &mut Errors, path: &Path<'_>, conversion: &Value) {
    if conversion.is_null() {
        return;
    }
    let strategy = text(conversion, "strategy");
    errors.one_of(&path.child("strategy"), strategy, &["None", "Webhook"]);
    let webhook = get(conversion, "webhook");
    let client = get(webhook, "clientConfig");
    let (client_path, versions_path) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        if !client.is_null() {
            errors.forbidden(&client_path, "should not be set when strategy is not set to Webhook");
        }
        if !list(webhook, "conversionReviewVersions").is_empty() {
            errors.forbidden(&versions_path, "should not be set when strategy is not set to Webhook");
        }
        return;
    }
    if client.is_null() {
        errors.required(&client_path, "required when strategy is set to Webhook");
    } else if has(client, "url") == has(client, "service") {
        errors.required(&client_path, "exactly one of url or service is required");
    } else if has(client, "url") {
        validate_url(errors, &client_path.child("url"), text(client, "url"));
    } else {
        validate_service(errors, &client_path.child("service"), get(client, "service"));
    }
    validate_review_versions(errors, &versions_path, get(webhook, "conversionReviewVersions"));
}

/// Checks the certificate authorities of an established definition. Those that were broken before may stay so.
pub(super) fn validate_authorities(errors: &mut Errors, new: &Value, old: &Value) {
    let bundle = |spec: &Value| at(spec, &["conversion", "webhook", "clientConfig", "caBundle"]).clone();
    let (new, old) = (bundle(new), bundle(old));
    let is_broken = |bundle: &Value| {
        let decoded = bundle.as_str().and_then(|text| {
            let engine = base64::engine::general_purpose::STANDARD;
            base64::Engine::decode(&engine, text).ok()
        });
        decoded.is_none_or(|bytes| !String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE-----"))
    };
    let is_set = |bundle: &Value| bundle.as_str().is_some_and(|text| !text.is_empty());
    if is_set(&new) && is_broken(&new) && !(is_set(&old) && is_broken(&old)) {
        errors.invalid(
            &Path::Root("spec.conversion.webhookClientConfig.caBundle"),
            Shown::raw(new.to_string()),
            "unable to load root certificates: unable to parse bytes as PEM block",
        );
    }
}

fn validate_review_versions(errors: &mut Errors, path: &Path<'_>, versions: &Value) {
    let names: Vec<&str> = versions.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() {
        errors.required(path, "");
        return;
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            errors.invalid(&path.index(index), *name, "duplicate version");
        } else {
            errors.all_invalid(&path.index(index), name, names::dns_1035_label(name));
        }
    }
    if !names.iter().any(|name| ACCEPTED.contains(name)) {
        errors.invalid(path, versions, format!("must include at least one of {}", ACCEPTED.join(", ")));
    }
}

fn validate_url(errors: &mut Errors, path: &Path<'_>, url: &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be specified{FORM}"));
    }
    for (part, what) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            errors.invalid(path, part, what);
        }
    }
}

fn validate_service(errors: &mut Errors, path: &Path<'_>, service: &Value) {
    for key in ["name", "namespace"] {
        if text(service, key).is_empty() {
            errors.required(&path.child(key), &format!("service {key} is required"));
        }
    }
    let port = number(service, "port");
    if let Some(wrong) = names::port_number(port) {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {wrong}"));
    }
    let (url, path) = (text(service, "path"), path.child("path"));
    match url {
        "" | "/" => return,
        "//" => {
            errors.invalid(&path, url, "segment[0] may not be empty");
            return;
        }
        _ => {}
    }
    if !url.starts_with('/') {
        errors.invalid(&path, url, "must start with a '/'");
    }
    let inner = url.get(1..).unwrap_or_default();
    for (index, step) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&path, url, format!("segment[{index}] may not be empty"));
            continue;
        }
        for wrong in names::dns_subdomain(step) {
            errors.invalid(&path, url, format!("segment[{index}]: {wrong}"));
        }
    }
}
