//! Names of finalizers that are better not chosen.
//!
//! Source: apiextensions-apiserver pkg/registry/customresource/{strategy,validator}.go (`validateKubeFinalizerName`).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::access::{get, list};
use crate::names;

/// Those that belong to Kubernetes.
const STANDARD: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];

/// A warning for each new finalizer whose name others may use as well.
pub(super) fn warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let of = |object: &Value| -> BTreeSet<String> {
        let names = list(get(object, "metadata"), "finalizers").iter().filter_map(Value::as_str);
        names.map(str::to_owned).collect()
    };
    let before = old.map(of).unwrap_or_default();
    let mut warnings = Vec::new();
    for name in of(object).difference(&before) {
        warnings.extend(names::qualified_name(name).into_iter().map(|wrong| format!("metadata.finalizers: {name:?}: {wrong}")));
        if name.contains('/') || STANDARD.contains(&name.as_str()) {
            continue;
        }
        let including = if name.contains('.') { " including a path (/)" } else { "" };
        warnings.push(format!(
            "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{including} to avoid accidental conflicts with other finalizer writers"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_that_others_may_use() {
        let object = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
        let new = object(json!(["orphan", "mine", "example.com", "example.com/mine"]));
        let tail = "to avoid accidental conflicts with other finalizer writers";
        assert_eq!(
            warnings(&new, None),
            [
                format!(
                    "metadata.finalizers: \"example.com\": prefer a domain-qualified finalizer name including a path (/) {tail}"
                ),
                format!("metadata.finalizers: \"mine\": prefer a domain-qualified finalizer name {tail}"),
            ]
        );
        assert!(warnings(&new, Some(&object(json!(["mine", "example.com"])))).is_empty());
    }
}
