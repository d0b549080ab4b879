//! Who owns what after several writers. Cases are those of kubernetes test/integration/apiserver/apply.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::test;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A deployment whose pods have these containers.
fn deployment(containers: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": containers}}}})
}

fn container(rest: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i"});
    for (key, value) in rest.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    container
}

#[test]
fn what_the_server_normalises_is_no_change() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let mut object = deployment(json!([container(json!({
            "resources": {"requests": {"cpu": "1000m", "memory": "0.1G"}, "limits": {"cpu": 2}},
            "env": [{"name": "a"}, {"name": "b", "value": ""}],
        }))]));
        object["metadata"]["creationTimestamp"] = Value::Null;
        object["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
        object["spec"]["template"]["metadata"]["annotations"] = json!({});
        object["spec"]["strategy"] = json!({});
        object["status"] = json!({});
        let made = admin.apply(&one, "a", &object).await.expect(201);
        cluster.world.sleep(Duration::from_secs(2)).await;
        assert_eq!(admin.apply(&one, "a", &object).await.expect(200).json, made.json);
        object["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
        assert_eq!(admin.apply(&one, "a", &object).await.expect(200).json, made.json);

        let pod = |volume: Value| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [volume]}})
        };
        let path = "/api/v1/namespaces/default/pods/p";
        let with = admin.apply(path, "a", &pod(json!({"name": "v", "emptyDir": {}}))).await.expect(201);
        let without = admin.apply(path, "a", &pod(json!({"name": "v"}))).await.expect(200);
        assert_eq!(with.json["spec"]["volumes"][0], without.json["spec"]["volumes"][0]);
        assert_ne!(with.at("/metadata/resourceVersion"), without.at("/metadata/resourceVersion"), "the owner has changed");
    });
}

#[test]
fn an_item_goes_with_what_others_wrote_into_it() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let other = json!({"name": "other", "image": "i"});
        admin.apply(&one, "a", &deployment(json!([container(json!({})), other]))).await.expect(201);
        let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "workingDir": "/x"}]}}}});
        admin.patch(&format!("{one}?fieldManager=ctl"), "strategic-merge-patch", &change).await.expect(200);
        let left = admin.apply(&one, "a", &deployment(json!([other]))).await.expect(200);
        assert_eq!(left.json["spec"]["template"]["spec"]["containers"].as_array().map(Vec::len), Some(1));
        assert!(left.owners().iter().all(|owner| !owner.starts_with("ctl")), "{:?}", left.owners());
    });
}

#[test]
fn an_owner_hands_a_field_over() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let with = |replicas: Option<i64>| {
            let mut object = deployment(json!([container(json!({}))]));
            if let Some(replicas) = replicas {
                object["spec"]["replicas"] = replicas.into();
            }
            object
        };
        admin.apply(&one, "a", &with(Some(3))).await.expect(201);
        // A controller applies the same value: now it is owned by both.
        let mine = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 3}});
        admin.apply(&one, "ctl", &mine).await.expect(200);
        let handed = admin.apply(&one, "a", &with(None)).await.expect(200);
        assert_eq!(handed.json["spec"]["replicas"], 3);
        assert!(handed.owners().contains(&r#"ctl Apply  {"f:spec":{"f:replicas":{}}}"#.to_owned()), "{:?}", handed.owners());
        // A manager under a new name that says who it was (renaming by an update).
        let mut renamed = handed.json.clone();
        for entry in renamed["metadata"]["managedFields"].as_array_mut().expect("a list") {
            if entry["manager"] == "ctl" {
                entry["manager"] = "ctl2".into();
            }
        }
        let renamed = admin.put(&one, &renamed).await.expect(200);
        assert!(renamed.owners().iter().any(|owner| owner.starts_with("ctl2 Apply")), "{:?}", renamed.owners());
        let gone = admin.apply(&one, "ctl2", &deployment(json!([]))).await;
        assert_eq!(gone.status, 200, "an empty list takes nothing away: {}", gone.text);
        assert_eq!(gone.json["spec"]["replicas"], 1, "nobody owns it: the default");
    });
}

#[test]
fn managers_are_taken_away_by_any_kind_of_write() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{MAPS}/m"));
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
        let replace = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]);
        let merge = json!({"metadata": {"managedFields": [{}]}});
        for (kind, patch) in [("json-patch", &replace), ("merge-patch", &merge), ("strategic-merge-patch", &merge)] {
            let owned = admin.apply(&one, "a", &object).await;
            assert!(!owned.owners().is_empty(), "{kind}");
            let patched = admin.patch(&one, kind, patch).await.expect(200);
            assert_eq!(patched.json["metadata"].get("managedFields"), None, "{kind}");
        }
        let mut named = object.clone();
        named["metadata"]["managedFields"] = json!([{"manager": "a\u{7}", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}}}]);
        let refused = admin.put(&one, &named).await.expect(422);
        assert!(refused.message().contains("metadata.managedFields[0].manager: Invalid value"), "{}", refused.message());
    });
}

#[test]
fn elements_that_appear_twice() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let env = |names: &[(&str, &str)]| -> Value {
            let env: Vec<Value> = names.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            deployment(json!([container(json!({"env": env}))]))
        };
        let shown = |answer: &crate::harness::Answer| answer.json["spec"]["template"]["spec"]["containers"][0]["env"].clone();
        admin.post(DEPLOYMENTS, &env(&[("a", "1"), ("b", "1"), ("a", "2")])).await.expect(201);
        // Who does not name them leaves them alone.
        let label = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"l": "x"}}});
        let kept = admin.apply(&one, "a", &label).await.expect(200);
        assert_eq!(shown(&kept).as_array().map(Vec::len), Some(3));
        let refused = admin.apply(&one, "a", &env(&[("a", "1"), ("a", "2")])).await.expect(500);
        assert!(
            refused.message().ends_with(".spec.template.spec.containers[name=\"c\"].env: duplicate entries for key [name=\"a\"]")
        );
        // Who names one of them replaces all, which takes them from their owner.
        admin.apply(&one, "b", &env(&[("a", "3")])).await.expect(409);
        let replaced = admin.apply(&one, "b&force=true", &env(&[("a", "3")])).await.expect(200);
        assert_eq!(shown(&replaced), json!([{"name": "a", "value": "3"}, {"name": "b", "value": "1"}]));
    });
}

#[test]
fn controllers_statuses_belong_to_them() {
    test(|cluster| async move {
        let (admin, one) = (&cluster.admin, format!("{DEPLOYMENTS}/d"));
        let made = admin.apply(&one, "a", &deployment(json!([container(json!({}))]))).await.expect(201);
        // As a typed client writes a status: the whole object, managers and all.
        let mut whole = made.json.clone();
        whole["status"] = json!({"replicas": 1, "observedGeneration": 1,
            "conditions": [{"type": "Available", "status": "True", "reason": "r", "message": "m"}]});
        whole["metadata"]["labels"] = json!({"not": "from here"});
        let agent = [("user-agent", "kube-controller-manager/v1.36.2 (linux/amd64)")];
        let written = admin.send("PUT", &format!("{one}/status"), &agent, Some(&whole)).await.expect(200);
        assert_eq!(
            written.owners()[1],
            concat!(
                r#"kube-controller-manager Update status {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Available\"}":"#,
                r#"{".":{},"f:message":{},"f:reason":{},"f:status":{},"f:type":{}}},"f:observedGeneration":{},"f:replicas":{}}}"#
            )
        );
        let version = |answer: &crate::harness::Answer| answer.at("/metadata/resourceVersion").to_owned();
        cluster.world.sleep(Duration::from_secs(2)).await;
        let same = admin.send("PUT", &format!("{one}/status"), &agent, Some(&written.json)).await.expect(200);
        assert_eq!(version(&same), version(&written), "the same status again is no write");
    });
}
