//! Facts of all kinds, held against what a running API server says of itself.

use serde_json::{Value, json};

use crate::{ALL, Scope, VIRTUAL};

fn data(text: &str) -> Value {
    serde_json::from_str(text).expect("committed JSON")
}

#[test]
fn names_are_the_real_ones() {
    let real = data(include_str!("../data/kinds.json"));
    let find = |group: &str, plural: &str| {
        real.as_array()
            .into_iter()
            .flatten()
            .find(|one| one["group"] == group && one["resource"] == plural)
            .unwrap_or_else(|| panic!("{plural}.{group} is served by the real one"))
    };
    for names in ALL.iter().map(|kind| kind.names()).chain(VIRTUAL) {
        let real = find(names.group, names.plural);
        assert_eq!(
            json!([
                names.version,
                names.kind,
                names.singular,
                names.scope == Scope::Namespaced,
                names.short_names,
                names.categories,
                names.verbs
            ]),
            json!([
                real["version"],
                real["kind"],
                real["singular"],
                real["namespaced"],
                real["shortNames"],
                real["categories"],
                real["verbs"]
            ]),
            "{}",
            names.plural
        );
    }
    for kind in ALL {
        let names = kind.names();
        let real = find(names.group, names.plural)["subresources"].as_array().expect("a list");
        for part in kind.subresources() {
            let real = real.iter().find(|real| real["name"] == part.name).expect("a real subresource");
            let api_version = if part.version.is_empty() { "/".to_owned() } else { format!("{}/{}", part.group, part.version) };
            assert_eq!(real["kind"], format!("{api_version} {}", part.kind), "{}/{}", names.plural, part.name);
            assert_eq!(real["verbs"], json!(part.verbs), "{}/{}", names.plural, part.name);
        }
        assert!(kind.subresources().is_sorted_by_key(|part| part.name), "{}", names.plural);
    }
}

#[test]
fn columns_are_the_real_ones() {
    let real = data(include_str!("../data/columns.json"));
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    for kind in ALL {
        let names = kind.names();
        let own: Vec<Value> = kind.columns().iter().map(|one| json!([one.name, one.kind, one.format, one.priority])).collect();
        assert_eq!(Value::from(own), real[format!("{}/{}/{}", names.group, names.version, names.plural)], "{}", names.plural);
        assert!(kind.columns().iter().all(|column| !column.description.is_empty()));
        assert_eq!(kind.cells(&json!({}), now).len(), kind.columns().len(), "{}", names.plural);
    }
}

#[test]
fn defaults_are_idempotent_and_nothing_panics_on_empty_objects() {
    for kind in ALL {
        let mut once = json!({"metadata": {"name": "a", "namespace": "b"}});
        kind.default(&mut once);
        let mut twice = once.clone();
        kind.default(&mut twice);
        assert_eq!(once, twice, "{}", kind.names().kind);
        kind.prepare_create(&mut twice);
        let mut new = twice.clone();
        kind.prepare_update(&mut new, &twice);
        assert_eq!(new, twice, "{}", kind.names().kind);
        kind.prepare_status_update(&mut new, &twice);
        assert_eq!(new, twice, "{}", kind.names().kind);
        let _ = (kind.validate(&new), kind.validate_update(&new, &twice), kind.validate_status_update(&new, &twice));
        let _ = kind.deletion_grace_seconds(&new);
    }
}

fn kind(name: &str) -> &'static dyn crate::Kind {
    *ALL.iter().find(|kind| kind.names().kind == name).expect("a kind")
}

/// A valid object of a kind, defaulted and prepared.
fn valid(name: &str) -> Value {
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let workload = json!({"selector": {"matchLabels": {"app": "x"}}, "template": template});
    let metadata = json!({"name": "a", "namespace": "b", "creationTimestamp": "2026-01-01T00:00:00Z"});
    let mut object = match name {
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => json!({"spec": workload}),
        "PodDisruptionBudget" => json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}),
        "Service" => json!({"spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}}),
        "RoleBinding" => json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        "PriorityClass" => json!({"value": 5}),
        _ => json!({}),
    };
    object["metadata"] = metadata;
    kind(name).default(&mut object);
    kind(name).prepare_create(&mut object);
    object
}

#[track_caller]
fn check_wrong(name: &str, change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut object = valid(name);
    change(&mut object);
    let texts: Vec<String> = kind(name).validate(&object).iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected, "{name}");
}

#[test]
fn validation() {
    for name in [
        "Deployment",
        "ReplicaSet",
        "DaemonSet",
        "StatefulSet",
        "PodDisruptionBudget",
        "Service",
        "RoleBinding",
        "EndpointSlice",
        "PriorityClass",
        "Node",
        "Namespace",
    ] {
        check_wrong(name, |_| {}, &[]);
    }
    check_wrong(
        "Deployment",
        |object| object["spec"]["template"]["metadata"]["labels"] = json!({"app": "y"}),
        &["spec.template.metadata.labels: Invalid value: {\"app\":\"y\"}: `selector` does not match template `labels`"],
    );
    check_wrong(
        "Deployment",
        |object| {
            object["spec"]["replicas"] = json!(-1);
            object["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": 0, "maxUnavailable": "x"});
        },
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"x\": may not be 0 when `maxSurge` is 0",
        ],
    );
    check_wrong(
        "Service",
        |object| object["spec"]["ports"] = json!([{"port": 0, "protocol": "TCP", "targetPort": "http"}, {"name": "a", "port": 80, "protocol": "X", "targetPort": 80, "nodePort": 30000}]),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ],
    );
    check_wrong(
        "RoleBinding",
        |object| object["roleRef"]["kind"] = "X".into(),
        &["roleRef.kind: Unsupported value: \"X\": supported values: \"Role\", \"ClusterRole\""],
    );
    check_wrong(
        "Node",
        |object| object["spec"] = json!({"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}),
        &[
            "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
        ],
    );
    check_wrong(
        "EndpointSlice",
        |object| object["endpoints"][0]["addresses"] = json!(["127.0.0.1"]),
        &["endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"],
    );
    check_wrong(
        "PriorityClass",
        |object| object["value"] = json!(2_000_000_000),
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
}

#[track_caller]
fn check_change(name: &str, change: impl FnOnce(&mut Value), expected: &[&str]) {
    let old = valid(name);
    let mut new = old.clone();
    change(&mut new);
    let texts: Vec<String> = kind(name).validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected, "{name}");
}

#[test]
fn changes() {
    check_change(
        "Deployment",
        |object| object["spec"]["selector"] = json!({"matchLabels": {"app": "y"}}),
        &["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"y\"}}: field is immutable"],
    );
    check_change(
        "RoleBinding",
        |object| object["roleRef"]["name"] = "other".into(),
        &[
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"Role\",\"Name\":\"other\"}: cannot change roleRef",
        ],
    );
    check_change("Secret", |object| object["type"] = "x".into(), &["type: Invalid value: \"x\": field is immutable"]);
    check_change("PriorityClass", |object| object["value"] = json!(6), &["value: Forbidden: may not be changed in an update."]);
    let mut old = valid("Service");
    old["spec"]["clusterIP"] = "10.96.0.7".into();
    old["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
    let mut new = valid("Service");
    kind("Service").prepare_update(&mut new, &old);
    assert_eq!(new, old, "allocated values are carried over");
    new["spec"]["clusterIP"] = "10.96.0.8".into();
    new["spec"]["clusterIPs"] = json!(["10.96.0.8"]);
    let texts: Vec<String> = kind("Service").validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set"]);
}

#[test]
fn generations() {
    for name in ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "PodDisruptionBudget", "Pod"] {
        let old = valid(name);
        assert_eq!(old["metadata"]["generation"], 1, "{name}");
        let mut new = old.clone();
        new["spec"]["minReadySeconds"] = json!(5);
        new["metadata"]["generation"] = json!(7);
        kind(name).prepare_update(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 2, "{name}");
    }
}

#[track_caller]
fn check_cells(name: &str, change: impl FnOnce(&mut Value), expected: Value) {
    let mut object = valid(name);
    change(&mut object);
    let now = "2026-01-01T00:04:10Z".parse().expect("a time");
    assert_eq!(Value::from(kind(name).cells(&object, now)), expected, "{name}");
}

#[test]
fn cells() {
    check_cells(
        "Deployment",
        |object| object["status"] = json!({"readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1}),
        json!(["a", "1/1", 1, 1, "4m10s", "c", "i:1", "app=x"]),
    );
    check_cells("ReplicaSet", |_| {}, json!(["a", 1, 0, 0, "4m10s", "c", "i:1", "app=x"]));
    check_cells(
        "StatefulSet",
        |object| object["status"] = json!({"replicas": 1, "readyReplicas": 1}),
        json!(["a", "1/1", "4m10s", "c", "i:1"]),
    );
    check_cells(
        "PodDisruptionBudget",
        |object| object["status"]["disruptionsAllowed"] = json!(2),
        json!(["a", "1", "N/A", 2, "4m10s"]),
    );
    check_cells("DaemonSet", |_| {}, json!(["a", 0, 0, 0, 0, 0, "<none>", "4m10s", "c", "i:1", "app=x"]));
    check_cells(
        "Service",
        |object| {
            object["spec"]["type"] = "NodePort".into();
            object["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
            object["spec"]["ports"][0]["nodePort"] = json!(30080);
        },
        json!(["a", "NodePort", "10.96.0.7", "<none>", "80:30080/TCP", "4m10s", "app=x"]),
    );
    check_cells(
        "Node",
        |object| {
            object["metadata"]["labels"] = json!({"node-role.kubernetes.io/control-plane": ""});
            object["spec"]["unschedulable"] = true.into();
            object["status"] = json!({
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.2", "osImage": "Debian", "kernelVersion": "6.1", "architecture": "amd64"},
            });
        },
        json!([
            "a",
            "NotReady,SchedulingDisabled",
            "control-plane",
            "4m10s",
            "v1.36.2",
            "10.0.0.1",
            "<none>",
            "Debian",
            "6.1 (amd64)",
            "<unknown>"
        ]),
    );
    check_cells(
        "Endpoints",
        |object| object["subsets"] = json!([{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}, {"ip": "1.1.1.3"}, {"ip": "1.1.1.4"}], "ports": [{"port": 80}]}]),
        json!(["a", "1.1.1.1:80,1.1.1.2:80,1.1.1.3:80 + 1 more...", "4m10s"]),
    );
    check_cells("EndpointSlice", |_| {}, json!(["a", "IPv4", "80", "10.0.0.1", "4m10s"]));
    check_cells(
        "Event",
        |object| {
            object["firstTimestamp"] = "2026-01-01T00:03:10Z".into();
            object["lastTimestamp"] = "2026-01-01T00:04:00Z".into();
            object["count"] = json!(3);
            object["type"] = "Normal".into();
            object["reason"] = "Pulled".into();
            object["message"] = " text ".into();
            object["involvedObject"] = json!({"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"});
            object["source"] = json!({"component": "kubelet", "host": "n"});
        },
        json!(["10s", "Normal", "Pulled", "pod/p", "spec.containers{c}", "kubelet, n", "text", "60s", 3, "a"]),
    );
    check_cells("RoleBinding", |_| {}, json!(["a", "Role/r", "4m10s", "u", "", ""]));
    check_cells("Role", |_| {}, json!(["a", "2026-01-01T00:00:00Z"]));
    check_cells("Namespace", |_| {}, json!(["a", "Active", "4m10s"]));
}

#[test]
fn writes_do_not_reach_what_belongs_to_the_other_side() {
    let of = |kind: &str, subresource: &str| -> Vec<String> {
        let kind = crate::ALL.iter().find(|one| one.names().kind == kind).expect("a kind");
        kind.reset_fields(subresource).iter().map(|path| path.join(".")).collect()
    };
    for (kind, subresource, expected) in [
        ("Deployment", "", vec!["status"]),
        ("Deployment", "status", vec!["spec", "metadata.labels"]),
        ("Pod", "status", vec!["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"]),
        ("Node", "status", vec!["spec"]),
        ("Namespace", "finalize", vec!["status"]),
        ("ConfigMap", "", vec![]),
        ("StatefulSet", "scale", vec![]),
    ] {
        assert_eq!(of(kind, subresource), expected, "{kind} {subresource}");
    }
}
