//! What is there from the start, discovery, health.

use serde_json::Value;

use crate::harness::test;

#[test]
fn objects_of_the_start() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let namespaces = admin.get("/api/v1/namespaces").await.expect(200);
        let names: Vec<&str> = namespaces.json["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter_map(|one| one["metadata"]["name"].as_str())
            .collect();
        assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
        let service = admin.get("/api/v1/namespaces/default/services/kubernetes").await.expect(200);
        assert_eq!(service.at("/spec/clusterIP"), "10.96.0.1");
        let endpoints = admin.get("/api/v1/namespaces/default/endpoints/kubernetes").await.expect(200);
        assert_eq!(endpoints.at("/subsets/0/addresses/0/ip"), "10.88.0.10");
        admin.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin").await.expect(200);
        admin.get("/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical").await.expect(200);
        let service = admin.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.apps").await.expect(200);
        assert_eq!(service.at("/status/conditions/0/reason"), "Local");
        admin.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await.expect(200);
    });
}

#[test]
fn health() {
    test(|cluster| async move {
        assert_eq!(cluster.admin.get("/livez").await.expect(200).text, "ok");
        let verbose = cluster.admin.get("/readyz?verbose").await.expect(200).text;
        assert!(verbose.starts_with("[+]ping ok\n") && verbose.ends_with("readyz check passed\n"), "{verbose}");
        assert_eq!(cluster.admin.get("/healthz/ping").await.expect(200).text, "ok");
        cluster.admin.get("/healthz/nope").await.expect(404);
        let metrics = cluster.admin.get("/metrics").await.expect(200).text;
        assert!(metrics.contains("apiserver_storage_objects{resource=\"namespaces\"} 4"), "{metrics}");
        assert_eq!(cluster.admin.get("/version").await.expect(200).at("/gitVersion"), "v1.36.2");
    });
}

#[test]
fn discovery() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        assert_eq!(admin.get("/api").await.expect(200).at("/versions/0"), "v1");
        let groups = admin.get("/apis").await.expect(200);
        assert!(groups.text.contains("\"groupVersion\":\"apps/v1\""));
        let core = admin.get("/api/v1").await.expect(200);
        let names: Vec<&str> =
            core.json["resources"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
        for name in ["pods", "pods/status", "pods/binding", "bindings", "namespaces/finalize", "serviceaccounts/token"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let all = admin.send("GET", "/apis", &[("accept", accept)], None).await.expect(200);
        assert_eq!(all.json["kind"], "APIGroupDiscoveryList");
        assert!(all.headers["content-type"].to_str().expect("text").contains("as=APIGroupDiscoveryList"));
        let apps =
            all.json["items"].as_array().expect("items").iter().find(|one| one["metadata"]["name"] == "apps").expect("apps");
        let deployments =
            apps["versions"][0]["resources"].as_array().expect("a list").iter().find(|one| one["resource"] == "deployments");
        assert_eq!(deployments.expect("deployments")["responseKind"]["kind"], "Deployment");
        admin.get("/apis/nope").await.expect(404);
        admin.get("/apis/apps/v1/nope").await.expect(404);
    });
}

#[test]
fn indented_answers() {
    test(|cluster| async move {
        for (path, start) in [("/version", "{\n  \"buildDate\""), ("/", "{\n  \"paths\": [\n    \"/api\",")] {
            let answer = cluster.admin.get(path).await.expect(200);
            assert!(answer.text.starts_with(start), "{path}: {}", answer.text);
        }
    });
}

#[test]
fn openapi() {
    test(|cluster| async move {
        let index = cluster.admin.get("/openapi/v3").await.expect(200);
        let path = index.json["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a path").to_owned();
        let document = cluster.admin.get(&path).await.expect(200);
        assert!(document.json["components"]["schemas"].is_object());
        assert_ne!(document.json, Value::Null);
        let protobuf = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
        let old = cluster.admin.send("GET", "/openapi/v2", &protobuf, None).await.expect(200);
        assert!(old.text.starts_with("\n\u{3}2.0\u{12}"), "{:?}", old.text);
        let old = cluster.admin.get("/openapi/v2").await.expect(200);
        assert_eq!((old.at("/swagger"), &old.json["paths"]), ("2.0", &serde_json::json!({})));
    });
}
