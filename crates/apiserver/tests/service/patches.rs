//! Patches, field validation, body formats, scale.

use serde_json::json;

use crate::harness::test;

const PATH: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment() -> serde_json::Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[test]
fn three_kinds_of_patches() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        admin.post(PATH, &deployment()).await.expect(201);
        let one = format!("{PATH}/d");
        let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "e", "image": "j"}]}}}});
        let patched = admin.patch(&one, "strategic-merge-patch", &strategic).await.expect(200);
        assert_eq!(patched.json["spec"]["template"]["spec"]["containers"].as_array().map(Vec::len), Some(2));
        assert_eq!(patched.json["metadata"]["generation"], 2);
        let merged = admin
            .patch(&one, "merge-patch", &json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "k"}]}}}}))
            .await;
        assert_eq!(merged.expect(200).at("/spec/template/spec/containers/0/image"), "k");
        let changed =
            admin.patch(&one, "json-patch", &json!([{"op": "replace", "path": "/spec/replicas", "value": 5}])).await.expect(200);
        assert_eq!(changed.json["spec"]["replicas"], 5);
        admin.patch(&one, "json-patch", &json!([{"op": "test", "path": "/spec/replicas", "value": 4}])).await.expect(422);
        admin.patch(&one, "merge-patch", &json!({"metadata": {"resourceVersion": "1"}})).await.expect(409);
        let apply =
            admin.send("PATCH", &one, &[("content-type", "application/apply-patch+yaml")], Some(&deployment())).await.expect(415);
        assert!(apply.message().contains("application/merge-patch+json"), "{}", apply.message());
        admin.patch(&format!("{PATH}/nope"), "merge-patch", &json!({})).await.expect(404);
    });
}

#[test]
fn unknown_fields() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let mut object = deployment();
        object["spec"]["nope"] = json!(1);
        let strict = admin.post(&format!("{PATH}?fieldValidation=Strict"), &object).await.expect(400);
        assert_eq!(
            strict.message(),
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.nope\""
        );
        let warned = admin.post(&format!("{PATH}?fieldValidation=Warn"), &object).await.expect(201);
        assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"spec.nope\\\"\"");
        assert_eq!(warned.json["spec"].get("nope"), None);
    });
}

#[test]
fn bodies() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
        admin.send("POST", PATH, &protobuf, Some(&deployment())).await.expect(415);
        admin.send("GET", PATH, &[("accept", "application/vnd.kubernetes.protobuf")], None).await.expect(406);
        let yaml = [("content-type", "application/yaml")];
        admin.send("POST", PATH, &yaml, Some(&deployment())).await.expect(201);
        let mut other = deployment();
        other["metadata"]["namespace"] = json!("elsewhere");
        admin.post(PATH, &other).await.expect(400);
        let nameless = json!({"metadata": {}, "spec": deployment()["spec"]});
        let refused = admin.post(PATH, &nameless).await.expect(422);
        assert!(refused.message().contains("name or generateName is required"), "{}", refused.message());
        let mut generated = deployment();
        generated["metadata"] = json!({"generateName": "g-"});
        let made = admin.post(PATH, &generated).await.expect(201);
        assert_eq!(made.at("/metadata/name").len(), 7);
        admin.put(&format!("{PATH}/x"), &deployment()).await.expect(400);
    });
}

#[test]
fn scale() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        admin.post(PATH, &deployment()).await.expect(201);
        let path = format!("{PATH}/d/scale");
        let scale = admin.get(&path).await.expect(200);
        assert_eq!(
            (scale.at("/kind"), &scale.json["spec"]["replicas"], scale.at("/status/selector")),
            ("Scale", &json!(2), "a=b")
        );
        let mut more = scale.json.clone();
        more["spec"]["replicas"] = json!(3);
        admin.put(&path, &more).await.expect(200);
        assert_eq!(admin.put(&path, &more).await.status, 409, "the revision is an old one");
        admin.patch(&path, "merge-patch", &json!({"spec": {"replicas": 4}})).await.expect(200);
        let object = admin.get(&format!("{PATH}/d")).await;
        assert_eq!((&object.json["spec"]["replicas"], &object.json["metadata"]["generation"]), (&json!(4), &json!(3)));
        admin.patch(&path, "merge-patch", &json!({"spec": {"replicas": -1}})).await.expect(422);
    });
}
