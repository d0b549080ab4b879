//! A CustomResourceDefinition as the server reads it, and its conditions.
//!
//! Facts: kubernetes apiextensions-apiserver pkg/apihelpers/helpers.go.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::document::{self, list, text};

/// A definition as of one revision.
#[derive(Debug, Clone)]
pub struct Definition {
    /// When it was written.
    pub revision: u64,
    /// The document.
    pub object: Arc<Value>,
}

impl Definition {
    /// Name: `plural.group`.
    pub fn name(&self) -> &str {
        text(&self.object, "/metadata/name")
    }

    /// API group of its resources.
    pub fn group(&self) -> &str {
        text(&self.object, "/spec/group")
    }

    /// Versions that are served, as the definition lists them.
    pub fn served_versions(&self) -> impl Iterator<Item = &str> {
        let versions = list(&self.object, "/spec/versions").iter();
        versions.filter(|version| document::is_true(version, "/served")).map(|version| text(version, "/name"))
    }

    /// Whether a condition holds.
    pub fn is(&self, condition: &str) -> bool {
        is(&self.object, condition)
    }
}

/// Whether a condition of a definition holds.
pub fn is(definition: &Value, condition: &str) -> bool {
    find(definition, condition).is_some_and(|found| text(found, "/status") == "True")
}

/// A condition of a definition.
pub fn find<'a>(definition: &'a Value, condition: &str) -> Option<&'a Value> {
    list(definition, "/status/conditions").iter().find(|one| text(one, "/type") == condition)
}

/// A condition without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// A word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Condition {
    /// Whether `definition` says just this.
    pub fn is_in(&self, definition: &Value) -> bool {
        find(definition, self.kind).is_some_and(|found| {
            text(found, "/status") == self.status()
                && text(found, "/reason") == self.reason
                && text(found, "/message") == self.message
        })
    }

    /// Writes it into `definition`; the time is that of the last change of its status.
    pub fn set(&self, definition: &mut Value, now: jiff::Timestamp) {
        let since = match find(definition, self.kind) {
            Some(old) if text(old, "/status") == self.status() => text(old, "/lastTransitionTime").to_owned(),
            _ => document::seconds(now),
        };
        let new = json!({"type": self.kind, "status": self.status(), "lastTransitionTime": since, "reason": self.reason,
            "message": self.message});
        let conditions = document::elements(document::child(definition, "status"), "conditions");
        match conditions.iter_mut().find(|one| text(one, "/type") == self.kind) {
            Some(old) => *old = new,
            None => conditions.push(new),
        }
    }

    fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }
}
