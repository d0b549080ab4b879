//! scale: the number of replicas of a workload as an `autoscaling/v1` `Scale`.
//!
//! A custom resource says itself where its replicas and its selector are.
//!
//! Facts: kubernetes pkg/registry/apps/deployment/storage/storage.go (`ScaleREST`), apiextensions-apiserver
//! pkg/registry/customresource/etcd.go (`ScaleREST`).

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::apply::{ScaleFields, set_managed_fields};
use daruma_api::metav1::LabelSelector;
use daruma_api::selector::Selector;
use daruma_api::status::{ApiError, FieldError};
use daruma_client::Body;
use daruma_store::KeyValue;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::call::Call;
use crate::document::{self, number, text};
use crate::http::{Shape, answer, body};
use crate::registry::Resource;
use crate::verbs::apply::{self, Configuration};
use crate::verbs::managed_fields::{Target, versions};
use crate::verbs::options::Verb;
use crate::verbs::patch::Change;
use crate::verbs::write::{Part, Updated, Writer};

/// Attempts after a conflict that the caller did not ask to hear of.
const ATTEMPTS: usize = 6;

/// get, update and patch of a scale.
///
/// # Errors
/// 404; 409 where the object has moved on, or the replicas are somebody else's; 422 for a negative number.
pub async fn serve(call: &Call, resource: &Arc<Resource>, content: Bytes) -> Result<Response<Body>, ApiError> {
    let name = &call.info.name;
    let mut current = Some(call.server.fetch(resource, &call.info.namespace, name).await?);
    // Owners are told on the scale and carried to the object: the writer has nothing to track.
    let writer = Writer { tracked: None, ..call.writer(call.dry_run(&[])?) };
    let wish = match call.info.verb.as_str() {
        "get" => None,
        "update" => {
            call.check_options(Verb::Update)?;
            Some(Wish::Whole(body::decode(&call.headers, &content)?))
        }
        _ if apply::is_apply(call) => Some(Wish::Configuration(Configuration::decode(call, &content)?)),
        _ => Some(Wish::Change(Change::decode(call, resource, &content)?)),
    };
    for _ in 0..ATTEMPTS {
        let Some(found) = current else {
            return Err(ApiError::not_found(resource.group(), resource.plural(), name));
        };
        let old = call.server.decode(resource, &found)?;
        let Some(wish) = &wish else {
            return Ok(shown(call, scale(resource, &old)?));
        };
        let (asked, managers) = wish.scale(call, resource, &old)?;
        let version = text(&asked, "/metadata/resourceVersion");
        check(resource, name, &asked, version, &found)?;
        let mut new = Value::clone(&old);
        let replicas = number(&asked, "/spec/replicas").unwrap_or(0);
        set_managed_fields(&mut new, managers);
        Places::of(resource).set_replicas(&mut new, replicas);
        match writer.update(resource, &found, old, new, Part::Main).await? {
            Updated::Stored(stored) | Updated::Deleted(stored) => {
                let object = resource.head.decode(&stored.value, stored.revision).map_err(ApiError::internal)?;
                return Ok(shown(call, scale(resource, &object)?));
            }
            Updated::Conflict(newer) => current = newer,
        }
    }
    Err(ApiError::modified(resource.group(), resource.plural(), name))
}

/// The scale, or its table (kubernetes pkg/printers/internalversion/printers.go `printScale`).
fn shown(call: &Call, scale: Value) -> Response<Body> {
    if call.accept.shape != Shape::Table {
        return answer::value(StatusCode::OK, call.accept.format, &scale);
    }
    let columns = [
        ("Name", "string", "Name of the object that is scaled."),
        ("Desired", "integer", "Number of replicas wanted."),
        ("Available", "integer", "Number of replicas that there are."),
        ("Age", "string", "Time since the object was created."),
    ];
    let definitions: Vec<Value> = columns
        .iter()
        .map(|(name, kind, description)| {
            json!({"name": name, "type": kind, "format": "", "description": description, "priority": 0})
        })
        .collect();
    let replicas = |pointer: &str| number(&scale, pointer).unwrap_or(0);
    let age = daruma_kinds::age(&scale, call.server.world.now());
    let cells = json!([text(&scale, "/metadata/name"), replicas("/spec/replicas"), replicas("/status/replicas"), age]);
    let head = json!({"resourceVersion": text(&scale, "/metadata/resourceVersion")});
    let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": head,
        "columnDefinitions": definitions, "rows": [{"cells": cells, "object": scale}]});
    answer::value(StatusCode::OK, call.accept.format, &table)
}

enum Wish {
    Whole(Value),
    Change(Change),
    Configuration(Configuration),
}

impl Wish {
    /// The scale that is asked for, and the `managedFields` that its object has then.
    fn scale(&self, call: &Call, resource: &Resource, old: &Value) -> Result<(Value, Option<Value>), ApiError> {
        let (target, now, manager) = (Target::scale(), call.server.world.now(), call.manager());
        let version = resource.api_version();
        let (managers, places) = (old.pointer("/metadata/managedFields"), Places::of(resource));
        let fields =
            ScaleFields::new(managers, &version, versions(&resource.kind), &places.replicas).map_err(ApiError::internal)?;
        let mut before = scale(resource, old)?;
        set_managed_fields(&mut before, fields.of_scale());
        let mut asked = match self {
            Self::Whole(scale) => scale.clone(),
            // A Scale has no lists: the strategic merge is the plain one.
            Self::Change(Change::Strategic(patch)) => Change::Merge(patch.clone()).apply(resource, &before)?,
            Self::Change(change) => change.clone().apply(resource, &before)?,
            Self::Configuration(configuration) => {
                configuration.check_kind(&target)?;
                let asked = target.apply(now, &before, &configuration.value, &manager, call.query.flag("force"))?;
                configuration.check_duplicates(call)?;
                asked
            }
        };
        match self {
            Self::Configuration(_) => {}
            _ if managers.is_some() => target.track_part(now, &before, &mut asked, &manager),
            _ => target.track(now, &before, &mut asked, &manager),
        }
        let managers = fields.of_parent(asked.pointer("/metadata/managedFields")).map_err(ApiError::internal)?;
        Ok((asked, managers))
    }
}

fn check(resource: &Resource, name: &str, asked: &Value, version: &str, found: &KeyValue) -> Result<(), ApiError> {
    let asked_name = text(asked, "/metadata/name");
    if !asked_name.is_empty() && asked_name != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({asked_name}) does not match the name on the URL ({name})"
        )));
    }
    if !matches!(version, "" | "0") && version != found.mod_revision.to_string() {
        return Err(ApiError::modified(resource.group(), resource.plural(), name));
    }
    match number(asked, "/spec/replicas").filter(|replicas| *replicas < 0) {
        Some(replicas) => {
            let wrong = FieldError::invalid("spec.replicas", replicas.to_string(), "must be greater than or equal to 0");
            Err(ApiError::invalid("autoscaling", "Scale", name, &[wrong]))
        }
        None => Ok(()),
    }
}

/// Where an object has what its scale shows.
struct Places {
    /// Wanted replicas.
    replicas: Vec<&'static str>,
    /// Counted replicas.
    counted: Vec<&'static str>,
    selector: Selection,
}

/// How an object tells what it selects.
enum Selection {
    /// As a label selector.
    Labels,
    /// As a text, at this place.
    Text(Vec<&'static str>),
    /// Not at all.
    None,
}

impl Places {
    fn of(resource: &Resource) -> Self {
        let names = |path: &'static str| path.trim_start_matches('.').split('.').collect();
        match resource.kind.scale() {
            Some(paths) => Self {
                replicas: names(paths.spec_replicas),
                counted: names(paths.status_replicas),
                selector: paths.label_selector.map_or(Selection::None, |path| Selection::Text(names(path))),
            },
            None => Self { replicas: vec!["spec", "replicas"], counted: vec!["status", "replicas"], selector: Selection::Labels },
        }
    }

    fn set_replicas(&self, object: &mut Value, replicas: i64) {
        let Some((last, way)) = self.replicas.split_last() else { return };
        let mut at = object;
        for name in way {
            document::child(at, name);
            at = &mut at[*name];
        }
        if let Some(fields) = at.as_object_mut() {
            fields.insert((*last).to_owned(), replicas.into());
        }
    }

    fn selector(&self, object: &Value) -> String {
        match &self.selector {
            Selection::None => String::new(),
            Selection::Text(path) => find(object, path).and_then(Value::as_str).unwrap_or_default().to_owned(),
            Selection::Labels => {
                let selector = find(object, &["spec", "selector"]).cloned();
                let selector = selector.and_then(|selector| serde_json::from_value::<LabelSelector>(selector).ok());
                Selector::from_label_selector(selector.as_ref()).map(|selector| selector.to_string()).unwrap_or_default()
            }
        }
    }
}

fn find<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |at, name| at.get(name))
}

fn scale(resource: &Resource, object: &Value) -> Result<Value, ApiError> {
    let places = Places::of(resource);
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{key}")) {
            metadata[key] = value.clone();
        }
    }
    let count = |path: &[&str]| find(object, path).and_then(Value::as_i64);
    let wanted = count(&places.replicas);
    if let (None, Some(paths)) = (wanted, resource.kind.scale()) {
        return Err(ApiError::internal(format!("the spec replicas field {:?} does not exist", paths.spec_replicas)));
    }
    let mut spec = json!({});
    if let Some(replicas) = wanted.filter(|replicas| *replicas != 0) {
        spec["replicas"] = replicas.into();
    }
    let mut status = json!({"replicas": count(&places.counted).unwrap_or(0)});
    let selector = places.selector(object);
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}))
}
