//! Access reviews: whether somebody may, and what the caller may.
//!
//! Facts: kubernetes pkg/registry/authorization.

use daruma_api::selector::Selector;
use daruma_api::status::{ApiError, FieldError};
use serde_json::{Value, json};

use crate::authorization::rbac::Rule;
use crate::authorization::{Decision, Question};
use crate::call::Call;
use crate::document::{list, text, texts};
use crate::user::User;

/// SubjectAccessReview and LocalSubjectAccessReview: about the user that the review names.
///
/// # Errors
/// 422 for a review that names nobody; 400 for a namespace that does not fit.
pub async fn review_other(call: &Call, review_object: &Value) -> Result<Value, ApiError> {
    let spec = review_object.get("spec").unwrap_or(&Value::Null);
    let groups: Vec<String> = texts(spec, "/groups").into_iter().map(Into::into).collect();
    let name = text(spec, "/user");
    if name.is_empty() && groups.is_empty() {
        let wrong = FieldError::invalid("spec.user", "\"\"", "at least one of user or group must be specified");
        return Err(ApiError::invalid("authorization.k8s.io", "SubjectAccessReview", "", &[wrong]));
    }
    if call.info.resource == "localsubjectaccessreviews" && text(spec, "/resourceAttributes/namespace") != call.info.namespace {
        return Err(ApiError::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            call.info.namespace
        )));
    }
    let mut user = User::new(name, groups);
    text(spec, "/uid").clone_into(&mut user.uid);
    review(call, review_object, user).await
}

/// Whether `user` may do what the review asks.
///
/// # Errors
/// 422 for a review that asks nothing or two things.
pub async fn review(call: &Call, review: &Value, user: User) -> Result<Value, ApiError> {
    let spec = review.get("spec").unwrap_or(&Value::Null);
    let resource = spec.get("resourceAttributes").filter(|one| !one.is_null());
    let path = spec.get("nonResourceAttributes").filter(|one| !one.is_null());
    let fields = resource.and_then(fields);
    let question = match (resource, path) {
        (Some(asked), None) => Question {
            verb: text(asked, "/verb"),
            is_resource: true,
            group: text(asked, "/group"),
            version: text(asked, "/version"),
            resource: text(asked, "/resource"),
            subresource: text(asked, "/subresource"),
            namespace: text(asked, "/namespace"),
            name: text(asked, "/name"),
            path: "",
            fields: fields.as_ref(),
        },
        (None, Some(asked)) => Question { verb: text(asked, "/verb"), path: text(asked, "/path"), ..Question::default() },
        (both, _) => {
            let why = if both.is_some() {
                "cannot be specified in combination with resourceAttributes"
            } else {
                "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            };
            let wrong = FieldError::invalid("spec.nonResourceAttributes", "null", why);
            return Err(ApiError::invalid("authorization.k8s.io", "SubjectAccessReview", "", &[wrong]));
        }
    };
    Ok(match call.server.authorization.decide(&call.server, &user, &question).await? {
        Decision::Allow(grant) => with_reason(true, grant.reason()),
        Decision::NoOpinion(reason) => with_reason(false, reason),
    })
}

fn with_reason(allowed: bool, reason: String) -> Value {
    let mut status = json!({"allowed": allowed});
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

fn fields(asked: &Value) -> Option<Selector> {
    let raw = text(asked, "/fieldSelector/rawSelector");
    if !raw.is_empty() {
        return Selector::parse_fields(raw).ok();
    }
    let terms: Vec<String> = list(asked, "/fieldSelector/requirements")
        .iter()
        .filter(|one| text(one, "/operator") == "In")
        .filter_map(|one| Some(format!("{}={}", text(one, "/key"), texts(one, "/values").first()?)))
        .collect();
    if terms.is_empty() { None } else { Selector::parse_fields(&terms.join(",")).ok() }
}

/// SelfSubjectRulesReview: what the caller may in a namespace.
///
/// # Errors
/// 400 without a namespace.
pub async fn rules(call: &Call, review: &Value) -> Result<Value, ApiError> {
    let namespace = text(review, "/spec/namespace");
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let mut rules = call.server.authorization.rules(&call.server, &call.user, namespace).await?;
    if call.user.is_in(crate::user::MASTERS) {
        let all = || vec!["*".to_owned()];
        rules.push(Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() });
        rules.push(Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
    }
    let (paths, resources): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let resources: Vec<Value> = resources
        .iter()
        .map(|rule| {
            let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                shown["resourceNames"] = rule.resource_names.clone().into();
            }
            shown
        })
        .collect();
    let paths: Vec<Value> =
        paths.iter().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls})).collect();
    Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
}
