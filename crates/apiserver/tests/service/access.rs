//! Authentication, authorization, reviews, tokens.

use base64::Engine;
use serde_json::{Value, json};

use crate::harness::{pod, test, test_with};

#[test]
fn roles() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let somebody = cluster.caller("somebody", &["team"]);
        let refused = somebody.get("/api/v1/namespaces/default/pods").await.expect(403);
        assert_eq!(
            refused.message(),
            r#"pods is forbidden: User "somebody" cannot list resource "pods" in API group "" in the namespace "default""#
        );
        let binding = json!({"metadata": {"name": "view"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "team"}]});
        admin.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", &binding).await.expect(201);
        somebody.get("/api/v1/namespaces/default/pods").await.expect(200);
        somebody.get("/api/v1/namespaces/kube-system/pods").await.expect(403);
        somebody.get("/api/v1/namespaces/default/secrets").await.expect(403);
        somebody.get("/apis").await.expect(200);
        somebody.get("/metrics").await.expect(403);
        let review = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        assert_eq!(somebody.post(path, &review).await.expect(201).json["status"]["allowed"], true);
        let who = somebody.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.expect(201);
        assert_eq!(who.json["status"]["userInfo"]["groups"], json!(["team", "system:authenticated"]));
        let other =
            admin.send("GET", "/api/v1/namespaces/default/pods", &[("impersonate-user", "nobody")], None).await.expect(403);
        assert!(other.message().contains("User \"nobody\""), "{}", other.message());
        somebody.send("GET", "/api/v1/namespaces/default/pods", &[("impersonate-user", "admin")], None).await.expect(403);
    });
}

#[test]
fn nobody_gives_more_than_he_has() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let base = "/apis/rbac.authorization.k8s.io/v1";
        let rule = |verbs: &[&str], resources: &[&str], group: &str| json!({"verbs": verbs, "resources": resources, "apiGroups": [group]});
        let all = rule(&["create", "update", "patch", "get"], &["roles", "rolebindings"], "rbac.authorization.k8s.io");
        let maker = json!({"metadata": {"name": "maker"}, "rules": [all, rule(&["get"], &["pods"], "")]});
        admin.post(&format!("{base}/clusterroles"), &maker).await.expect(201);
        let binding = |role: &str| {
            json!({"metadata": {"name": role}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "m"}]})
        };
        admin.post(&format!("{base}/clusterrolebindings"), &binding("maker")).await.expect(201);
        let maker = cluster.caller("m", &["g"]);
        let (roles, bindings) = (format!("{base}/namespaces/default/roles"), format!("{base}/namespaces/default/rolebindings"));
        let role = |verbs: &[&str]| json!({"metadata": {"name": "r"}, "rules": [rule(verbs, &["pods"], "")]});
        let refused = maker.post(&roles, &role(&["get", "list", "watch"])).await.expect(403);
        assert_eq!(
            refused.message(),
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"m\" (groups=[\"g\" \"system:authenticated\"]) is attempting to grant \
             RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}"
        );
        maker.post(&roles, &role(&["get"])).await.expect(201);
        maker.patch(&format!("{roles}/r"), "merge-patch", &json!({"metadata": {"finalizers": ["a/b"]}})).await.expect(200);
        maker.patch(&format!("{roles}/r"), "merge-patch", &json!({"rules": role(&["delete"])["rules"]})).await.expect(403);
        maker.post(&bindings, &binding("cluster-admin")).await.expect(403);
        maker.post(&bindings, &binding("none")).await.expect(404);
        maker.post(&bindings, &binding("maker")).await.expect(201);
        let bind =
            json!({"metadata": {"name": "bind"}, "rules": [rule(&["bind"], &["clusterroles"], "rbac.authorization.k8s.io")]});
        admin.post(&format!("{base}/clusterroles"), &bind).await.expect(201);
        admin.post(&format!("{base}/clusterrolebindings"), &binding("bind")).await.expect(201);
        // Authorization looks at caches.
        cluster.world.sleep(std::time::Duration::from_millis(10)).await;
        maker.post(&bindings, &binding("cluster-admin")).await.expect(201);
    });
}

#[test]
fn a_missing_namespace_comes_first() {
    test(|cluster| async move {
        let refused = cluster.admin.post("/api/v1/namespaces/none/pods", &pod("p")).await.expect(404);
        assert_eq!(refused.message(), "namespaces \"none\" not found");
    });
}

#[test]
fn nodes() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        cluster.namespace("default").await;
        let node = cluster.caller("system:node:n", &["system:nodes"]);
        let made = node.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.expect(201);
        assert_eq!(made.at("/spec/taints/0/key"), "node.kubernetes.io/not-ready");
        node.post("/api/v1/nodes", &json!({"metadata": {"name": "m"}})).await.expect(403);
        node.get("/api/v1/nodes/n").await.expect(200);
        node.get("/api/v1/nodes/m").await.expect(403);
        node.get("/api/v1/pods").await.expect(403);
        node.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn").await.expect(200);
        admin.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "c"}})).await.expect(201);
        let map = "/api/v1/namespaces/default/configmaps/c";
        node.get(map).await.expect(403);
        let mut user = pod("p");
        user["spec"]["nodeName"] = json!("n");
        user["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "c"}}]);
        admin.post("/api/v1/namespaces/default/pods", &user).await.expect(201);
        node.get(map).await.expect(200);
        node.patch("/api/v1/namespaces/default/pods/p/status", "strategic-merge-patch", &json!({"status": {"phase": "Running"}}))
            .await
            .expect(200);
        let mut other = pod("q");
        other["spec"]["nodeName"] = json!("m");
        admin.post("/api/v1/namespaces/default/pods", &other).await.expect(201);
        node.patch("/api/v1/namespaces/default/pods/q/status", "strategic-merge-patch", &json!({"status": {"phase": "Running"}}))
            .await
            .expect(403);
        node.delete("/api/v1/namespaces/default/pods/q", &json!({})).await.expect(403);
        let lease = json!({"metadata": {"name": "n"}, "spec": {"holderIdentity": "n"}});
        node.post("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", &lease).await.expect(201);
    });
}

#[test]
fn tokens() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem();
    test_with(
        |config| config.signing_key = Some(key),
        |cluster| async move {
            let admin = &cluster.admin;
            cluster.namespace("default").await;
            let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
            let made = admin.post(path, &json!({"spec": {"expirationSeconds": 600}})).await.expect(201);
            let token = made.at("/status/token").to_owned();
            let payload = token.split('.').nth(1).expect("three parts");
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64");
            let claims: Value = serde_json::from_slice(&claims).expect("JSON");
            assert_eq!(claims["sub"], "system:serviceaccount:default:default");
            let review = |token: &str| json!({"spec": {"token": token}});
            let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
            let good = admin.post(reviews, &review(&token)).await.expect(201);
            assert_eq!(good.at("/status/user/username"), "system:serviceaccount:default:default");
            let mut forged = token.clone();
            forged.replace_range(token.len() - 4.., "AAAA");
            assert_eq!(admin.post(reviews, &review(&forged)).await.json["status"]["authenticated"], false);
            cluster.world.sleep(std::time::Duration::from_secs(601)).await;
            assert_eq!(admin.post(reviews, &review(&token)).await.json["status"]["authenticated"], false);
            admin.post(path, &json!({"spec": {"expirationSeconds": 5}})).await.expect(422);

            let created = admin.post("/api/v1/namespaces/default/pods", &pod("p")).await.expect(201);
            let bound = json!({"spec": {"expirationSeconds": 3607, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": created.at("/metadata/uid")}}});
            let token = admin.post(path, &bound).await.expect(201).at("/status/token").to_owned();
            let good = admin.post(reviews, &review(&token)).await.expect(201);
            assert_eq!(good.json["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
            admin.delete("/api/v1/namespaces/default/pods/p", &json!({})).await.expect(200);
            assert_eq!(admin.post(reviews, &review(&token)).await.json["status"]["authenticated"], false);
        },
    );
}

#[test]
fn without_credentials() {
    test(|cluster| async move {
        for (path, status) in [("/readyz", 200), ("/version", 200), ("/api/v1/pods", 401), ("/healthzz", 401)] {
            let request = http::Request::builder().uri(path).body(daruma_client::empty_body()).expect("a request");
            assert_eq!(cluster.server.handle(request).await.status(), status, "{path}");
        }
    });
}
