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
        let refused =
            admin.patch(&one, "json-patch", &json!([{"op": "test", "path": "/spec/replicas", "value": 4}])).await.expect(422);
        assert_eq!(refused.message(), "the server rejected our request due to an error in our request");
        assert_eq!(refused.json["details"], json!({}), "kubectl prints causes alone where there are some");
        admin.patch(&one, "merge-patch", &json!({"metadata": {"resourceVersion": "1"}})).await.expect(409);
        let without =
            json!({"metadata": {"resourceVersion": null, "uid": null, "creationTimestamp": null}, "spec": {"replicas": 6}});
        let changed = admin.patch(&one, "strategic-merge-patch", &without).await.expect(200);
        assert_eq!((&changed.json["spec"]["replicas"], changed.at("/metadata/uid")), (&json!(6), patched.at("/metadata/uid")));
        let cbor = [("content-type", "application/apply-patch+cbor")];
        let refused = admin.send("PATCH", &one, &cbor, Some(&deployment())).await.expect(415);
        assert_eq!(
            refused.message(),
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
             application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
        );
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
        let cbor = [("content-type", "application/cbor")];
        let refused = admin.send("POST", PATH, &cbor, Some(&deployment())).await.expect(415);
        assert_eq!(
            refused.message(),
            "the body of the request was in an unknown format - accepted media types include: \
             application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
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
fn protobuf_bodies() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let headers = [
            ("content-type", "application/vnd.kubernetes.protobuf; charset=utf-8"),
            ("accept", "application/vnd.kubernetes.protobuf,application/json"),
        ];
        // A ConfigMap named c with k: v, at a resource version.
        let config_map = |version: &str| {
            let version = [&[0x32, version.len() as u8], version.as_bytes()].concat();
            let metadata = [b"\x0a\x01c", &version[..]].concat();
            let object = [&[0x0a, metadata.len() as u8], &metadata[..], b"\x12\x06\x0a\x01k\x12\x01v"].concat();
            [b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12", &[object.len() as u8][..], &object].concat()
        };
        let path = "/api/v1/namespaces/default/configmaps";
        let send = async |method, path: &str, content: &[u8]| {
            admin.send_body(method, path, &headers, daruma_client::full_body(content.to_vec())).await
        };
        let made = send("POST", &format!("{path}?fieldValidation=Strict"), &config_map("")).await.expect(201);
        assert_eq!((made.at("/kind"), &made.json["data"]), ("ConfigMap", &json!({"k": "v"})));
        send("PUT", &format!("{path}/c"), &config_map(made.at("/metadata/resourceVersion"))).await.expect(200);
        let config_map = &config_map("")[..];
        send("PATCH", &format!("{path}/c"), config_map).await.expect(415);
        let wrong = send("POST", PATH, config_map).await.expect(400);
        assert!(wrong.message().contains("cannot be handled as a Deployment"), "{}", wrong.message());
        let cut = send("POST", path, &config_map[..config_map.len() - 1]).await.expect(400);
        assert_eq!(cut.message(), "the object provided is unrecognized (must be of type protobuf): unexpected EOF");
        let text = send("POST", path, b"{}").await.expect(400);
        assert!(text.message().ends_with("expected prefix [107 56 115 0]"), "{}", text.message());
        // DeleteOptions of a group version other than their own, with a precondition on the uid u.
        let options = b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dDeleteOptions\x12\x05\x12\x03\x0a\x01u";
        send("DELETE", &format!("{path}/c"), options).await.expect(409);
        // May the caller get pods?
        let review = b"k8s\0\x0a\x32\x0a\x17authorization.k8s.io/v1\x12\x17SelfSubjectAccessReview\x12\x0f\x12\x0d\x0a\x0b\
            \x12\x03get\x2a\x04pods";
        let review = send("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review).await.expect(201);
        assert_eq!(review.json["status"]["allowed"], true);
        assert_eq!(review.json["spec"], json!({"resourceAttributes": {"verb": "get", "resource": "pods"}}));
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
        let wish = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
        let table = admin.send("GET", &path, &wish, None).await.expect(200);
        let columns: Vec<&str> =
            table.json["columnDefinitions"].as_array().expect("columns").iter().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(columns, ["Name", "Desired", "Available", "Age"]);
        assert_eq!(table.json["rows"][0]["cells"], json!(["d", 2, 0, "0s"]));
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
