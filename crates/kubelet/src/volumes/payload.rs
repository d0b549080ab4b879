//! What the files of configMap, secret, downwardAPI and projected volumes hold.

use std::sync::Arc;

use daruma_api::core::v1::{Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume};
use daruma_api::meta::ObjectExt;

use super::atomic::{File, Payload};
use super::tokens;
use crate::cell::PodCell;
use crate::env::fields::{FieldContext, field, resource};
use crate::objects::Data;
use crate::shared::Shared;

/// Mode where none is given.
const DEFAULT_MODE: i32 = 0o644;

/// Gathers a volume's files.
pub(super) async fn collect(
    shared: &Arc<Shared>,
    cell: &PodCell,
    pod: &Pod,
    volume: &Volume,
    context: &FieldContext,
) -> Result<Payload, String> {
    let objects = &shared.objects;
    let namespace = pod.namespace();
    let mut payload = Payload::new();
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        let data = objects.config_map(shared, namespace, &source.name, optional).await?;
        add_items(&mut payload, data, source.items.as_deref(), source.default_mode, optional, "configmap")?;
    } else if let Some(source) = &volume.secret {
        let optional = source.optional == Some(true);
        let data = objects.secret(shared, namespace, source.secret_name.as_deref().unwrap_or_default(), optional).await?;
        add_items(&mut payload, data, source.items.as_deref(), source.default_mode, optional, "secret")?;
    } else if let Some(source) = &volume.downward_api {
        add_fields(&mut payload, pod, source.items.as_deref(), source.default_mode, context)?;
    } else if let Some(source) = &volume.projected {
        for one in source.sources.iter().flatten() {
            if let Some(part) = &one.config_map {
                let optional = part.optional == Some(true);
                let data = objects.config_map(shared, namespace, &part.name, optional).await?;
                add_items(&mut payload, data, part.items.as_deref(), source.default_mode, optional, "configmap")?;
            } else if let Some(part) = &one.secret {
                let optional = part.optional == Some(true);
                let data = objects.secret(shared, namespace, &part.name, optional).await?;
                add_items(&mut payload, data, part.items.as_deref(), source.default_mode, optional, "secret")?;
            } else if let Some(part) = &one.downward_api {
                add_fields(&mut payload, pod, part.items.as_deref(), source.default_mode, context)?;
            } else if let Some(part) = &one.service_account_token {
                let token = tokens::token(shared, cell, pod, part).await?;
                let mode = mode(None, source.default_mode);
                payload.insert(part.path.clone(), File { content: token.into_bytes(), mode });
            } else {
                return Err("this kind of projected source is not supported on this node".into());
            }
        }
    }
    Ok(payload)
}

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).unwrap_or(DEFAULT_MODE) as u32 & 0o7777
}

fn add_items(
    payload: &mut Payload,
    mut data: Data,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
    kind: &str,
) -> Result<(), String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let files = data.into_iter().map(|(key, content)| (key, File { content, mode: mode(None, default_mode) }));
        payload.extend(files);
        return Ok(());
    };
    for item in items {
        match data.remove(&item.key) {
            Some(content) => drop(payload.insert(item.path.clone(), File { content, mode: mode(item.mode, default_mode) })),
            None if optional => {}
            None => return Err(format!("{kind} references non-existent {kind} key: {}", item.key)),
        }
    }
    Ok(())
}

fn add_fields(
    payload: &mut Payload,
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: Option<i32>,
    context: &FieldContext,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let content = if let Some(reference) = &item.field_ref {
            field(pod, &reference.field_path, context)?
        } else if let Some(reference) = &item.resource_field_ref {
            resource(pod, &Container::default(), reference, context)?
        } else {
            continue;
        };
        payload.insert(item.path.clone(), File { content: content.into_bytes(), mode: mode(item.mode, default_mode) });
    }
    Ok(())
}
