//! Pods: admission, binding, graceful deletion, eviction.

use serde_json::{Value, json};

use crate::harness::{pod, test};

const PATH: &str = "/api/v1/namespaces/default/pods";

#[test]
fn admission() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let refused = admin.post(PATH, &pod("early")).await.expect(403);
        assert!(refused.message().contains("error looking up service account default/default"), "{}", refused.message());
        cluster.namespace("default").await;
        let mut critical = pod("p");
        critical["spec"]["priorityClassName"] = json!("system-node-critical");
        let created = admin.post(PATH, &critical).await.expect(201);
        assert_eq!(
            (created.at("/spec/serviceAccountName"), &created.json["spec"]["priority"]),
            ("default", &json!(2_000_001_000))
        );
        let volume = created.at("/spec/volumes/0/name").to_owned();
        assert!(volume.starts_with("kube-api-access-"));
        assert_eq!(created.at("/spec/containers/0/volumeMounts/0/name"), volume);
        let keys: Vec<&str> = created.json["spec"]["tolerations"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|one| one["key"].as_str())
            .collect();
        assert_eq!(keys, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
        assert_eq!(created.at("/status/phase"), "Pending");
        critical["spec"]["priorityClassName"] = json!("nope");
        critical["metadata"]["name"] = json!("q");
        let refused = admin.post(PATH, &critical).await.expect(403);
        assert_eq!(refused.message(), "pods \"q\" is forbidden: no PriorityClass with name nope was found");
    });
}

#[test]
fn life() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        cluster.namespace("default").await;
        let one = format!("{PATH}/p");
        admin.post(PATH, &pod("p")).await.expect(201);
        admin.delete(&one, &json!({})).await.expect(200);
        admin.get(&one).await.expect(404);

        admin.post(PATH, &pod("p")).await.expect(201);
        admin
            .post("/api/v1/nodes", &json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}}))
            .await
            .expect(201);
        let binding =
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
        admin.post("/api/v1/namespaces/default/bindings", &binding).await.expect(201);
        let twice = admin.post(&format!("{one}/binding"), &binding).await.expect(409);
        assert_eq!(
            twice.message(),
            "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
        );
        let bound = admin.get(&one).await.expect(200);
        assert_eq!((bound.at("/spec/nodeName"), bound.at("/metadata/labels/topology.kubernetes.io~1zone")), ("n", "z"));

        let marked = admin.delete(&one, &json!({})).await.expect(200);
        assert_eq!(marked.json["metadata"]["deletionGracePeriodSeconds"], 30);
        let shorter = admin.delete(&one, &json!({"gracePeriodSeconds": 5})).await.expect(200);
        assert_eq!(shorter.json["metadata"]["deletionGracePeriodSeconds"], 5);
        let longer = admin.delete(&one, &json!({"gracePeriodSeconds": 60})).await.expect(200);
        assert_eq!(longer.json["metadata"]["deletionGracePeriodSeconds"], 5);
        admin.delete(&one, &json!({"gracePeriodSeconds": 0})).await.expect(200);
        admin.get(&one).await.expect(404);
    });
}

#[test]
fn status_and_eviction() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        cluster.namespace("default").await;
        let mut bound = pod("p");
        bound["spec"]["nodeName"] = json!("n");
        admin.post(PATH, &bound).await.expect(201);
        let one = format!("{PATH}/p");
        let patched = admin
            .patch(&format!("{one}/status"), "strategic-merge-patch", &json!({"status": {"phase": "Running"}}))
            .await
            .expect(200);
        assert_eq!(patched.at("/status/phase"), "Running");
        let ignored = admin.patch(&one, "merge-patch", &json!({"status": {"phase": "Failed"}})).await.expect(200);
        assert_eq!(ignored.at("/status/phase"), "Running");
        admin.post(&format!("{one}/eviction"), &json!({"metadata": {"name": "p"}})).await.expect(201);
        let evicted = admin.get(&one).await.expect(200);
        let conditions = evicted.json["status"]["conditions"].as_array().expect("conditions").clone();
        assert!(conditions.iter().any(|one: &Value| one["reason"] == "EvictionByEvictionAPI"));
        assert!(!evicted.at("/metadata/deletionTimestamp").is_empty());
    });
}
