//! Resources that are only asked, never stored: reviews of access, tokens and identity.

mod access;
mod identity;

use daruma_api::status::ApiError;
use daruma_client::Body;
use http::{Response, StatusCode};
use serde_json::Value;

use crate::call::Call;
use crate::http::{answer, body};
use crate::subresources::binding;
use crate::user::User;

/// Answers a `create` on one of `daruma_kinds::VIRTUAL`.
///
/// # Errors
/// 404 for what is none of them, 405 for another verb, 400 for what does not decode.
pub async fn serve(call: &Call, content: Body) -> Result<Response<Body>, ApiError> {
    let info = &call.info;
    let known = daruma_kinds::VIRTUAL
        .iter()
        .any(|one| one.group == info.group && one.version == info.version && one.plural == info.resource);
    if !known || !info.subresource.is_empty() {
        return Err(answer::no_such_path());
    }
    if info.verb != "create" {
        return Err(answer::method_not_allowed());
    }
    let content = body::read(content).await?;
    if info.resource == "bindings" {
        return binding::create(call, None, content).await;
    }
    let mut review: Value = body::decode(&call.headers, &content)?;
    if !review.is_object() {
        return Err(ApiError::bad_request("a review must be an object"));
    }
    let status = match info.resource.as_str() {
        "selfsubjectreviews" => identity::self_subject(call),
        "tokenreviews" => identity::token(call, &review).await?,
        "selfsubjectrulesreviews" => access::rules(call, &review).await?,
        "selfsubjectaccessreviews" => access::review(call, &review, call.user.as_ref().clone()).await?,
        _ => access::review_other(call, &review).await?,
    };
    review["status"] = status;
    let names = daruma_kinds::VIRTUAL.iter().find(|one| one.group == info.group && one.plural == info.resource);
    if let Some(names) = names {
        review["kind"] = names.kind.into();
        review["apiVersion"] = daruma_api::gvk::api_version(names.group, names.version).into();
    }
    crate::document::metadata(&mut review).entry("creationTimestamp").or_insert(Value::Null);
    Ok(answer::value(StatusCode::CREATED, call.accept.format, &review))
}

/// A user as reviews show one.
fn shown(user: &User) -> Value {
    let mut shown = serde_json::Map::new();
    shown.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        shown.insert("uid".into(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        shown.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        shown.insert("extra".into(), serde_json::json!(user.extra));
    }
    Value::Object(shown)
}
