//! Definitions that tests share: the CronTab of the Kubernetes documentation, and one as kubebuilder makes them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::CustomKind;

/// A definition as it is served: defaulted, prepared, its names accepted.
pub(crate) fn served(mut definition: Value) -> Value {
    let kind = crate::ALL.iter().find(|kind| kind.names().kind == "CustomResourceDefinition").expect("a kind");
    kind.default(&mut definition);
    kind.prepare_create(&mut definition);
    definition["status"]["acceptedNames"] = definition["spec"]["names"].clone();
    definition
}

/// The first served version of a definition.
pub(crate) fn first(definition: Value) -> Arc<CustomKind> {
    CustomKind::of(&served(definition)).into_iter().next().expect("a served version")
}

/// A definition of one version, namespaced, with a schema of `spec`.
pub(crate) fn with_spec(spec: Value) -> Value {
    let mut definition = cron_tab();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"] = json!({"spec": spec});
    definition
}

/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>
pub(crate) fn cron_tab() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {"type": "object", "properties": {
                            "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "default": "5 0 * * *"},
                            "image": {"type": "string"},
                            "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
                        }},
                        "status": {"type": "object", "properties": {
                            "replicas": {"type": "integer"},
                            "labelSelector": {"type": "string"},
                        }},
                    },
                }},
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.labelSelector",
                    },
                },
                "additionalPrinterColumns": [
                    {"name": "Spec", "type": "string", "description": "The cron spec defining the interval a CronJob is run", "jsonPath": ".spec.cronSpec"},
                    {"name": "Replicas", "type": "integer", "description": "The number of jobs launched by the CronJob", "jsonPath": ".spec.replicas"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "selectableFields": [{"jsonPath": ".spec.image"}],
            }],
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"]},
        },
    })
}

/// Conditions, numbers or texts, lists in lists, embedded objects, two versions.
pub(crate) fn memcached() -> Value {
    let condition = json!({
        "type": "object",
        "required": ["lastTransitionTime", "message", "reason", "status", "type"],
        "properties": {
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "message": {"type": "string", "maxLength": 32768},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            "reason": {"type": "string", "maxLength": 1024, "minLength": 1, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "type": {"type": "string", "maxLength": 316},
        },
    });
    let schema = json!({
        "description": "Memcached is the Schema for the memcacheds API",
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "format": "int32", "minimum": 0},
                    "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                    "mode": {"type": "string", "enum": ["Single", "Cluster"], "default": "Single"},
                    "note": {"type": "string", "nullable": true, "default": "none"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "args": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "containers": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name", "port"],
                        "items": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {
                                "name": {"type": "string"},
                                "port": {"type": "integer", "default": 80},
                                "mounts": {"type": "array", "maxItems": 2, "items": {
                                    "type": "object",
                                    "properties": {"path": {"type": "string", "minLength": 1}, "readOnly": {"type": "boolean", "default": false}},
                                }},
                            },
                        },
                    },
                    "raw": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                        "known": {"type": "object", "properties": {"a": {"type": "integer"}}},
                    }},
                    "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                    "claim": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object", "properties": {
                        "size": {"type": "string"},
                    }}}},
                    "storage": {
                        "type": "object",
                        "properties": {"file": {"type": "string"}, "memory": {"type": "string"}},
                        "oneOf": [{"required": ["file"]}, {"required": ["memory"]}],
                    },
                },
            },
            "status": {"type": "object", "properties": {"conditions": {
                "type": "array",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            }}},
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "memcacheds.cache.example.com"},
        "spec": {
            "group": "cache.example.com",
            "names": {"kind": "Memcached", "plural": "memcacheds", "categories": ["all"]},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": true,
                    "storage": false,
                    "deprecated": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                },
                {
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                        {"name": "Containers", "type": "string", "jsonPath": ".spec.containers[*].name", "priority": 1},
                        {"name": "Storage", "type": "string", "jsonPath": ".spec.storage"},
                        {"name": "Since", "type": "date", "jsonPath": ".status.conditions[0].lastTransitionTime"},
                    ],
                },
            ],
        },
    })
}
