//! One served version of a definition, as a kind.
//!
//! Source: apiextensions-apiserver pkg/registry/customresource/{strategy,status_strategy,validator}.go,
//! pkg/apiserver/customresource_{handler,discovery_controller}.go.

use std::sync::Arc;

use daruma_api::status::{ApiError, FieldError};
use serde_json::Value;

use super::columns::Columns;
use super::schema::Schema;
use super::{CustomView, defaulting, embedded, fields, finalizers, intern, list_type, rules, scale, validate, version};
use crate::access::{at, ensure, flag, get, keep, list, remove, same, set, text};
use crate::kind::{Column, FieldPath, Kind, Names, ScalePaths, Scope, Subresource};
use crate::schema::View;
use crate::{metadata, verbs};

/// Verbs while the definition is being deleted.
const TERMINATING: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];

/// One served version of a custom resource definition.
///
/// Its names, columns and selectable fields are kept for as long as the program runs, each distinct text once; a
/// definition that is written again costs nothing more.
#[derive(Debug)]
pub struct CustomKind {
    names: &'static Names,
    list_kind: &'static str,
    storage_version: Box<str>,
    needs_webhook: bool,
    deprecation: Option<String>,
    subresources: &'static [Subresource],
    selectable: &'static [&'static str],
    scale: Option<ScalePaths>,
    columns: Columns,
    schema: Option<Schema>,
    document: Value,
}

impl CustomKind {
    /// Every *served* version of a (valid, defaulted) CustomResourceDefinition document, names taken from
    /// `status.acceptedNames`.
    pub fn of(definition: &Value) -> Vec<Arc<CustomKind>> {
        let spec = get(definition, "spec");
        list(spec, "versions")
            .iter()
            .filter(|version| flag(version, "served"))
            .map(|version| Arc::new(Self::of_version(definition, version)))
            .collect()
    }

    fn of_version(definition: &Value, version: &Value) -> Self {
        let spec = get(definition, "spec");
        let accepted = at(definition, &["status", "acceptedNames"]);
        let strings = |key: &str| intern::texts(list(accepted, key).iter().filter_map(Value::as_str));
        let conditions = list(at(definition, &["status"]), "conditions");
        let terminating = conditions.iter().any(|one| text(one, "type") == "Terminating" && text(one, "status") == "True");
        let names = intern::names(Names {
            group: intern::text(text(spec, "group")),
            version: intern::text(text(version, "name")),
            kind: intern::text(text(accepted, "kind")),
            plural: intern::text(text(accepted, "plural")),
            singular: intern::text(text(accepted, "singular")),
            short_names: strings("shortNames"),
            categories: strings("categories"),
            scope: if text(spec, "scope") == "Namespaced" { Scope::Namespaced } else { Scope::Cluster },
            verbs: if terminating { TERMINATING } else { verbs::ALL },
        });
        let paths = at(version, &["subresources", "scale"]);
        let scale = paths.is_object().then(|| ScalePaths {
            spec_replicas: intern::text(text(paths, "specReplicasPath")),
            status_replicas: intern::text(text(paths, "statusReplicasPath")),
            label_selector: Some(text(paths, "labelSelectorPath")).filter(|path| !path.is_empty()).map(intern::text),
        });
        let mut subresources = Vec::new();
        if scale.is_some() {
            let (group, version) = ("autoscaling", "v1");
            subresources.push(Subresource { name: "scale", group, version, kind: "Scale", verbs: verbs::PART });
        }
        if at(version, &["subresources", "status"]).is_object() {
            subresources.push(Subresource { name: "status", group: "", version: "", kind: names.kind, verbs: verbs::PART });
        }
        let fields = list(version, "selectableFields").iter().map(|field| text(field, "jsonPath").trim_start_matches('.'));
        let document = at(version, &["schema", "openAPIV3Schema"]);
        let storage = list(spec, "versions").iter().find(|one| flag(one, "storage"));
        Self {
            names,
            list_kind: intern::text(text(accepted, "listKind")),
            storage_version: storage.map(|one| text(one, "name")).unwrap_or_default().into(),
            needs_webhook: text(get(spec, "conversion"), "strategy") == "Webhook",
            deprecation: version::deprecation(definition, version),
            subresources: intern::subresources(subresources),
            selectable: intern::texts(fields),
            scale,
            columns: Columns::of(list(version, "additionalPrinterColumns")),
            schema: document.is_object().then(|| Schema::parse(document)),
            document: document.clone(),
        }
    }

    /// The version in which objects are stored; all versions share store keys and cache.
    pub fn storage_version(&self) -> &str {
        &self.storage_version
    }

    /// Whether `spec.conversion.strategy` is Webhook.
    pub fn needs_webhook(&self) -> bool {
        self.needs_webhook
    }

    /// A deprecation warning of this version, as the server sends it in a Warning header.
    pub fn deprecation_warning(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    /// Kind of the lists.
    pub fn list_kind(&self) -> &'static str {
        self.list_kind
    }

    /// `openAPIV3Schema` as written; null where there is none.
    pub(super) fn document(&self) -> &Value {
        &self.document
    }

    fn has_status(&self) -> bool {
        self.subresources.iter().any(|one| one.name == "status")
    }

    /// What is wrong with the types and values of an object, `old` being what it was, where it was.
    fn value_errors(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let Some(schema) = &self.schema else { return scale::errors(self.scale, object) };
        let mut wrong = validate::errors(schema, object, old, None);
        wrong.extend(scale::errors(self.scale, object));
        wrong.extend(embedded::errors(schema, object));
        if old.is_none_or(|old| list_type::errors(schema, old).is_empty()) {
            wrong.extend(list_type::errors(schema, object));
        }
        Self::ask_rules(schema, object, old, &mut wrong);
        wrong
    }

    /// Asks the rules, where nothing is wrong that would confuse them.
    fn ask_rules(schema: &Schema, object: &Value, old: Option<&Value>, wrong: &mut Vec<FieldError>) {
        const BLOCKING: [&str; 5] =
            ["FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid"];
        if !schema.has_rules {
            return;
        }
        if wrong.iter().any(|error| BLOCKING.contains(&error.reason)) {
            wrong.push(FieldError::invalid(
                "<nil>",
                "null",
                "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
            ));
        } else {
            wrong.extend(rules::errors(schema, object, old));
        }
    }
}

impl Kind for CustomKind {
    fn names(&self) -> &'static Names {
        self.names
    }

    fn check_fields(&self, object: &mut Value, prune: bool) -> Result<Vec<String>, ApiError> {
        fields::check(self.schema.as_ref(), object, prune).map_err(|why| {
            let (kind, version) = (self.names.kind, self.names.version);
            ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
        })
    }

    fn view(&self) -> Option<View<'_>> {
        self.schema.as_ref().map(|schema| CustomView::of_object(schema).into())
    }

    fn supports_strategic_merge(&self) -> bool {
        false
    }

    fn scale(&self) -> Option<ScalePaths> {
        self.scale
    }

    fn subresources(&self) -> &'static [Subresource] {
        self.subresources
    }

    fn default(&self, object: &mut Value) {
        if let Some(schema) = &self.schema {
            defaulting::prune_nulls(object, Some(schema));
            defaulting::fill(object, schema);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if self.has_status() {
            remove(object, "status");
        }
        metadata::set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.has_status() {
            keep(new, old, "status");
        }
        let changed = {
            let beside = |object: &Value, other: &Value| {
                let mut members = object.as_object().into_iter().flatten().filter(|(key, _)| *key != "metadata");
                members.all(|(key, value)| same(value, get(other, key)))
            };
            !beside(new, old) || !beside(old, new)
        };
        metadata::bump_generation(new, old, changed);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let status = new.get_mut("status").map(Value::take);
        let managers = new.get_mut("metadata").and_then(|metadata| metadata.get_mut("managedFields")).map(Value::take);
        let revision = at(new, &["metadata", "resourceVersion"]).clone();
        *new = old.clone();
        remove(new, "status");
        if let Some(status) = status {
            set(new, "status", status);
        }
        let own = ensure(new, "metadata");
        remove(own, "managedFields");
        if let Some(managers) = managers {
            set(own, "managedFields", managers);
        }
        // Both are of one revision by now, or the old one carries none.
        if !revision.is_null() {
            set(own, "resourceVersion", revision);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        self.value_errors(object, None)
    }

    /// Values that were wrong before and did not change are let through.
    fn validate_change(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.value_errors(new, Some(old))
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        finalizers::warnings(object, old)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut wrong = Vec::new();
        if let Some(schema) = &self.schema
            && let (Some(rules), Some(status)) = (schema.properties.get("status"), new.get("status"))
        {
            wrong.extend(validate::errors(rules, status, Some(get(old, "status")), Some("status")));
        }
        wrong.extend(scale::status_errors(self.scale, new));
        if let Some(schema) = &self.schema {
            let found = list_type::errors(schema, new);
            if !found.is_empty() && list_type::errors(schema, old).is_empty() {
                wrong.extend(found);
            }
            Self::ask_rules(schema, new, Some(old), &mut wrong);
        }
        wrong
    }

    fn reset_fields(&self, subresource: &str) -> &'static [FieldPath] {
        match subresource {
            "status" => &[&["metadata"], &["spec"]],
            "" if self.has_status() => &[&["status"]],
            _ => &[],
        }
    }

    fn columns(&self) -> &'static [Column] {
        self.columns.headers()
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        self.columns.cells(object, now)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        self.selectable
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}
