//! Where the API server meets the rules of kinds: fields, metadata, patches.

use daruma_api::patch::{self, PatchError};
use daruma_api::status::{ApiError, FieldError};
use daruma_kinds::{metadata, patch as kinds_patch};
use serde_json::Value;

use crate::call::Call;
use crate::registry::Resource;

/// Checks an object's fields against its schema as `fieldValidation` asks: refuses, warns or stays silent.
/// Unknown fields are dropped.
///
/// # Errors
/// 400 for a wrong type, and for unknown fields with `Strict`.
pub fn check_fields(call: &Call, resource: &Resource, object: &mut Value) -> Result<(), ApiError> {
    let names = resource.kind.names();
    let unknown = resource.kind.check_fields(object, true)?;
    match call.field_validation() {
        "Strict" if !unknown.is_empty() => Err(ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
            names.kind,
            names.version,
            names.kind,
            unknown.join(", ")
        ))),
        "Warn" => {
            for one in unknown {
                call.warnings.add(one);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Everything that is wrong with the metadata of a new object.
pub fn validate_metadata_create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    metadata::validate_create(&*resource.kind, object)
}

/// Everything that is wrong with a change of metadata.
pub fn validate_metadata_update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    metadata::validate_update(&*resource.kind, new, old)
}

/// RFC 6902.
///
/// # Errors
/// 422 for a patch that does not fit, 400 for one that is none.
pub fn json_patch(old: &Value, patch: &Value) -> Result<Value, ApiError> {
    let mut new = old.clone();
    patch::json_patch(&mut new, patch).map_err(|error| match error {
        PatchError::Malformed(why) => ApiError::bad_request(why),
        // The real server keeps the reason for itself (`NewGenericServerResponse` of something expected has no causes).
        PatchError::DoesNotApply(why) => {
            tracing::debug!(%why, "a JSON patch does not apply");
            let mut refused = ApiError::new(422, "Invalid", "the server rejected our request due to an error in our request");
            refused.details = Some(Box::default());
            refused
        }
    })?;
    Ok(new)
}

/// RFC 7386.
///
/// # Errors
/// 400 for a patch that is no object.
pub fn merge_patch(old: &Value, patch: &Value) -> Result<Value, ApiError> {
    if !patch.is_object() {
        return Err(ApiError::bad_request(
            "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
        ));
    }
    let mut new = old.clone();
    patch::merge_patch(&mut new, patch);
    Ok(new)
}

/// Kubernetes' strategic merge.
///
/// # Errors
/// 400 for a malformed patch.
pub fn strategic_merge(resource: &Resource, old: &Value, patch: Value) -> Result<Value, ApiError> {
    let names = resource.kind.names();
    kinds_patch::strategic_merge(names.group, names.version, names.kind, old, patch).map_err(ApiError::bad_request)
}
