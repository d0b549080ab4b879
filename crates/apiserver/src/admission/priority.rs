//! Priority: pods get the number behind their PriorityClass.
//!
//! Facts: kubernetes plugin/pkg/admission/priority/admission.go.

use std::sync::Arc;

use daruma_api::status::ApiError;
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::document::{self, is_true, number, text};
use crate::server::ApiServer;

const GROUP: &str = "scheduling.k8s.io";

/// The plugin.
pub struct Priority;

/// What a class gives.
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Class {
    fn of(object: &Value) -> Self {
        Self {
            name: text(object, "/metadata/name").into(),
            value: number(object, "/value").unwrap_or(0),
            preemption: text(object, "/preemptionPolicy").into(),
        }
    }
}

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation != Operation::Delete
            && (attributes.is("", "pods", "") || attributes.is(GROUP, "priorityclasses", ""))
    }

    fn mutate<'a>(&'a self, server: &'a Arc<ApiServer>, attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            if !attributes.is("", "pods", "") {
                return Ok(());
            }
            if attributes.operation == Operation::Update {
                keep(attributes);
                return Ok(());
            }
            let class = class(server, attributes).await?;
            set(attributes, class)
        })
    }

    fn validate<'a>(&'a self, server: &'a Arc<ApiServer>, attributes: &'a Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            if !attributes.is(GROUP, "priorityclasses", "") || !is_true(&attributes.object, "/globalDefault") {
                return Ok(());
            }
            match default_class(server).await? {
                Some(class) if attributes.operation == Operation::Create || class.name != attributes.name => Err(attributes
                    .forbidden(&format!(
                        "PriorityClass {} is already marked as default. Only one default can exist",
                        class.name
                    ))),
                _ => Ok(()),
            }
        })
    }
}

/// An update keeps what the creation was given.
fn keep(attributes: &mut Attributes) {
    let old = attributes.old.as_deref();
    let before: Vec<(&str, Value)> =
        ["priority", "preemptionPolicy"].into_iter().filter_map(|key| Some((key, old?.get("spec")?.get(key)?.clone()))).collect();
    let spec = document::child(&mut attributes.object, "spec");
    for (key, value) in before {
        if spec.get(key).is_none_or(Value::is_null) {
            spec.insert(key.into(), value);
        }
    }
}

fn set(attributes: &mut Attributes, class: Class) -> Result<(), ApiError> {
    if let Some(asked) = number(&attributes.object, "/spec/priority").filter(|asked| *asked != class.value) {
        return Err(attributes.forbidden(&format!(
            "the integer value of priority ({asked}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            class.value
        )));
    }
    let asked = text(&attributes.object, "/spec/preemptionPolicy");
    if !class.preemption.is_empty() && !asked.is_empty() && asked != class.preemption {
        return Err(attributes.forbidden(&format!(
            "the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            class.preemption
        )));
    }
    let spec = document::child(&mut attributes.object, "spec");
    spec.insert("priority".into(), class.value.into());
    if !class.name.is_empty() {
        spec.insert("priorityClassName".into(), class.name.into());
    }
    if !class.preemption.is_empty() {
        spec.insert("preemptionPolicy".into(), class.preemption.into());
    }
    Ok(())
}

async fn class(server: &Arc<ApiServer>, attributes: &Attributes) -> Result<Class, ApiError> {
    let name = text(&attributes.object, "/spec/priorityClassName");
    if name.is_empty() {
        let default = default_class(server).await?;
        return Ok(default.unwrap_or(Class { name: String::new(), value: 0, preemption: "PreemptLowerPriority".into() }));
    }
    let missing = || attributes.forbidden(&format!("no PriorityClass with name {name} was found"));
    let classes = server.registry.built_in(GROUP, "v1", "priorityclasses").ok_or_else(missing)?;
    let found = server.fetch(classes, "", name).await.map_err(|error| if error.is_not_found() { missing() } else { error })?;
    let object = server.decode(classes, &found)?;
    Ok(Class::of(&object))
}

/// The default class with the lowest value.
async fn default_class(server: &Arc<ApiServer>) -> Result<Option<Class>, ApiError> {
    let Some(classes) = server.registry.built_in(GROUP, "v1", "priorityclasses") else { return Ok(None) };
    let snapshot = server.cached(classes).await?;
    let objects = snapshot.objects.values().filter_map(|item| server.decode_item(classes, item).ok());
    Ok(objects
        .filter(|object| is_true(object, "/globalDefault"))
        .map(|object| Class::of(&object))
        .min_by_key(|class| class.value))
}
