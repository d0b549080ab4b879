//! Built-in resources: one file a kind with its names, defaults, preparation, validation, columns
//! and subresources, named in [`ALL`]. Custom resources: [`custom`] makes kinds of definitions.
//!
//! Invariant: pure. No HTTP, no store, no clock: what needs the time is given it.

mod access;
mod addresses;
mod any_kind;
pub mod custom;
mod field;
mod kind;
pub mod metadata;
mod names;
pub mod openapi;
pub mod patch;
mod printing;
pub mod protobuf;
pub mod schema;
mod selectors;
mod verbs;
mod virtual_kinds;

mod api_service;
mod config_map;
mod controller_revision;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
mod lease;
mod namespace;
mod node;
mod pod;
mod pod_disruption_budget;
mod priority_class;
mod rbac;
mod replica_set;
mod rollout;
mod secret;
mod service;
mod service_account;
mod stateful_set;
mod workload;

pub use any_kind::AnyKind;
pub use kind::{Column, FieldPath, Kind, Names, ScalePaths, Scope, Subresource};
pub use pod::validate_binding;
pub use printing::age;
pub use virtual_kinds::VIRTUAL;

/// Every built-in kind, in the order of discovery.
pub static ALL: &[&dyn Kind] = &[
    &config_map::ConfigMap,
    &endpoints::Endpoints,
    &event::Event,
    &namespace::Namespace,
    &node::Node,
    &pod::Pod,
    &secret::Secret,
    &service_account::ServiceAccount,
    &service::Service,
    &api_service::ApiService,
    &controller_revision::ControllerRevision,
    &daemon_set::DaemonSet,
    &deployment::Deployment,
    &replica_set::ReplicaSet,
    &stateful_set::StatefulSet,
    &pod_disruption_budget::PodDisruptionBudget,
    &rbac::cluster_role_binding::ClusterRoleBinding,
    &rbac::cluster_role::ClusterRole,
    &rbac::role_binding::RoleBinding,
    &rbac::role::Role,
    &custom_resource_definition::CustomResourceDefinition,
    &priority_class::PriorityClass,
    &lease::Lease,
    &endpoint_slice::EndpointSlice,
];

#[cfg(test)]
mod tests;
