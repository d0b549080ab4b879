//! get: one object.

use std::sync::Arc;

use daruma_api::status::ApiError;
use daruma_client::Body;
use http::{Response, StatusCode};

use super::list::parse_version;
use crate::call::Call;
use crate::http::answer;
use crate::registry::Resource;

/// Reads one object from the store: always the newest acknowledged state.
///
/// # Errors
/// 404; 504 for a revision that has not happened yet.
pub async fn get(call: &Call, resource: &Arc<Resource>) -> Result<Response<Body>, ApiError> {
    if let Some(wanted) = parse_version(&call.query)?.filter(|wanted| *wanted > 0) {
        let newest = call.server.store.revision().await.map_err(answer::from_store)?;
        if wanted > newest {
            return Err(answer::too_large_version(wanted, newest));
        }
    }
    let painter = call.painter(resource)?;
    let found = call.server.fetch(resource, &call.info.namespace, &call.info.name).await?;
    Ok(answer::document(StatusCode::OK, call.accept.format, painter.one(&found.value, found.mod_revision)))
}
