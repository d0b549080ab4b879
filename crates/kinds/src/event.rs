//! Event of the core group.
//!
//! Source: kubernetes pkg/registry/core/event, pkg/apis/core/validation/events.go, `printEvent`.

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{at, get, has, number, text};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope};
use crate::printing::{NAME, column, name, since, wide};
use crate::{names, verbs};

/// The kind.
pub struct Event;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static COLUMNS: &[Column] = &[
    column("Last Seen", "string", "Time since it happened last."),
    column("Type", "string", "Normal or Warning."),
    column("Reason", "string", "What happened, in a word."),
    column("Object", "string", "What it happened to."),
    wide("Subobject", "string", "Which part of the object."),
    wide("Source", "string", "Who tells."),
    column("Message", "string", "What happened, for a person."),
    wide("First Seen", "string", "Time since it happened first."),
    wide("Count", "string", "How often it happened."),
    Column { priority: 1, ..NAME },
];

impl Kind for Event {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let namespace = text(get(object, "metadata"), "namespace");
        let involved = text(get(object, "involvedObject"), "namespace");
        let involved_path = Path::Root("involvedObject.namespace");
        let mismatch = if has(object, "eventTime") {
            involved.is_empty() && !matches!(namespace, "default" | "kube-system")
        } else if involved.is_empty() {
            !matches!(namespace, "" | "default")
        } else {
            namespace != involved
        };
        if mismatch {
            errors.invalid(&involved_path, involved, "does not match event.namespace");
        }
        if has(object, "eventTime") {
            let reporter = text(object, "reportingComponent");
            if reporter.is_empty() {
                errors.required(&Path::Root("reportingComponent"), "");
            }
            errors.all_invalid(&Path::Root("reportingComponent"), reporter, names::qualified_name(reporter));
            for (key, most) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
                let value = text(object, key);
                if value.is_empty() {
                    errors.required(&Path::Root(key), "");
                }
                if value.len() > most {
                    errors.invalid(&Path::Root(key), "", format!("can have at most {most} characters"));
                }
            }
            if text(object, "message").len() > 1024 {
                errors.invalid(&Path::Root("message"), "", "can have at most 1024 characters");
            }
        }
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let first = if has(object, "firstTimestamp") {
            since(get(object, "firstTimestamp"), now)
        } else {
            since(get(object, "eventTime"), now)
        };
        let mut last = if has(object, "lastTimestamp") { since(get(object, "lastTimestamp"), now) } else { first.clone() };
        let (mut count, series) = (number(object, "count"), get(object, "series"));
        if !series.is_null() {
            last = since(get(series, "lastObservedTime"), now);
            count = number(series, "count");
        } else if count == 0 {
            count = 1;
        }
        let involved = get(object, "involvedObject");
        let kind = text(involved, "kind").to_lowercase();
        let target = match text(involved, "name") {
            "" => kind,
            name => format!("{kind}/{name}"),
        };
        vec![
            last.into(),
            text(object, "type").into(),
            text(object, "reason").into(),
            target.into(),
            text(involved, "fieldPath").into(),
            source(object).into(),
            text(object, "message").trim().into(),
            first.into(),
            count.into(),
            name(object),
        ]
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "type",
        ]
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        // Names of core events are free: clients of old wrote what they liked.
        names::path_segment(name)
    }
}

fn source(event: &Value) -> String {
    let first = |own: &str, other: &str| match text(at(event, &["source"]), own) {
        "" => text(event, other).to_owned(),
        text => text.to_owned(),
    };
    let (component, instance) = (first("component", "reportingComponent"), first("host", "reportingInstance"));
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}
