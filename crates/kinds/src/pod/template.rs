//! Pod templates of workloads.
//!
//! Source: kubernetes `ValidatePodTemplateSpec`, `ValidatePodTemplateSpecForReplicaSet`.

use serde_json::Value;

use crate::access::{at, ensure, get, has, list, text};
use crate::field::{Errors, Path};
use crate::{metadata, selectors};

/// Fills in the defaults of `owner.template`.
pub(crate) fn default(owner: &mut Value) {
    super::defaults::spec(ensure(ensure(owner, "template"), "spec"));
}

/// Checks a template on its own, then that workload pods restart always; `owner` names the workload in messages.
pub(crate) fn validate(errors: &mut Errors, path: &Path<'_>, template: &Value, owner: &str) {
    let (metadata_path, spec_path, spec) = (path.child("metadata"), path.child("spec"), get(template, "spec"));
    let _ = metadata_path;
    selectors::validate_labels(errors, &path.child("labels"), at(template, &["metadata", "labels"]));
    metadata::validate_annotations(errors, &path.child("annotations"), at(template, &["metadata", "annotations"]));
    super::spec_validation::spec(errors, &spec_path, spec, false);
    if !list(spec, "ephemeralContainers").is_empty() {
        errors.forbidden(&spec_path.child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
    let restart = text(spec, "restartPolicy");
    if restart != "Always" {
        errors.not_supported(&spec_path.child("restartPolicy"), restart, &["Always"]);
    }
    if has(spec, "activeDeadlineSeconds") {
        errors.forbidden(&spec_path.child("activeDeadlineSeconds"), format!("activeDeadlineSeconds in {owner} is not Supported"));
    }
}
