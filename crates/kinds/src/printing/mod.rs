//! Facts that the cells of several kinds share.

pub(crate) mod duration;

use serde_json::Value;

use crate::access::{at, entries, list, text};
use crate::kind::Column;

/// The `Name` column.
pub(crate) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name of the object, unique within its namespace for its kind.",
    priority: 0,
};
/// The `Age` column.
pub(crate) const AGE: Column = column("Age", "string", "Time since the object was created.");
/// The wide `Containers` column.
pub(crate) const CONTAINERS: Column = wide("Containers", "string", "Names of the containers of the template.");
/// The wide `Images` column.
pub(crate) const IMAGES: Column = wide("Images", "string", "Images of the containers of the template.");
/// The wide `Selector` column.
pub(crate) const SELECTOR: Column = wide("Selector", "string", "Labels that select the pods.");

/// A column that is always shown.
pub(crate) const fn column(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { name, kind, format: "", description, priority: 0 }
}

/// A column of `-o wide`.
pub(crate) const fn wide(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { name, kind, format: "", description, priority: 1 }
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> Value {
    at(object, &["metadata", "name"]).as_str().unwrap_or_default().into()
}

/// The `Age` cell: time since creation.
pub fn age(object: &Value, now: jiff::Timestamp) -> Value {
    since(at(object, &["metadata", "creationTimestamp"]), now).into()
}

/// Time since `timestamp`; `<unknown>` where there is none.
pub(crate) fn since(timestamp: &Value, now: jiff::Timestamp) -> String {
    match timestamp.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(then) => duration::human(now.duration_since(then)),
        None => "<unknown>".to_owned(),
    }
}

/// Names and images of a template's containers, each joined with commas.
pub(crate) fn containers(template_spec: &Value) -> (Value, Value) {
    let join = |key: &str| -> Value {
        let texts: Vec<&str> = list(template_spec, "containers").iter().map(|container| text(container, key)).collect();
        texts.join(",").into()
    };
    (join("name"), join("image"))
}

/// Labels as `a=b,c=d`; `<none>` where there are none.
pub(crate) fn labels(owner: &Value, key: &str) -> String {
    let pairs: Vec<String> =
        entries(owner, key).map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// A label selector as text; `<none>` where it selects everything.
pub(crate) fn selector(selector: &Value) -> String {
    match crate::selectors::parse(selector) {
        None => "<error>".to_owned(),
        Some(_) if selector.is_null() => "<none>".to_owned(),
        Some(parsed) => {
            let mut parsed = parsed;
            parsed.requirements.sort_by(|a, b| a.key.cmp(&b.key));
            let text = parsed.to_string();
            if text.is_empty() { "<none>".to_owned() } else { text }
        }
    }
}

/// The first three of a list, then how many more.
pub(crate) fn first_three(mut items: Vec<String>) -> String {
    let count = items.len();
    if count == 0 {
        return "<unset>".to_owned();
    }
    items.truncate(3);
    let text = items.join(",");
    if count > 3 { format!("{text} + {} more...", count - 3) } else { text }
}
