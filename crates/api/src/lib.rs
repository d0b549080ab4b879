//! Kubernetes wire types and the rules that belong to them: Status, group-version-kinds,
//! selectors, quantities, taints, patches, server-side apply.
//!
//! Invariant: no I/O, no clock, no randomness.

pub mod apply;
pub mod gvk;
pub mod json;
pub mod meta;
pub mod node_affinity;
pub mod patch;
pub mod quantity;
pub mod resources;
pub mod selector;
mod selector_grammar;
pub mod simulated;
pub mod status;
pub mod taints;

pub use k8s_openapi;
pub use k8s_openapi::api::{apps, coordination, core, discovery, policy, rbac, scheduling};
pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity as RawQuantity;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The release whose behaviour is reproduced, as `kubectl version` and nodes show it.
pub const KUBERNETES_VERSION: &str = "v1.36.2";
