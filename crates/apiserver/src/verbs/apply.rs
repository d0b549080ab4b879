//! apply: PATCH with a configuration, which the server lays over the object or makes it from.
//!
//! Rules: kubernetes apiserver pkg/endpoints/handlers/patch.go (`applyPatcher`).

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::gvk::split_api_version;
use daruma_api::status::ApiError;
use daruma_client::Body;
use daruma_kinds::schema;
use daruma_store::KeyValue;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::create::painter_bytes;
use super::managed_fields::{Target, shown};
use super::options::Verb;
use super::patch::ATTEMPTS;
use super::update::fill_revision;
use super::write::{Part, Stored, Updated, Writer};
use crate::authorization::Question;
use crate::call::Call;
use crate::document::{self, text};
use crate::http::{answer, body};
use crate::registry::Resource;

/// Media type of configurations.
pub const MEDIA_TYPE: &str = "application/apply-patch+yaml";

/// Whether a request applies a configuration.
pub fn is_apply(call: &Call) -> bool {
    body::media_type(&call.headers) == MEDIA_TYPE
}

/// A configuration that is to be applied.
pub struct Configuration {
    /// The configuration.
    pub value: Value,
    /// What is said of members that it has twice.
    duplicates: Vec<String>,
}

impl Configuration {
    /// Reads options and body, which is YAML or JSON.
    ///
    /// # Errors
    /// 422 for wrong options, 400 for what does not parse.
    pub fn decode(call: &Call, content: &Bytes) -> Result<Self, ApiError> {
        call.check_options(Verb::Apply)?;
        let wrong = |why: &str| ApiError::bad_request(format!("error decoding YAML: {why}"));
        let (value, duplicates) = match schema::parse(content) {
            Ok(read) => read,
            Err(_) => {
                let value: Value = serde_yaml_ng::from_slice(content)
                    .map_err(|error| wrong(&format!("error converting YAML to JSON: yaml: {error}")))?;
                let read = schema::read(serde_yaml_ng::Deserializer::from_slice(content));
                (value, read.map(|(_, duplicates)| duplicates).unwrap_or_default())
            }
        };
        let value = match value {
            Value::Null => json!({}),
            Value::Object(_) => value,
            other => {
                let kind = match other {
                    Value::Array(_) => "array",
                    Value::String(_) => "string",
                    Value::Bool(_) => "bool",
                    _ => "number",
                };
                return Err(wrong(&format!(
                    "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
                )));
            }
        };
        // The real server names the line, too.
        let duplicates = duplicates
            .iter()
            .filter_map(|text| text.strip_prefix("duplicate field \"")?.strip_suffix('"')?.rsplit('.').next())
            .map(|name| format!("key {name:?} already set in map"))
            .collect();
        Ok(Self { value, duplicates })
    }

    /// Refuses or tells of members that appear twice, as `fieldValidation` asks. Comes after the apply itself.
    ///
    /// # Errors
    /// 400 with `Strict`.
    pub fn check_duplicates(&self, call: &Call) -> Result<(), ApiError> {
        if self.duplicates.is_empty() {
            return Ok(());
        }
        match call.field_validation() {
            "Strict" => {
                let why = format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {}", self.duplicates.join("\n  "));
                return Err(ApiError::bad_request(format!("error strict decoding YAML: {why}")));
            }
            "Warn" => self.duplicates.iter().for_each(|text| call.warnings.add(text.clone())),
            _ => {}
        }
        Ok(())
    }

    /// Refuses another kind than that of the target.
    ///
    /// # Errors
    /// 400.
    pub fn check_kind(&self, target: &Target<'_>) -> Result<(), ApiError> {
        let (group, version) = split_api_version(text(&self.value, "/apiVersion"));
        let given = [group, version, text(&self.value, "/kind")];
        if given == target.gvk {
            return Ok(());
        }
        Err(ApiError::bad_request(format!("invalid object type: {}", shown(given))))
    }
}

/// Applies a configuration to one part of an object; makes the object where there is none.
///
/// # Errors
/// 409 for fields of others, unless forced; what does not fit or is refused; 404 for a status without an object.
pub async fn apply(call: &Call, resource: &Arc<Resource>, content: Bytes, part: Part) -> Result<Response<Body>, ApiError> {
    let configuration = Configuration::decode(call, &content)?;
    let painter = call.painter(resource)?;
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let target = Target::of(resource, &call.info.subresource);
    let applier = Applier { call, resource, target, configuration: &configuration };
    // Ownership is told here: the writer has nothing to track.
    let writer = Writer { tracked: None, ..call.writer(call.dry_run(&[])?) };
    let shown = |status, stored: &Stored| answer::document(status, call.accept.format, painter_bytes(&painter, stored));
    let mut current = call.server.store.get(&resource.key(namespace, name)).await.map_err(answer::from_store)?;
    for _ in 0..ATTEMPTS {
        let Some(found) = current else {
            if part != Part::Main {
                return Err(ApiError::not_found(resource.group(), resource.plural(), name));
            }
            let new = applier.new_object()?;
            demand_create(call).await?;
            match writer.create(resource, namespace, new).await {
                Ok(stored) => return Ok(shown(StatusCode::CREATED, &stored)),
                Err(error) if error.is_already_exists() => {
                    current = call.server.store.get(&resource.key(namespace, name)).await.map_err(answer::from_store)?;
                    if current.is_none() {
                        return Err(error);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
        };
        let old = call.server.decode(resource, &found)?;
        let new = applier.changed_object(&old, &found)?;
        match writer.update(resource, &found, old, new, part).await? {
            Updated::Stored(stored) | Updated::Deleted(stored) => return Ok(shown(StatusCode::OK, &stored)),
            Updated::Conflict(newer) => current = newer,
        }
    }
    Err(ApiError::modified(resource.group(), resource.plural(), name))
}

struct Applier<'a> {
    call: &'a Call,
    resource: &'a Arc<Resource>,
    target: Target<'a>,
    configuration: &'a Configuration,
}

impl Applier<'_> {
    fn new_object(&self) -> Result<Value, ApiError> {
        let nothing = json!({"apiVersion": self.resource.api_version(), "kind": self.resource.kind_name()});
        let mut new = self.applied(&nothing)?;
        let uid = text(&new, "/metadata/uid");
        if !uid.is_empty() {
            let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(ApiError::conflict(self.resource.group(), self.resource.plural(), &self.call.info.name, &why));
        }
        self.settle_identity(&mut new)?;
        document::set_metadata(&mut new, "resourceVersion", None);
        Ok(new)
    }

    fn changed_object(&self, old: &Value, found: &KeyValue) -> Result<Value, ApiError> {
        let mut new = self.applied(old)?;
        self.settle_identity(&mut new)?;
        fill_revision(&mut new, found);
        if text(&new, "/metadata/resourceVersion") != found.mod_revision.to_string() {
            return Err(ApiError::modified(self.resource.group(), self.resource.plural(), &self.call.info.name));
        }
        Ok(new)
    }

    /// The configuration laid over an object, in the form in which objects are stored.
    fn applied(&self, live: &Value) -> Result<Value, ApiError> {
        let (call, configuration) = (self.call, self.configuration);
        configuration.check_kind(&self.target)?;
        let now = call.server.world.now();
        let mut new = self.target.apply(now, live, &configuration.value, &call.manager(), call.query.flag("force"))?;
        configuration.check_duplicates(call)?;
        self.resource.kind.check_fields(&mut new, true).map_err(|error| {
            let (namespace, name) =
                (text(&configuration.value, "/metadata/namespace"), text(&configuration.value, "/metadata/name"));
            let object = format!("{namespace}/{name}; {}", shown(self.target.gvk));
            ApiError::new(500, "", format!("failed to convert new object ({object}) to proper version: {error}"))
        })?;
        Ok(new)
    }

    /// Name and namespace must be those of the path.
    fn settle_identity(&self, new: &mut Value) -> Result<(), ApiError> {
        let info = &self.call.info;
        let namespace = if self.resource.is_namespaced() { info.namespace.as_str() } else { "" };
        let given = text(new, "/metadata/namespace");
        if !given.is_empty() && !namespace.is_empty() && given != namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        match text(new, "/metadata/name") {
            "" => {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({} based on URL) was undeterminable: name must be provided",
                    info.name
                )));
            }
            name if name != info.name => {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({name}) does not match the name on the URL ({})",
                    info.name
                )));
            }
            _ => {}
        }
        document::set_metadata(new, "namespace", (!namespace.is_empty()).then(|| namespace.into()));
        Ok(())
    }
}

/// Whoever makes an object by applying must be allowed to create it (`withAuthorization`).
async fn demand_create(call: &Call) -> Result<(), ApiError> {
    let question = Question { verb: "create", ..Question::of(&call.info) };
    call.server.authorization.demand(&call.server, &call.user, &question).await
}
