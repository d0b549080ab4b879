//! serviceaccounts/token: makes a token, bound to a pod, secret or node where asked.
//!
//! Facts: kubernetes pkg/registry/core/serviceaccount/storage/token.go.

use bytes::Bytes;
use daruma_api::status::{ApiError, FieldError};
use daruma_client::{Body, names};
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::admission::service_account::EXPIRATION_SECONDS;
use crate::admission::{self, Attributes, Operation};
use crate::authentication::token::{Claims, Private, Reference};
use crate::call::Call;
use crate::document::{self, number, text, texts};
use crate::http::{answer, body};

const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
const DEFAULT_SECONDS: i64 = 3600;
/// How long tokens of pods are really good for, so that programs that read theirs only once go on
/// (`ExpirationExtensionSeconds`).
const EXTENDED_SECONDS: i64 = 24 * 365 * 60 * 60;

/// Makes a token.
///
/// # Errors
/// 404 for the account or what it is bound to, 409 where that is another one, 422 for a bad duration.
pub async fn create(call: &Call, content: Bytes) -> Result<Response<Body>, ApiError> {
    let mut request: Value = body::decode(&call.headers, &content)?;
    let (server, name, namespace) = (&call.server, &call.info.name, &call.info.namespace);
    let accounts = server.registry.built_in("", "v1", "serviceaccounts").ok_or_else(answer::no_such_path)?;
    let found = server.fetch(accounts, namespace, name).await?;
    let account = server.decode(accounts, &found)?;
    let seconds = number(&request, "/spec/expirationSeconds").unwrap_or(DEFAULT_SECONDS);
    check_seconds(name, seconds)?;
    let dry_run = call.dry_run(&[])?;
    let attributes = Attributes {
        operation: Operation::Create,
        resource: accounts.clone(),
        subresource: "token".into(),
        namespace: namespace.clone(),
        name: name.clone(),
        user: call.user.clone(),
        dry_run,
        object: request.clone(),
        old: None,
        warnings: Vec::new(),
    };
    admission::validate(server, &attributes).await?;
    let asked: Vec<String> = texts(&request, "/spec/audiences").into_iter().map(Into::into).collect();
    let audiences = if asked.is_empty() { server.config.audiences.clone() } else { asked };
    let mut private = Private {
        namespace: namespace.clone(),
        serviceaccount: Some(Reference { name: name.clone(), uid: text(&account, "/metadata/uid").into() }),
        ..Private::default()
    };
    bind(call, &request, &mut private).await?;
    let now = server.world.now();
    let shown_expiry = now + SignedDuration::from_secs(seconds);
    let ours = audiences.iter().any(|audience| server.config.audiences.contains(audience));
    let lives = if seconds == EXPIRATION_SECONDS && private.pod.is_some() && ours {
        private.warnafter = Some(shown_expiry.as_second());
        EXTENDED_SECONDS
    } else {
        seconds
    };
    let claims = Claims {
        aud: audiences.clone(),
        exp: now.as_second() + lives,
        iat: now.as_second(),
        nbf: now.as_second(),
        iss: String::new(),
        jti: names::uuid(&*server.world.random),
        sub: format!("system:serviceaccount:{namespace}:{name}"),
        kubernetes: private,
    };
    let token = server.authentication.tokens.sign(claims).map_err(ApiError::internal)?;
    fill(&mut request, &account, &audiences, seconds, now);
    request["status"] = json!({"token": token, "expirationTimestamp": document::seconds(shown_expiry)});
    Ok(answer::value(StatusCode::CREATED, call.accept.format, &request))
}

fn check_seconds(name: &str, seconds: i64) -> Result<(), ApiError> {
    let why = if seconds < MIN_SECONDS {
        "may not specify a duration less than 10 minutes"
    } else if seconds > MAX_SECONDS {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let wrong = FieldError::invalid("spec.expirationSeconds", seconds.to_string(), why);
    Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", name, &[wrong]))
}

fn fill(request: &mut Value, account: &Value, audiences: &[String], seconds: i64, now: Timestamp) {
    request["kind"] = "TokenRequest".into();
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    let metadata = document::metadata(request);
    metadata.insert("name".into(), text(account, "/metadata/name").into());
    metadata.insert("namespace".into(), text(account, "/metadata/namespace").into());
    metadata.insert("creationTimestamp".into(), document::seconds(now).into());
    let spec = document::child(request, "spec");
    spec.insert("audiences".into(), audiences.to_vec().into());
    spec.insert("expirationSeconds".into(), seconds.into());
    spec.entry("boundObjectRef").or_insert(Value::Null);
}

/// Looks up what the token is to be bound to.
async fn bind(call: &Call, request: &Value, private: &mut Private) -> Result<(), ApiError> {
    let Some(bound) = request.pointer("/spec/boundObjectRef").filter(|bound| !bound.is_null()) else { return Ok(()) };
    let (server, namespace) = (&call.server, call.info.namespace.as_str());
    let (kind, name, uid) = (text(bound, "/kind"), text(bound, "/name"), text(bound, "/uid"));
    let (plural, namespace) = match (text(bound, "/apiVersion"), kind) {
        ("v1", "Pod") => ("pods", namespace),
        ("v1", "Secret") => ("secrets", namespace),
        ("v1", "Node") => ("nodes", ""),
        (version, kind) => {
            let (group, version) = daruma_api::gvk::split_api_version(version);
            return Err(ApiError::bad_request(format!("cannot bind token to object of type {group}/{version}, Kind={kind}")));
        }
    };
    let resource = server.registry.built_in("", "v1", plural).ok_or_else(answer::no_such_path)?;
    let found = server.fetch(resource, namespace, name).await?;
    let object = server.decode(resource, &found)?;
    let stored = text(&object, "/metadata/uid");
    if !uid.is_empty() && uid != stored {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", plural, name, &why));
    }
    let reference = Some(Reference { name: name.into(), uid: stored.into() });
    match kind {
        "Pod" => {
            let runs_as = text(&object, "/spec/serviceAccountName");
            if runs_as != call.info.name {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.info.name
                )));
            }
            private.pod = reference;
            private.node = node_of(call, &object).await;
        }
        "Secret" => private.secret = reference,
        _ => private.node = reference,
    }
    Ok(())
}

async fn node_of(call: &Call, pod: &Value) -> Option<Reference> {
    let name = text(pod, "/spec/nodeName");
    if name.is_empty() {
        return None;
    }
    let nodes = call.server.registry.built_in("", "v1", "nodes")?;
    let uid = match call.server.fetch(nodes, "", name).await {
        Ok(found) => {
            let node = call.server.decode(nodes, &found).ok()?;
            text(&node, "/metadata/uid").to_owned()
        }
        Err(_) => String::new(),
    };
    Some(Reference { name: name.into(), uid })
}
