//! Server-side apply. Cases are those of kubernetes test/integration/apiserver/apply.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, test};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn deployment(spec: Value) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"app": "x"}},
        "spec": {"selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

fn causes(answer: &Answer) -> Vec<(String, String, String)> {
    let causes = answer.json["details"]["causes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    causes.iter().map(|one| (text(&one["reason"]), text(&one["field"]), text(&one["message"]))).collect()
}

#[test]
fn applying_makes_and_changes_objects() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let made = admin.apply(&one, "a", &deployment(json!({"replicas": 2}))).await.expect(201);
        assert_eq!((made.json["metadata"]["generation"].clone(), made.at("/metadata/namespace")), (json!(1), "default"));
        assert_eq!(
            made.owners(),
            [concat!(
                r#"a Apply  {"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:template":"#,
                r#"{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}}}"#
            )]
        );
        let entry = &made.json["metadata"]["managedFields"][0];
        assert_eq!((&entry["apiVersion"], &entry["fieldsType"]), (&json!("apps/v1"), &json!("FieldsV1")));
        assert_eq!(entry["time"], made.json["metadata"]["creationTimestamp"]);
        cluster.world.sleep(Duration::from_secs(5)).await;
        let same = admin.apply(&one, "a", &deployment(json!({"replicas": 2}))).await.expect(200);
        assert_eq!(same.json, made.json, "neither revision nor time have changed");
        let without = admin.apply(&one, "a", &deployment(json!({}))).await.expect(200);
        assert_eq!((&without.json["spec"]["replicas"], &without.json["metadata"]["generation"]), (&json!(1), &json!(2)));
        let metrics = admin.get("/metrics").await.expect(200);
        assert!(metrics.text.contains(r#"verb="APPLY""#));
        let yaml = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {paused: true}\n";
        let headers = [("content-type", "application/apply-patch+yaml")];
        let path = format!("{one}?fieldManager=b");
        let changed = admin.send_body("PATCH", &path, &headers, daruma_client::full_body(yaml)).await.expect(200);
        assert_eq!(changed.json["spec"]["paused"], true);
    });
}

#[test]
fn options_are_checked() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{MAPS}/m"));
        let object = config_map(json!({"k": "v"}));
        let headers = [("content-type", "application/apply-patch+yaml")];
        let unnamed = admin.send("PATCH", &one, &headers, Some(&object)).await.expect(422);
        assert_eq!(
            unnamed.message(),
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
        );
        let long = admin.apply(&one, &"x".repeat(129), &object).await.expect(422);
        assert_eq!(
            long.message(),
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes"
        );
        let bell = admin.apply(&one, "a%07", &object).await.expect(422);
        assert!(bell.message().contains("invalid character U+0007 (at position 1)"), "{}", bell.message());
        let bad = admin.apply(&one, "a&fieldValidation=Bad", &object).await.expect(422);
        assert_eq!(
            bad.message(),
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Bad\": \
             supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        );
        admin.post(MAPS, &object).await.expect(201);
        let mut other = object.clone();
        other["metadata"]["uid"] = json!("u");
        let immutable = admin.apply(&one, "a", &other).await.expect(422);
        assert!(
            immutable.message().contains("metadata.uid: Invalid value: \"u\": field is immutable"),
            "{}",
            immutable.message()
        );
        let forced = admin.patch(&format!("{one}?force=false"), "merge-patch", &json!({})).await.expect(422);
        assert_eq!(
            forced.message(),
            "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
        );
        let dry = admin.apply(&one, "a&dryRun=All", &config_map(json!({"k": "v", "l": "w"}))).await.expect(200);
        assert_eq!(dry.json["data"], json!({"k": "v", "l": "w"}));
        assert_eq!(admin.get(&one).await.json["data"], json!({"k": "v"}));
        let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}});
        admin.apply(&format!("{MAPS}/n"), "a&dryRun=All", &other).await.expect(201);
        admin.get(&format!("{MAPS}/n")).await.expect(404);
    });
}

#[test]
fn configurations_are_checked() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let with = |pointer: &str, value: Value| {
            let mut object = deployment(json!({}));
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            object.pointer_mut(parent).expect("a parent")[key] = value;
            object
        };
        for (object, code, expected) in [
            (
                with("/spec/nope", json!(1)),
                500,
                "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.nope: field not declared in schema",
            ),
            (
                with("/spec/replicas", json!("1")),
                500,
                "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got string",
            ),
            (with("/metadata/managedFields", json!([])), 400, "metadata.managedFields must be nil"),
            (with("/kind", json!("Pod")), 400, "invalid object type: apps/v1, Kind=Pod"),
            (with("/apiVersion", json!("v1")), 400, "invalid object type: /v1, Kind=Deployment"),
            (with("/metadata/name", json!("e")), 400, "the name of the object (e) does not match the name on the URL (d)"),
            (
                with("/metadata/name", json!("")),
                400,
                "the name of the object (d based on URL) was undeterminable: name must be provided",
            ),
            (
                with("/metadata/namespace", json!("other")),
                400,
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
            (
                with("/metadata/uid", json!("u")),
                409,
                "Operation cannot be fulfilled on deployments.apps \"d\": uid mismatch: the provided object specified uid u, and no existing object was found",
            ),
            (
                json!([]),
                400,
                "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
        ] {
            let refused = admin.apply(&one, "a", &object).await.expect(code);
            assert_eq!(refused.message(), expected);
        }
        let headers = [("content-type", "application/apply-patch+yaml")];
        let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata:\n  a: b\n  a: c\n";
        let path = format!("{MAPS}/m?fieldManager=a&fieldValidation=");
        let send = async |mode: &str| {
            admin.send_body("PATCH", &format!("{path}{mode}"), &headers, daruma_client::full_body(twice)).await
        };
        let strict = send("Strict").await.expect(400);
        assert!(
            strict.message().starts_with("error strict decoding YAML:") && strict.message().contains("key \"a\" already set")
        );
        let warned = send("Warn").await.expect(201);
        assert_eq!(warned.json["data"], json!({"a": "c"}));
        assert_eq!(warned.headers["warning"], "299 - \"key \\\"a\\\" already set in map\"");
    });
}

#[test]
fn conflicts_and_force() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        admin.apply(&one, "a", &deployment(json!({"replicas": 3}))).await.expect(201);
        let agent = [("content-type", "application/merge-patch+json"), ("user-agent", "kubectl/v1.36.2 (linux/amd64)")];
        let patched = admin.send("PATCH", &one, &agent, Some(&json!({"spec": {"replicas": 5}}))).await.expect(200);
        assert_eq!(patched.owners()[1], r#"kubectl Update  {"f:spec":{"f:replicas":{}}}"#);
        let refused = admin.apply(&one, "a", &deployment(json!({"replicas": 3}))).await.expect(409);
        assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas");
        assert_eq!((refused.at("/reason"), refused.json["details"].get("name")), ("Conflict", None));
        let cause = ("FieldManagerConflict".into(), ".spec.replicas".into(), "conflict with \"kubectl\" using apps/v1".into());
        assert_eq!(causes(&refused), [cause]);
        let forced = admin.apply(&one, "a&force=true", &deployment(json!({"replicas": 3}))).await.expect(200);
        assert_eq!((forced.owners().len(), &forced.json["spec"]["replicas"]), (1, &json!(3)));
        let image = deployment(json!({"template": {"metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c", "image": "j"}]}}, "replicas": 4}));
        let refused = admin.apply(&one, "b", &image).await.expect(409);
        assert_eq!(
            refused.message(),
            "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.replicas\n\
             - .spec.template.spec.containers[name=\"c\"].image"
        );
        assert_eq!(causes(&refused).len(), 2);
    });
}

#[test]
fn owned_items_go_with_the_last_owner() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let ports = |ports: Value| {
            let mut object = deployment(json!({}));
            object["spec"]["template"]["spec"]["containers"][0]["ports"] = ports;
            object
        };
        let made = admin.apply(&one, "a", &ports(json!([{"containerPort": 80, "name": "foo"}]))).await.expect(201);
        assert!(made.owners()[0].contains(r#"k:{\"containerPort\":80,\"protocol\":\"TCP\"}"#), "{:?}", made.owners());
        let both = ports(json!([{"containerPort": 80, "protocol": "TCP", "name": "foo"}, {"containerPort": 81}]));
        admin.apply(&one, "b", &both).await.expect(200);
        let renamed = ports(json!([{"containerPort": 80, "protocol": "TCP", "name": "bar"}]));
        admin.apply(&one, "c", &renamed).await.expect(409);
        let shown = |answer: &Answer| answer.json["spec"]["template"]["spec"]["containers"][0].get("ports").cloned();
        let less = admin.apply(&one, "b", &deployment(json!({}))).await.expect(200);
        assert_eq!(shown(&less), Some(json!([{"containerPort": 80, "protocol": "TCP", "name": "foo"}])));
        let none = admin.apply(&one, "a", &deployment(json!({}))).await.expect(200);
        assert_eq!(shown(&none), None);
    });
}

#[test]
fn objects_of_nobody_stay_without_managers() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{MAPS}/m"));
        admin.post(&format!("{MAPS}?fieldManager=x"), &config_map(json!({"k": "v"}))).await.expect(201);
        let patched =
            admin.patch(&format!("{one}?fieldManager=y"), "merge-patch", &json!({"data": {"l": "w"}})).await.expect(200);
        assert_eq!(patched.json["metadata"].get("managedFields"), None);
        let refused = admin.apply(&one, "a", &config_map(json!({"k": "other"}))).await.expect(409);
        assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k");
        let applied = admin.apply(&one, "a", &config_map(json!({"n": "1"}))).await.expect(200);
        assert_eq!(
            applied.owners(),
            [r#"a Apply  {"f:data":{"f:n":{}}}"#, r#"before-first-apply Update  {"f:data":{".":{},"f:k":{},"f:l":{}}}"#,]
        );
        // A client that knows nothing of managers leaves them as they are.
        let mut whole = config_map(json!({"k": "2", "n": "1"}));
        whole["metadata"]["resourceVersion"] = applied.json["metadata"]["resourceVersion"].clone();
        let put = admin.put(&format!("{one}?fieldManager=p"), &whole).await.expect(200);
        assert_eq!(
            put.owners(),
            [
                r#"a Apply  {"f:data":{"f:n":{}}}"#,
                r#"before-first-apply Update  {"f:data":{}}"#,
                r#"p Update  {"f:data":{"f:k":{}}}"#,
            ]
        );
        // What does not decode does not count; an empty entry takes all away.
        let garbage = json!({"metadata": {"managedFields": [{"manager": "g", "operation": "Apply", "apiVersion": "v1", "fieldsType": ""}]}});
        assert_eq!(admin.patch(&one, "merge-patch", &garbage).await.expect(200).owners(), put.owners());
        let reset = admin.patch(&one, "merge-patch", &json!({"metadata": {"managedFields": [{}]}})).await.expect(200);
        assert_eq!(reset.json["metadata"].get("managedFields"), None);
        admin.apply(&one, "a", &config_map(json!({"n": "1"}))).await.expect(200);
        let mut emptied = admin.get(&one).await.json;
        emptied["metadata"]["managedFields"] = json!([]);
        assert_eq!(admin.put(&one, &emptied).await.expect(200).json["metadata"].get("managedFields"), None);
        let mut brought = config_map(json!({}));
        brought["metadata"] = json!({"name": "n", "managedFields": [{"operation": "Nope"}]});
        let made = admin.post(MAPS, &brought).await.expect(201);
        assert_eq!(made.json["metadata"].get("managedFields"), None);
    });
}

#[test]
fn subresources() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let admin = &cluster.admin;
        let one = "/api/v1/namespaces/default/pods/p";
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let head = |rest: Value| {
            let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
            for (key, value) in rest.as_object().into_iter().flatten() {
                object[key] = value.clone();
            }
            object
        };
        admin.apply(&format!("{one}/status"), "s", &head(json!({}))).await.expect(404);
        let mut with_status = pod.clone();
        with_status["status"] = json!({"message": "not from here"});
        let made = admin.apply(one, "a", &with_status).await.expect(201);
        assert!(!made.owners()[0].contains("f:status"), "{:?}", made.owners());
        let status =
            head(json!({"status": {"message": "m", "conditions": [{"type": "T", "status": "True"}]}, "spec": {"nodeName": "n"}}));
        let applied = admin.apply(&format!("{one}/status"), "s", &status).await.expect(200);
        assert_eq!((applied.at("/status/message"), applied.json["spec"].get("nodeName")), ("m", None));
        assert_eq!(
            applied.owners()[1],
            r#"s Apply status {"f:status":{"f:conditions":{"k:{\"type\":\"T\"}":{".":{},"f:status":{},"f:type":{}}},"f:message":{}}}"#
        );
        let kubelet = [("content-type", "application/strategic-merge-patch+json"), ("user-agent", "kubelet/v1.36.2")];
        let reported = json!({"status": {"message": "k", "phase": "Running"}});
        let reported = admin.send("PATCH", &format!("{one}/status"), &kubelet, Some(&reported)).await.expect(200);
        assert!(reported.owners().contains(&r#"kubelet Update status {"f:status":{"f:message":{},"f:phase":{}}}"#.to_owned()));
        let refused = admin.apply(&format!("{one}/status"), "s", &status).await.expect(409);
        assert_eq!(
            refused.message(),
            "Apply failed with 1 conflict: conflict with \"kubelet\" with subresource \"status\" using v1: .status.message"
        );
        // A status write cannot take managers away.
        let reset = json!({"metadata": {"managedFields": [{}]}});
        let kept = admin.patch(&format!("{one}/status"), "merge-patch", &reset).await.expect(200);
        assert_eq!(kept.owners(), reported.owners());
    });
}

#[test]
fn scales() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let scale = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": replicas}});
        admin.apply(&one, "a", &deployment(json!({"replicas": 1}))).await.expect(201);
        let refused = admin.apply(&format!("{one}/scale"), "hpa", &scale(4)).await.expect(409);
        assert_eq!(refused.message(), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
        let scaled = admin.apply(&format!("{one}/scale"), "hpa&force=true", &scale(4)).await.expect(200);
        assert_eq!((&scaled.json["spec"]["replicas"], scaled.json["metadata"].get("managedFields")), (&json!(4), None));
        let now = admin.get(&one).await;
        assert!(now.owners().contains(&r#"hpa Apply scale {"f:spec":{"f:replicas":{}}}"#.to_owned()), "{:?}", now.owners());
        let patched = admin.patch(&format!("{one}/scale?fieldManager=k"), "merge-patch", &json!({"spec": {"replicas": 5}})).await;
        patched.expect(200);
        let now = admin.get(&one).await;
        let entry = now.json["metadata"]["managedFields"].as_array().and_then(|all| all.iter().find(|one| one["manager"] == "k"));
        let entry = entry.expect("an entry");
        assert_eq!((&entry["apiVersion"], &entry["subresource"]), (&json!("apps/v1"), &json!("scale")));
        assert!(now.owners().iter().all(|owner| !owner.starts_with("hpa")));
        let refused = admin.apply(&one, "a", &deployment(json!({"replicas": 1}))).await.expect(409);
        assert_eq!(
            refused.message(),
            "Apply failed with 1 conflict: conflict with \"k\" with subresource \"scale\" using apps/v1: .spec.replicas"
        );
        let handed = admin.apply(&one, "a", &deployment(json!({}))).await.expect(200);
        assert_eq!(handed.json["spec"]["replicas"], 5, "the scaler keeps what it owns");
    });
}

/// Who scales an object that somebody else has applied owns its replicas, even where nobody did before.
#[test]
fn the_first_who_scales() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        admin.apply(&one, "a", &deployment(json!({}))).await.expect(201);
        let patched = admin.patch(&format!("{one}/scale?fieldManager=k"), "merge-patch", &json!({"spec": {"replicas": 5}})).await;
        patched.expect(200);
        let owners = admin.get(&one).await.owners();
        assert!(owners.contains(&r#"k Update scale {"f:spec":{"f:replicas":{}}}"#.to_owned()), "{owners:?}");
        let refused = admin.apply(&one, "a", &deployment(json!({"replicas": 1}))).await.expect(409);
        assert!(refused.message().contains("conflict with \"k\" with subresource \"scale\""), "{}", refused.message());
    });
}

#[test]
fn kubectl_moves_from_the_client_to_the_server() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let mut object = deployment(json!({"replicas": 1}));
        object["metadata"]["annotations"] = json!({LAST_APPLIED: deployment(json!({"replicas": 1})).to_string()});
        admin.post(&format!("{DEPLOYMENTS}?fieldManager=kubectl-client-side-apply"), &object).await.expect(201);
        admin.apply(&one, "other", &deployment(json!({"replicas": 2}))).await.expect(409);
        let moved = admin.apply(&one, "kubectl", &deployment(json!({"replicas": 2}))).await.expect(200);
        assert_eq!(moved.json["spec"]["replicas"], 2);
        let annotation: Value =
            serde_json::from_str(moved.json["metadata"]["annotations"][LAST_APPLIED].as_str().expect("kept for the client"))
                .expect("JSON");
        assert_eq!(annotation, deployment(json!({"replicas": 2})));
        let patched = json!({"spec": {"replicas": 7}});
        admin.patch(&format!("{one}?fieldManager=u"), "merge-patch", &patched).await.expect(200);
        admin.apply(&one, "kubectl", &deployment(json!({"replicas": 2}))).await.expect(409);
    });
}

#[test]
fn applying_needs_rights() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let role = json!({"metadata": {"name": "patcher"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]});
        admin.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await.expect(201);
        let binding = json!({"metadata": {"name": "patcher"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "patcher"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}]});
        admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await.expect(201);
        let (eve, one) = (cluster.caller("eve", &["system:authenticated"]), format!("{MAPS}/m"));
        let refused = eve.apply(&one, "a", &config_map(json!({"k": "v"}))).await.expect(403);
        assert_eq!(
            refused.message(),
            "configmaps \"m\" is forbidden: User \"eve\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\""
        );
        admin.post(MAPS, &config_map(json!({}))).await.expect(201);
        eve.apply(&one, "a", &config_map(json!({"k": "v"}))).await.expect(200);
        let stale = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "resourceVersion": "1"}});
        let refused = admin.apply(&one, "a", &stale).await.expect(409);
        assert!(refused.message().contains("the object has been modified"), "{}", refused.message());
    });
}

#[test]
fn every_kind_can_be_applied() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
        let made = admin.apply("/api/v1/namespaces/default/services/s", "a", &service).await.expect(201);
        assert!(made.owners()[0].contains(r#"k:{\"port\":80,\"protocol\":\"TCP\"}"#), "{:?}", made.owners());
        admin.apply("/api/v1/namespaces/default/services/s", "a", &service).await.expect(200);
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
        let made = admin.apply("/api/v1/namespaces/n", "a", &namespace).await.expect(201);
        let again = admin.apply("/api/v1/namespaces/n", "b", &namespace).await.expect(200);
        assert!(made.owners().is_empty(), "nobody owns a name");
        assert!(again.owners().iter().all(|owner| owner.starts_with("before-first-apply")), "{:?}", again.owners());
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
        let made = admin.apply("/apis/rbac.authorization.k8s.io/v1/clusterroles/r", "a", &role).await.expect(201);
        assert_eq!(made.owners(), [r#"a Apply  {"f:rules":{}}"#]);
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {"holderIdentity": "h"}});
        let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
        admin.apply(path, "a", &lease).await.expect(201);
        admin.delete(path, &json!({})).await.expect(200);
        let finalized =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "finalizers": ["x/y"]}});
        admin.apply(path, "a", &finalized).await.expect(201);
        admin.delete(path, &json!({})).await.expect(200);
        let going = admin.get(path).await.expect(200);
        assert_eq!(going.owners(), [r#"a Apply  {"f:metadata":{"f:finalizers":{"v:\"x/y\"":{}}}}"#]);
        let bare = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}});
        admin.apply(path, "a", &bare).await.expect(200);
        admin.get(path).await.expect(404);
    });
}
