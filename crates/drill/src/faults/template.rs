//! Changes to a workload's pod template that are patched back, for the faults of workloads.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{Call, FaultError};
use crate::scene::Scene;
use crate::undo::UndoRecord;

/// Where containers are in a workload.
const CONTAINERS: &str = "/spec/template/spec/containers";

/// Sets fields of one container of the target workload's template, which replaces its pods; patched back at undo.
/// `change` gives fields below the container (JSON pointers of one or more levels whose parents exist or are made).
pub(super) async fn change(
    scene: &Scene,
    call: &Call<'_>,
    done: &str,
    change: impl FnOnce(&Value) -> Vec<(&'static str, Value)>,
) -> Result<(), FaultError> {
    let workload =
        call.target.workload.as_ref().ok_or_else(|| FaultError::Target("a workload is needed: target.workload".to_owned()))?;
    let path = workload.path();
    let client = scene.stage().client.clone();
    let content = scene.ask(client.json(Method::GET, &path, "", None)).await?;
    let object: Value = serde_json::from_slice(&content).map_err(|error| FaultError::Target(format!("{workload}: {error}")))?;
    let containers = object.pointer(CONTAINERS).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let wanted = call.text("container")?;
    let found = containers.iter().position(|one| wanted.as_deref().is_none_or(|name| one["name"] == name));
    let Some(index) = found else {
        return Err(FaultError::Target(format!("{workload} has no container {}", wanted.unwrap_or_default())));
    };
    let (forth, back) = patches(&containers[index], index, change(&containers[index]));
    scene.tells(&workload.short(), done);
    scene.promise(vec![UndoRecord::Patch { path: path.clone(), patch: back }]).await?;
    let body = Bytes::from(serde_json::to_vec(&forth).expect("a patch is always JSON"));
    scene.ask(client.json(Method::PATCH, &path, "application/json-patch+json", Some(body))).await?;
    Ok(())
}

/// RFC 6902 patches that set fields of a container, and that set them back if they are still as they were set.
fn patches(container: &Value, index: usize, fields: Vec<(&'static str, Value)>) -> (Value, Value) {
    let mut now = container.clone();
    let (mut forth, mut back) = (Vec::new(), Vec::new());
    for (field, value) in fields {
        // The outermost level that is missing is what is added.
        let (mut pointer, mut value) = (field.to_owned(), value);
        while let Some((parent, last)) = pointer.rsplit_once('/') {
            if parent.is_empty() || now.pointer(parent).is_some_and(Value::is_object) {
                break;
            }
            value = json!({last: value});
            pointer = parent.to_owned();
        }
        let path = format!("{CONTAINERS}/{index}{pointer}");
        let old = match now.pointer(&pointer) {
            Some(old) => json!({"op": "replace", "path": path, "value": old}),
            None => json!({"op": "remove", "path": path}),
        };
        back.push([json!({"op": "test", "path": path, "value": value}), old]);
        if let Some((parent, last)) = pointer.rsplit_once('/')
            && let Some(Value::Object(fields)) = now.pointer_mut(parent)
        {
            fields.insert(last.to_owned(), value.clone());
        }
        forth.push(json!({"op": "add", "path": path, "value": value}));
    }
    (forth.into(), back.into_iter().rev().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let container = json!({"name": "web", "image": "web:1", "resources": {"requests": {"cpu": "1"}}});
        for (field, value, forth, back) in [
            (
                "/image",
                json!("x"),
                json!([{"op": "add", "path": "/spec/template/spec/containers/0/image", "value": "x"}]),
                json!([{"op": "test", "path": "/spec/template/spec/containers/0/image", "value": "x"}, {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:1"}]),
            ),
            (
                "/args",
                json!(["x"]),
                json!([{"op": "add", "path": "/spec/template/spec/containers/0/args", "value": ["x"]}]),
                json!([{"op": "test", "path": "/spec/template/spec/containers/0/args", "value": ["x"]}, {"op": "remove", "path": "/spec/template/spec/containers/0/args"}]),
            ),
            (
                "/resources/limits/memory",
                json!("4Mi"),
                json!([{"op": "add", "path": "/spec/template/spec/containers/0/resources/limits", "value": {"memory": "4Mi"}}]),
                json!([{"op": "test", "path": "/spec/template/spec/containers/0/resources/limits", "value": {"memory": "4Mi"}}, {"op": "remove", "path": "/spec/template/spec/containers/0/resources/limits"}]),
            ),
        ] {
            assert_eq!(patches(&container, 0, vec![(field, value)]), (forth, back), "{field}");
        }
    }
}
