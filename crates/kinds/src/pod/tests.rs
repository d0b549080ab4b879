//! Pods: defaults, cells, validation.

use serde_json::{Value, json};

use super::Pod;
use crate::kind::Kind;

fn now() -> jiff::Timestamp {
    "2026-01-01T00:10:00Z".parse().expect("a time")
}

fn valid() -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "b", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]},
    });
    Pod.default(&mut pod);
    Pod.prepare_create(&mut pod);
    pod
}

#[test]
fn defaults() {
    let mut pod = json!({"metadata": {"name": "a"}, "spec": {
        "serviceAccountName": "s",
        "containers": [{
            "name": "c", "image": "i",
            "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}},
            "readinessProbe": {"httpGet": {"port": 80}},
        }],
        "volumes": [{"name": "v"}, {"name": "w", "configMap": {"name": "x"}}],
    }});
    Pod.default(&mut pod);
    assert_eq!(
        pod["spec"],
        json!({
            "containers": [{
                "name": "c", "image": "i", "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "readinessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "x", "defaultMode": 420}}],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
            "serviceAccountName": "s", "serviceAccount": "s",
        })
    );
}

#[test]
fn quality_of_service() {
    for (resources, expected) in [
        (json!({}), "BestEffort"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable"),
    ] {
        let mut pod = json!({"spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}});
        Pod.default(&mut pod);
        Pod.prepare_create(&mut pod);
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": expected}));
    }
}

#[track_caller]
fn check_cells(change: impl FnOnce(&mut Value), expected: [&str; 3]) {
    let mut pod = valid();
    change(&mut pod);
    let cells = Pod.cells(&pod, now());
    assert_eq!(cells[1..4], expected.map(Value::from), "{cells:?}");
}

#[test]
fn cells() {
    let running = |restarts: i64| json!([{"name": "c", "ready": true, "restartCount": restarts, "state": {"running": {}}}]);
    check_cells(|_| {}, ["0/1", "Pending", "0"]);
    check_cells(
        |pod| {
            pod["status"]["phase"] = "Running".into();
            pod["status"]["containerStatuses"] = running(0);
        },
        ["1/1", "Running", "0"],
    );
    check_cells(
        |pod| {
            pod["status"]["phase"] = "Running".into();
            pod["status"]["containerStatuses"] = running(1);
            pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"finishedAt": "2026-01-01T00:09:48Z"}});
        },
        ["1/1", "Running", "1 (12s ago)"],
    );
    check_cells(
        |pod| {
            pod["status"]["phase"] = "Running".into();
            pod["status"]["containerStatuses"] =
                json!([{"name": "c", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
        },
        ["0/1", "CrashLoopBackOff", "3"],
    );
    check_cells(
        |pod| {
            pod["status"]["phase"] = "Succeeded".into();
            pod["status"]["containerStatuses"] =
                json!([{"name": "c", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]);
        },
        ["0/1", "Completed", "0"],
    );
    check_cells(
        |pod| {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z".into();
            pod["status"]["containerStatuses"] = running(0);
        },
        ["1/1", "Terminating", "0"],
    );
    check_cells(
        |pod| {
            pod["spec"]["initContainers"] = json!([{"name": "i"}, {"name": "j"}]);
            pod["status"]["initContainerStatuses"] = json!([
                {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"waiting": {"reason": "PodInitializing"}}}
            ]);
        },
        ["0/1", "Init:1/2", "0"],
    );
    check_cells(
        |pod| {
            pod["spec"]["initContainers"] = json!([{"name": "i"}]);
            pod["status"]["initContainerStatuses"] =
                json!([{"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 3}}}]);
        },
        ["0/1", "Init:ExitCode:3", "2"],
    );
    check_cells(
        |pod| {
            pod["spec"]["initContainers"] = json!([{"name": "s", "restartPolicy": "Always"}]);
            pod["status"]["phase"] = "Running".into();
            pod["status"]["initContainerStatuses"] =
                json!([{"name": "s", "ready": true, "started": true, "state": {"running": {}}}]);
            pod["status"]["containerStatuses"] = running(0);
        },
        ["2/2", "Running", "0"],
    );
}

#[track_caller]
fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut pod = valid();
    change(&mut pod["spec"]);
    let texts: Vec<String> = Pod.validate(&pod).iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected);
}

#[test]
fn validation() {
    check(|_| {}, &[]);
    check(|spec| spec["containers"] = json!([]), &["spec.containers: Required value"]);
    check(
        |spec| {
            spec["containers"][0]["image"] = "".into();
            spec["restartPolicy"] = "Sometimes".into();
        },
        &[
            "spec.containers[0].image: Required value",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
    check(
        |spec| {
            let twin = spec["containers"][0].clone();
            spec["containers"] = json!([twin, twin]);
        },
        &["spec.containers[1].name: Duplicate value: \"c\""],
    );
    check(
        |spec| spec["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
        &["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
    );
    check(
        |spec| spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/a"}]),
        &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
    );
    check(
        |spec| spec["containers"][0]["ports"] = json!([{"containerPort": 70000, "protocol": "TCP"}]),
        &["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
    );
    check(
        |spec| spec["containers"][0]["livenessProbe"] = json!({"successThreshold": 2}),
        &[
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ],
    );
}

#[test]
fn updates() {
    let old = valid();
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "i:2".into();
    assert!(Pod.validate_update(&new, &old).is_empty());
    Pod.prepare_update(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 2);
    new["spec"]["nodeName"] = "n".into();
    let texts: Vec<String> = Pod.validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 1);
    assert!(
        texts[0].starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"),
        "{texts:?}"
    );
    assert!(texts[0].ends_with("+ nodeName: \"n\"\n"), "{texts:?}");
    new = old.clone();
    new["spec"]["containers"] = json!([]);
    let texts: Vec<String> = Pod.validate_update(&new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["spec.containers: Forbidden: pod updates may not add or remove containers"]);
}
