//! deletecollection: every selected object, one by one.

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::status::ApiError;
use daruma_client::Body;
use http::{Response, StatusCode};
use serde_json::json;

use super::delete::Options;
use super::list::selected_now;
use crate::call::Call;
use crate::http::answer;
use crate::registry::Resource;

/// Deletes what the selectors select and answers with the list of it.
///
/// # Errors
/// The first refusal other than an object that is gone already.
pub async fn delete_collection(call: &Call, resource: &Arc<Resource>, content: Bytes) -> Result<Response<Body>, ApiError> {
    let options = Options::decode(call, &content)?;
    let writer = call.writer(options.dry_run(call)?);
    let painter = call.painter(resource)?;
    let items = selected_now(call, resource).await?;
    for item in &items {
        match writer.delete(resource, item.namespace(), item.name(), &options).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let mut out = Vec::new();
    painter.list_head(&json!({"resourceVersion": call.server.feed.seen().to_string()}), &mut out);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        painter.list_item(item, &mut out);
    }
    painter.list_tail(&mut out);
    Ok(answer::document(StatusCode::OK, call.accept.format, Bytes::from(out)))
}
