//! Resource names and quantities.
//!
//! Source: kubernetes `validateResourceRequirements`, `ValidateResourceQuantityValue` and
//! pkg/apis/core/helper/helpers.go.

use daruma_api::quantity::Quantity;
use serde_json::Value;

use crate::access::{entries, get, list, text};
use crate::field::{Errors, Path};
use crate::names;

fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// A quantity of a resource: not negative, and whole where the resource is counted.
pub(crate) fn quantity(errors: &mut Errors, path: &Path<'_>, name: &str, value: &Value) -> Quantity {
    let shown = value.as_str().unwrap_or_default();
    let Ok(quantity) = shown.parse::<Quantity>() else {
        errors.invalid(path, shown, "must be a valid resource quantity");
        return Quantity::ZERO;
    };
    if quantity.is_negative() {
        errors.invalid(path, shown, "must be greater than or equal to 0");
    }
    if (name == "pods" || is_extended(name)) && !quantity.is_whole() {
        errors.invalid(path, shown, "must be an integer");
    }
    quantity
}

fn container_resource_name(errors: &mut Errors, path: &Path<'_>, name: &str) {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        errors.all_invalid(path, name, wrong);
        return;
    }
    if name.contains('/') {
        if !is_native(name) && !is_extended(name) {
            errors.invalid(path, name, "doesn't follow extended resource name standard");
        }
    } else if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_pages(name) {
        if name != "pods" && name != "storage" {
            errors.invalid(path, name, "must be a standard resource type or fully qualified");
        }
        errors.invalid(path, name, "must be a standard resource for containers");
    }
}

/// Requests and limits of a container.
pub(super) fn requirements(errors: &mut Errors, path: &Path<'_>, resources: &Value, claims: &[&str]) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let (mut compute, mut huge) = (false, false);
    for (name, value) in entries(resources, "limits") {
        let path = limits_path.key(name);
        container_resource_name(errors, &path, name);
        quantity(errors, &path, name, value);
        compute |= matches!(name.as_str(), "cpu" | "memory");
        huge |= is_huge_pages(name);
    }
    for (name, value) in entries(resources, "requests") {
        let path = requests_path.key(name);
        container_resource_name(errors, &path, name);
        let requested = quantity(errors, &path, name, value);
        let shown = value.as_str().unwrap_or_default();
        match get(get(resources, "limits"), name).as_str() {
            Some(limit) => {
                let most: Quantity = limit.parse().unwrap_or_default();
                if requested != most && !may_overcommit(name) {
                    errors.invalid(&requests_path, shown, format!("must be equal to {name} limit of {limit}"));
                } else if requested > most {
                    errors.invalid(&requests_path, shown, format!("must be less than or equal to {name} limit of {limit}"));
                }
            }
            None if !may_overcommit(name) => errors.required(&limits_path, "Limit must be set for non overcommitable resources"),
            None => {}
        }
        compute |= matches!(name.as_str(), "cpu" | "memory");
        huge |= is_huge_pages(name);
    }
    if huge && !compute {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    for (index, claim) in list(resources, "claims").iter().enumerate() {
        let (path, name) = (path.child("claims"), text(claim, "name"));
        let path = path.index(index);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !claims.contains(&name) {
            errors.not_found(&path.child("name"), name);
        }
    }
}
