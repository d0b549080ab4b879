//! What a namespace that is being deleted says about its end.
//!
//! Source: kubernetes pkg/controller/namespace/deletion/status_condition_utils.go.

use std::collections::BTreeMap;

use daruma_api::core::v1::{NamespaceCondition, NamespaceStatus};
use jiff::Timestamp;

use crate::pods::wire_time;

/// Condition, and reason and message while all is well.
const CONDITIONS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    ("NamespaceDeletionContentFailure", "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// What one round of deleting found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Groups that could not be discovered, with the reason.
    pub discovery: Vec<String>,
    /// What could not be deleted, and why.
    pub failures: Vec<String>,
    /// How many objects are left, by `resource.group`.
    pub remaining: BTreeMap<String, usize>,
    /// On how many objects a finalizer is left.
    pub finalizers: BTreeMap<String, usize>,
}

impl Findings {
    fn failure(&self, kind: &str) -> Option<(&'static str, String)> {
        let join = |parts: Vec<String>| parts.join(", ");
        match kind {
            "NamespaceDeletionDiscoveryFailure" if !self.discovery.is_empty() => {
                let count = self.discovery.len();
                let groups = join(self.discovery.clone());
                let message = format!(
                    "Discovery failed for some groups, {count} failing: unable to retrieve the complete list of server APIs: {groups}"
                );
                Some(("DiscoveryFailed", message))
            }
            "NamespaceDeletionContentFailure" if !self.failures.is_empty() => {
                let mut failures = self.failures.clone();
                failures.sort();
                let count = failures.len();
                let message = format!("Failed to delete all resource types, {count} remaining: {}", join(failures));
                Some(("ContentDeletionFailed", message))
            }
            "NamespaceContentRemaining" if !self.remaining.is_empty() => {
                let parts = self.remaining.iter().map(|(name, count)| format!("{name} has {count} resource instances"));
                Some(("SomeResourcesRemain", format!("Some resources are remaining: {}", join(parts.collect()))))
            }
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => {
                let parts = self.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
                let parts = join(parts.collect());
                Some(("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {parts}")))
            }
            _ => None,
        }
    }
}

/// Brings the conditions up to date. Gives whether any changed.
pub fn update(status: &mut NamespaceStatus, findings: &Findings, now: Timestamp) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    for (kind, ok_reason, ok_message) in CONDITIONS {
        let (value, reason, message) = match findings.failure(kind) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", ok_reason, ok_message.to_owned()),
        };
        let new = NamespaceCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(wire_time(now)),
        };
        match conditions.iter_mut().find(|old| old.type_ == kind) {
            None => {
                conditions.push(new);
                changed = true;
            }
            Some(old) if old.status != new.status || old.message != new.message || old.reason != new.reason => {
                let transition = if old.status == new.status { &old.last_transition_time } else { &new.last_transition_time };
                *old = NamespaceCondition { last_transition_time: transition.clone(), ..new };
                changed = true;
            }
            Some(_) => {}
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::at;

    #[test]
    fn conditions_follow_the_findings() {
        let mut status = NamespaceStatus::default();
        assert!(update(&mut status, &Findings::default(), at(1)));
        assert!(!update(&mut status, &Findings::default(), at(2)));
        let findings = Findings { remaining: BTreeMap::from([("pods.".to_owned(), 2)]), ..Findings::default() };
        assert!(update(&mut status, &findings, at(3)));
        let conditions = status.conditions.expect("set");
        assert_eq!(conditions.len(), 5);
        let remaining = conditions.iter().find(|one| one.type_ == "NamespaceContentRemaining").expect("set");
        assert_eq!(remaining.message.as_deref(), Some("Some resources are remaining: pods. has 2 resource instances"));
        assert_eq!(remaining.last_transition_time, Some(wire_time(at(3))));
    }
}
