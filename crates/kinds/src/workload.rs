//! What the kinds that run pods from a template have in common: names, subresources, preparation,
//! the last cells of a row. Rules of validation are in [`crate::rollout`].
//!
//! Source: kubernetes pkg/registry/apps/*/strategy.go, pkg/printers/internalversion/printers.go.

use serde_json::Value;

use crate::access::{at, get, keep, same, set};
use crate::kind::{Names, Scope, Subresource};
use crate::metadata::{bump_generation, set_generation};
use crate::printing::{age, containers, selector};
use crate::verbs;

/// Names of a workload in `apps/v1`.
pub(crate) const fn names(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
) -> Names {
    Names {
        group: "apps",
        version: "v1",
        kind,
        plural,
        singular,
        short_names,
        categories: &["all"],
        scope: Scope::Namespaced,
        verbs: verbs::ALL,
    }
}

/// The `status` subresource of a kind.
pub(crate) const fn status(kind: &'static str) -> Subresource {
    Subresource { name: "status", group: "", version: "", kind, verbs: verbs::PART }
}

/// Subresources of workloads that can be scaled.
pub(crate) const fn scalable(kind: &'static str) -> [Subresource; 2] {
    [Subresource { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", verbs: verbs::PART }, status(kind)]
}

/// A new workload has the status that nobody has written yet, and is of the first generation.
pub(crate) fn prepare_create(object: &mut Value, status: Value) {
    set(object, "status", status);
    set_generation(object, 1);
}

/// An update keeps the status; a change of the specification, or what `also_changed` says, makes a new generation.
pub(crate) fn prepare_update(new: &mut Value, old: &Value, also_changed: bool) {
    keep(new, old, "status");
    let changed = also_changed || !same(get(new, "spec"), get(old, "spec"));
    bump_generation(new, old, changed);
}

/// An update of the status keeps the specification.
pub(crate) fn prepare_status_update(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
}

/// The cells that workloads' rows end with: age, containers, images, selector.
pub(crate) fn last_cells(object: &Value, now: jiff::Timestamp) -> [Value; 4] {
    let spec = get(object, "spec");
    let (names, images) = containers(at(spec, &["template", "spec"]));
    [age(object, now), names, images, selector(get(spec, "selector")).into()]
}
