//! Which types each served group version holds.

use daruma_api::k8s_openapi::api::{
    apps, authentication, authorization, autoscaling, coordination, core, discovery, policy, rbac, scheduling,
};
use daruma_api::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use daruma_api::k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use daruma_api::k8s_openapi::schemars::SchemaGenerator;
use daruma_api::k8s_openapi::schemars::generate::SchemaSettings;
use daruma_api::metav1;
use serde_json::{Map, Value};

/// Served group versions, as the index of OpenAPI documents lists them.
pub const GROUP_VERSIONS: &[(&str, &str)] = &[
    ("", "v1"),
    ("apiextensions.k8s.io", "v1"),
    ("apiregistration.k8s.io", "v1"),
    ("apps", "v1"),
    ("authentication.k8s.io", "v1"),
    ("authorization.k8s.io", "v1"),
    ("autoscaling", "v1"),
    ("coordination.k8s.io", "v1"),
    ("discovery.k8s.io", "v1"),
    ("policy", "v1"),
    ("rbac.authorization.k8s.io", "v1"),
    ("scheduling.k8s.io", "v1"),
];

macro_rules! add {
    ($generator:expr; $($ty:ty),* $(,)?) => {{ $( let _ = $generator.subschema_for::<$ty>(); )* }};
}

/// Schemas by name of all that a group version's objects are made of, in the form of JSON schema with
/// `#/components/schemas/` references.
pub(super) fn definitions(group: &str, version: &str) -> Option<Map<String, Value>> {
    let mut generator = generator();
    add(&mut generator, group, version).then(|| generator.take_definitions(false).into_iter().collect())
}

/// Those of all group versions, each once: most of what one is made of belongs to others as well.
pub(super) fn all_definitions() -> Map<String, Value> {
    let mut generator = generator();
    for (group, version) in GROUP_VERSIONS {
        let has_types = add(&mut generator, group, version);
        debug_assert!(has_types, "{group}/{version}");
    }
    generator.take_definitions(false).into_iter().collect()
}

fn generator() -> SchemaGenerator {
    let mut settings = SchemaSettings::openapi3();
    settings.transforms.clear();
    SchemaGenerator::new(settings)
}

/// Adds what a group version's objects are made of; `false` where it is not served.
fn add(generator: &mut SchemaGenerator, group: &str, version: &str) -> bool {
    match (group, version) {
        ("", "v1") => add!(generator;
            core::v1::Binding, core::v1::ConfigMap, core::v1::Endpoints, core::v1::Event, core::v1::Namespace,
            core::v1::Node, core::v1::Pod, core::v1::Secret, core::v1::Service, core::v1::ServiceAccount,
            authentication::v1::TokenRequest, policy::v1::Eviction,
        ),
        ("apiextensions.k8s.io", "v1") => add!(generator; apiextensions::v1::CustomResourceDefinition),
        ("apiregistration.k8s.io", "v1") => add!(generator; apiregistration::v1::APIService),
        ("apps", "v1") => add!(generator;
            apps::v1::ControllerRevision, apps::v1::DaemonSet, apps::v1::Deployment, apps::v1::ReplicaSet,
            apps::v1::StatefulSet, autoscaling::v1::Scale,
        ),
        ("authentication.k8s.io", "v1") => add!(generator;
            authentication::v1::SelfSubjectReview, authentication::v1::TokenRequest, authentication::v1::TokenReview,
        ),
        ("authorization.k8s.io", "v1") => add!(generator;
            authorization::v1::LocalSubjectAccessReview, authorization::v1::SelfSubjectAccessReview,
            authorization::v1::SelfSubjectRulesReview, authorization::v1::SubjectAccessReview,
        ),
        ("autoscaling", "v1") => add!(generator; autoscaling::v1::Scale),
        ("coordination.k8s.io", "v1") => add!(generator; coordination::v1::Lease),
        ("discovery.k8s.io", "v1") => add!(generator; discovery::v1::EndpointSlice),
        ("policy", "v1") => add!(generator; policy::v1::Eviction, policy::v1::PodDisruptionBudget),
        ("rbac.authorization.k8s.io", "v1") => add!(generator;
            rbac::v1::ClusterRole, rbac::v1::ClusterRoleBinding, rbac::v1::Role, rbac::v1::RoleBinding,
        ),
        ("scheduling.k8s.io", "v1") => add!(generator; scheduling::v1::PriorityClass),
        _ => return false,
    }
    add!(generator; metav1::DeleteOptions, metav1::Status, metav1::ListMeta);
    true
}
