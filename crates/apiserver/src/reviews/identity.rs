//! SelfSubjectReview and TokenReview: who somebody is.

use daruma_api::status::ApiError;
use serde_json::{Value, json};

use super::shown;
use crate::call::Call;
use crate::document::{text, texts};

/// The caller.
pub fn self_subject(call: &Call) -> Value {
    json!({"userInfo": shown(&call.user)})
}

/// The user of a token.
///
/// # Errors
/// 400 for a review without a token.
pub async fn token(call: &Call, review: &Value) -> Result<Value, ApiError> {
    let token = text(review, "/spec/token");
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let asked: Vec<String> = texts(review, "/spec/audiences").into_iter().map(Into::into).collect();
    let audiences = if asked.is_empty() { call.server.config.audiences.clone() } else { asked };
    Ok(match call.server.authentication.tokens.check(&call.server, token, &audiences).await {
        Ok(accepted) => {
            json!({"authenticated": true, "user": shown(&accepted.user), "audiences": accepted.audiences})
        }
        Err(why) => json!({"authenticated": false, "user": {}, "error": format!("[invalid bearer token, {why}]")}),
    })
}
