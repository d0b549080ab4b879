//! Subresources: one file each, named in [`serve`]. Which ones a kind has, the kind says.

pub mod binding;
pub mod disruption_budget;
pub mod eviction;
pub mod finalize;
pub mod forward;
pub mod pod_streams;
pub mod proxy;
pub mod scale;
pub mod token;

use std::sync::Arc;

use daruma_api::status::ApiError;
use daruma_client::Body;
use http::Response;

use crate::call::Call;
use crate::http::{answer, body};
use crate::registry::Resource;
use crate::verbs::write::Part;
use crate::verbs::{get, patch, update};

/// Serves a verb on a subresource.
///
/// # Errors
/// 404 where the kind has no such subresource, 405 where it has no such verb, and what it refuses itself.
pub async fn serve(call: &Call, resource: &Arc<Resource>, content: Body) -> Result<Response<Body>, ApiError> {
    let name = call.info.subresource.as_str();
    let Some(subresource) = resource.kind.subresources().iter().find(|one| one.name == name) else {
        return Err(answer::no_such_path());
    };
    let verb = call.info.verb.as_str();
    if !subresource.verbs.contains(&verb) {
        return Err(answer::method_not_allowed());
    }
    match (name, verb) {
        ("status", "get") => get::get(call, resource).await,
        ("status", "update") => update::update_part(call, resource, body::read(content).await?, Part::Status).await,
        ("status", "patch") => patch::patch_part(call, resource, body::read(content).await?, Part::Status).await,
        ("scale", _) => scale::serve(call, resource, body::read(content).await?).await,
        ("binding", "create") => binding::create(call, Some(&call.info.name), body::read(content).await?).await,
        ("eviction", "create") => eviction::create(call, body::read(content).await?).await,
        ("token", "create") => token::create(call, body::read(content).await?).await,
        ("finalize", "update") => finalize::update(call, resource, body::read(content).await?).await,
        ("log", "get") => pod_streams::log(call).await,
        ("exec" | "attach" | "portforward", _) => pod_streams::upgrade(call, content).await,
        ("proxy", _) => proxy::serve(call, content).await,
        _ => Err(ApiError::new(
            405,
            "MethodNotAllowed",
            format!("the subresource {}/{name} is not supported by this server", resource.plural()),
        )),
    }
}
