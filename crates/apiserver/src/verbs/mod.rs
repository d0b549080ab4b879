//! The verbs on main resources, and what writes of subresources share with them.

pub mod apply;
pub mod create;
pub mod delete;
pub mod delete_collection;
pub mod get;
pub mod list;
pub mod managed_fields;
pub mod options;
pub mod patch;
pub mod update;
pub mod watch;
pub mod write;

use std::sync::Arc;

use daruma_api::status::ApiError;
use daruma_client::Body;
use http::Response;

use crate::call::Call;
use crate::http::{answer, body};
use crate::registry::Resource;

/// Serves a verb on the main resource.
///
/// # Errors
/// What the verb refuses.
pub async fn serve(call: &Call, resource: &Arc<Resource>, content: Body) -> Result<Response<Body>, ApiError> {
    let verb = call.info.verb.as_str();
    if !resource.has_verb(verb) {
        return Err(answer::method_not_allowed());
    }
    if resource.is_namespaced() && call.info.namespace.is_empty() && (call.info.names_object || verb == "create") {
        return Err(answer::no_such_path());
    }
    match verb {
        "get" => get::get(call, resource).await,
        "list" => list::list(call, resource).await,
        "watch" => watch::watch(call, resource).await,
        "create" => create::create(call, resource, body::read(content).await?).await,
        "update" => update::update(call, resource, body::read(content).await?).await,
        "patch" => patch::patch(call, resource, body::read(content).await?).await,
        "delete" => delete::delete(call, resource, body::read(content).await?).await,
        "deletecollection" => delete_collection::delete_collection(call, resource, body::read(content).await?).await,
        _ => Err(answer::method_not_allowed()),
    }
}
