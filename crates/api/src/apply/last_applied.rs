//! How kubectl's client-side apply gives its fields to server-side apply: by the annotation in which it kept them.
//!
//! Source: apimachinery pkg/util/managedfields/internal/lastapplied{,manager,updater}.go.

use serde_json::{Map, Value};

use super::check::check;
use super::compare::compare;
use super::field_set::field_set;
use super::schema::Schema;
use super::set::Set;

/// The manager for whom the annotation counts.
pub(super) const KUBECTL: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Largest sum of the annotations' lengths in bytes (`TotalAnnotationSizeLimitB`).
const LARGEST: usize = 256 * 1024;

fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("annotations")?.as_object()
}

/// The configuration that was applied last, as text; `None` where there is none.
pub(super) fn text(object: &Value) -> Option<&str> {
    annotations(object)?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// Fields of the last applied configuration that nobody has changed since: to them kubectl may help itself.
pub(super) fn unchanged<S: Schema>(live: &Value, schema: S, api_version: &str) -> Option<Set> {
    let last: Value = serde_json::from_str(text(live)?).ok()?;
    if last.get("apiVersion").and_then(Value::as_str) != Some(api_version) {
        return None;
    }
    check(&last, schema).ok()?;
    let comparison = compare(&last, live, schema).ok()?;
    let changed = comparison.modified.union(&comparison.added).union(&comparison.removed);
    Some(field_set(&last, schema).difference(&changed))
}

/// Writes the annotation anew where the object has it, so that client-side apply finds what was applied.
pub(super) fn refresh(object: &mut Value, configuration: &Value) {
    if text(object).is_none() {
        return;
    }
    let mut applied = configuration.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    let text = format!("{}\n", go_json(&applied));
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    annotations.insert(ANNOTATION.into(), text.into());
    let length: usize = annotations.iter().map(|(name, value)| name.len() + value.as_str().unwrap_or_default().len()).sum();
    if length > LARGEST {
        annotations.remove(ANNOTATION);
    }
}

/// JSON as Go's encoder writes it: safe inside HTML.
fn go_json(value: &Value) -> String {
    let mut out = String::new();
    for character in value.to_string().chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            character => out.push(character),
        }
    }
    out
}
