//! Fields that an applied configuration would take from others.
//!
//! Source: apimachinery pkg/util/managedfields/internal/conflict.go.

use std::collections::BTreeMap;
use std::fmt;

use super::element::Path;
use super::literal::quoted;
use super::managers::{ManagerId, Operation};
use super::set::Set;

/// One field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Whose field it is.
    pub manager: ManagerId,
    /// The field.
    pub path: Path,
}

impl Conflict {
    /// `conflict with "manager" …`, as the cause says it.
    pub fn message(&self) -> String {
        format!("conflict with {}", shown(&self.manager))
    }
}

/// All conflicts of a configuration; displays the message that the server sends. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

impl Conflicts {
    pub(super) fn of(sets: &BTreeMap<ManagerId, Set>) -> Self {
        let all = sets
            .iter()
            .flat_map(|(manager, set)| set.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
        Self(all.collect())
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = self.0.as_slice() {
            return write!(f, "Apply failed with 1 conflict: {}: {}", one.message(), one.path);
        }
        write!(f, "Apply failed with {} conflicts: ", self.0.len())?;
        let mut by_manager: BTreeMap<&ManagerId, Vec<&Path>> = BTreeMap::new();
        for conflict in &self.0 {
            by_manager.entry(&conflict.manager).or_default().push(&conflict.path);
        }
        let mut lines = Vec::new();
        for (manager, paths) in by_manager {
            lines.push(format!("conflicts with {}:", shown(manager)));
            lines.extend(paths.into_iter().map(|path| format!("- {path}")));
        }
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Conflicts {}

fn shown(manager: &ManagerId) -> String {
    let mut text = quoted(&manager.manager);
    if !manager.subresource.is_empty() {
        text = format!("{text} with subresource {}", quoted(&manager.subresource));
    }
    match manager.operation {
        Operation::Update => format!("{text} using {}", manager.api_version),
        Operation::Apply => text,
    }
}
