//! Which part of the server answers a request.

use daruma_api::status::ApiError;
use daruma_client::Body;
use http::{Method, Response, StatusCode};

use crate::call::Call;
use crate::discovery::openapi;
use crate::http::answer;
use crate::registry::{Resource, Stage};
use crate::{aggregation, discovery, health, reviews, subresources, verbs};

/// What every answer about Endpoints says (kubernetes api core/v1/lifecycle.go, apiserver pkg/endpoints/deprecation).
const ENDPOINTS_DEPRECATED: &str = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

/// Answers an authorized request.
///
/// # Errors
/// What the part that answers refuses; 404 where none does.
pub async fn route(call: &Call, content: Body) -> Result<Response<Body>, ApiError> {
    if call.info.is_resource {
        return resource(call, content).await;
    }
    if call.method != Method::GET && call.method != Method::HEAD {
        return Err(answer::method_not_allowed());
    }
    let path = call.info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => Ok(discovery::paths(call)),
        ["healthz" | "livez" | "readyz", check @ ..] => health::answer(call, parts[0], check).await,
        ["version"] => Ok(discovery::version()),
        ["metrics"] => Ok(metrics(call)),
        ["api"] => discovery::api(call),
        ["api", version] => discovery::resources(call, "", version),
        ["apis"] => discovery::groups(call),
        ["apis", group] => discovery::group(call, group),
        ["apis", group, version] => match call.server.aggregation.remote(group, version) {
            Some(remote) => aggregation::proxy(call, &remote, content).await,
            None => discovery::resources(call, group, version),
        },
        ["openapi", "v2"] => Ok(openapi::v2(call)),
        ["openapi", "v3"] => openapi::index(call),
        ["openapi", "v3", "apis", group, version] if call.server.aggregation.remote(group, version).is_some() => {
            let remote = call.server.aggregation.remote(group, version).ok_or_else(answer::no_such_path)?;
            aggregation::proxy(call, &remote, content).await
        }
        ["openapi", "v3", rest @ ..] => openapi::document(call, &rest.join("/")),
        _ => Err(answer::no_such_path()),
    }
}

async fn resource(call: &Call, content: Body) -> Result<Response<Body>, ApiError> {
    let info = &call.info;
    if let Some(remote) = call.server.aggregation.remote(&info.group, &info.version) {
        return aggregation::proxy(call, &remote, content).await;
    }
    let Some(resource) = call.server.registry.get(&info.group, &info.version, &info.resource) else {
        return reviews::serve(call, content).await;
    };
    if (info.group.as_str(), info.resource.as_str()) == ("", "endpoints") {
        call.warnings.add(ENDPOINTS_DEPRECATED);
    }
    if let Some(kind) = resource.custom_kind() {
        check_custom(call, &resource)?;
        if let Some(warning) = kind.deprecation_warning() {
            call.warnings.add(warning);
        }
    }
    if info.subresource.is_empty() {
        return verbs::serve(call, &resource, content).await;
    }
    subresources::serve(call, &resource, content).await
}

/// What a custom resource refuses before any verb looks at the request
/// (kubernetes apiextensions-apiserver pkg/apiserver/customresource_handler.go).
fn check_custom(call: &Call, resource: &Resource) -> Result<(), ApiError> {
    let info = &call.info;
    let in_namespace = !info.namespace.is_empty();
    let across = matches!(info.verb.as_str(), "list" | "watch");
    if in_namespace != resource.is_namespaced() && (in_namespace || !across) {
        return Err(answer::no_such_path());
    }
    if resource.stage == Stage::Terminating && info.verb == "create" && info.subresource.is_empty() {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(ApiError::new(405, "MethodNotAllowed", why));
    }
    if resource.needs_webhook {
        let names = resource.kind.names();
        return Err(ApiError::internal(format!(
            "conversion webhook for {}, Kind={} failed: this server does not call conversion webhooks, and objects may be \
             stored in another version",
            resource.api_version(),
            names.kind
        )));
    }
    Ok(())
}

fn metrics(call: &Call) -> Response<Body> {
    let registry = &call.server.registry;
    let custom = registry.custom();
    let objects = registry
        .all_built_in()
        .chain(custom.iter())
        .filter_map(|resource| {
            let group = resource.group();
            let name = if group.is_empty() { resource.plural().to_owned() } else { format!("{}.{group}", resource.plural()) };
            Some((name, resource.cache.object_count()?))
        })
        .collect();
    let text = call.server.metrics.render(&objects);
    answer::with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", daruma_client::full_body(text))
}
