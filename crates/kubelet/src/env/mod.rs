//! A container's environment.
//!
//! Source: kubernetes pkg/kubelet/kubelet_pods.go (makeEnvironmentVariables).

pub mod expand;
pub mod fields;
pub mod services;

use std::collections::BTreeMap;

use daruma_api::core::v1::{Container as Spec, Pod};
use daruma_api::meta::ObjectExt;

use crate::shared::Shared;
use fields::{FieldContext, field, resource};

/// Makes the variables in the order in which they are defined; later definitions win.
///
/// # Errors
/// A missing object, key or field, in the words that the container's status shows.
pub async fn make(
    shared: &Shared,
    pod: &Pod,
    spec: &Spec,
    context: &FieldContext,
    services: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let mut result: BTreeMap<String, String> = BTreeMap::new();
    let (namespace, objects) = (pod.namespace(), &shared.objects);
    for source in spec.env_from.iter().flatten() {
        let prefix = source.prefix.clone().unwrap_or_default();
        let mut add = |data: BTreeMap<String, String>| {
            result.extend(data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
        };
        if let Some(reference) = &source.config_map_ref {
            add(objects.config_map_texts(shared, namespace, &reference.name, reference.optional == Some(true)).await?);
        } else if let Some(reference) = &source.secret_ref {
            add(objects.secret_texts(shared, namespace, &reference.name, reference.optional == Some(true)).await?);
        }
    }
    for variable in spec.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), None) => Some(expand::expand(value, |name| result.get(name).or_else(|| services.get(name)).cloned())),
            (_, Some(from)) => {
                if let Some(reference) = &from.field_ref {
                    Some(field(pod, &reference.field_path, context)?)
                } else if let Some(reference) = &from.resource_field_ref {
                    Some(resource(pod, spec, reference, context)?)
                } else if let Some(reference) = &from.config_map_key_ref {
                    let optional = reference.optional == Some(true);
                    let data = objects.config_map_texts(shared, namespace, &reference.name, optional).await?;
                    let missing = format!("couldn't find key {} in ConfigMap {namespace}/{}", reference.key, reference.name);
                    pick(data, &reference.key, optional, missing)?
                } else if let Some(reference) = &from.secret_key_ref {
                    let optional = reference.optional == Some(true);
                    let data = objects.secret_texts(shared, namespace, &reference.name, optional).await?;
                    let missing = format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name);
                    pick(data, &reference.key, optional, missing)?
                } else {
                    return Err(format!("the source of environment variable {} is not supported", variable.name));
                }
            }
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            result.insert(variable.name.clone(), value);
        }
    }
    for (name, value) in services {
        result.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(result.into_iter().collect())
}

fn pick(mut data: BTreeMap<String, String>, key: &str, optional: bool, missing: String) -> Result<Option<String>, String> {
    match data.remove(key) {
        Some(value) => Ok(Some(value)),
        None if optional => Ok(None),
        None => Err(missing),
    }
}
