//! Addresses and ports of services.

use serde_json::{Value, json};

use crate::harness::test;

const PATH: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    if let (Some(fields), Value::Object(more)) = (object["spec"].as_object_mut(), spec) {
        fields.extend(more);
    }
    object
}

#[test]
fn addresses() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let taken = admin.post(PATH, &service("a", json!({"clusterIP": "10.96.0.1"}))).await.expect(422);
        assert_eq!(
            taken.message(),
            "Service \"a\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP 10.96.0.1: provided IP is already allocated"
        );
        let dns = admin.post(PATH, &service("dns", json!({"clusterIP": "10.96.0.10"}))).await.expect(201);
        assert_eq!(
            (dns.at("/spec/clusterIPs/0"), dns.at("/spec/ipFamilies/0"), dns.at("/spec/ipFamilyPolicy")),
            ("10.96.0.10", "IPv4", "SingleStack")
        );
        admin.post(PATH, &service("b", json!({"clusterIP": "10.96.0.10"}))).await.expect(422);
        admin.delete(&format!("{PATH}/dns"), &json!({})).await.expect(200);
        admin.post(PATH, &service("b", json!({"clusterIP": "10.96.0.10"}))).await.expect(201);
        admin.post(PATH, &service("c", json!({"clusterIP": "10.1.0.1"}))).await.expect(422);
        let any = admin.post(PATH, &service("d", json!({}))).await.expect(201);
        assert!(any.at("/spec/clusterIP").starts_with("10."), "{}", any.text);
        let headless = admin.post(PATH, &service("e", json!({"clusterIP": "None"}))).await.expect(201);
        assert_eq!(headless.at("/spec/clusterIPs/0"), "None");
    });
}

#[test]
fn node_ports() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let ports = |port: i64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
        admin.post(PATH, &service("a", ports(30080))).await.expect(201);
        let taken = admin.post(PATH, &service("b", ports(30080))).await.expect(422);
        assert_eq!(
            taken.message(),
            "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"
        );
        let outside = admin.post(PATH, &service("b", ports(80))).await.expect(422);
        assert!(outside.message().contains("The range of valid ports is 30000-32767"), "{}", outside.message());
        let any = admin.post(PATH, &service("b", json!({"type": "NodePort"}))).await.expect(201);
        assert!((30000..=32767).contains(&any.json["spec"]["ports"][0]["nodePort"].as_i64().expect("a port")));
        let back = admin.patch(&format!("{PATH}/a"), "merge-patch", &json!({"spec": {"type": "ClusterIP"}})).await.expect(200);
        assert_eq!(back.json["spec"]["ports"][0].get("nodePort"), None);
        admin.post(PATH, &service("c", ports(30080))).await.expect(201);
    });
}

#[test]
fn the_kubernetes_service_comes_back() {
    test(|cluster| async move {
        let (admin, path) = (&cluster.admin, format!("{PATH}/kubernetes"));
        admin.delete(&path, &json!({})).await.expect(200);
        admin.get(&path).await.expect(404);
        cluster.world.sleep(std::time::Duration::from_secs(11)).await;
        assert_eq!(admin.get(&path).await.expect(200).at("/spec/clusterIP"), "10.96.0.1");
    });
}

#[test]
fn endpoints_are_deprecated() {
    test(|cluster| async move {
        for path in ["/api/v1/endpoints", "/api/v1/namespaces/default/endpoints/kubernetes"] {
            let answer = cluster.admin.get(path).await.expect(200);
            let warning = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
            assert_eq!(answer.headers["warning"], warning, "{path}");
        }
    });
}
