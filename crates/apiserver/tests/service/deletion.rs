//! Finalizers, propagation, namespaces.

use serde_json::json;

use crate::harness::test;

const PATH: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn finalizers_hold_an_object() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        admin.post(PATH, &json!({"metadata": {"name": "a", "finalizers": ["example.com/f"]}})).await.expect(201);
        let one = format!("{PATH}/a");
        let marked = admin.delete(&one, &json!({})).await.expect(200);
        assert_eq!((marked.at("/kind"), marked.at("/metadata/deletionTimestamp").is_empty()), ("ConfigMap", false));
        let again = admin.delete(&one, &json!({})).await.expect(200);
        assert_eq!(again.at("/metadata/resourceVersion"), marked.at("/metadata/resourceVersion"));
        let taken = admin.post(PATH, &json!({"metadata": {"name": "a"}})).await.expect(409);
        assert!(taken.message().starts_with("object is being deleted: "), "{}", taken.message());
        admin.patch(&one, "merge-patch", &json!({"metadata": {"finalizers": null}})).await.expect(200);
        admin.get(&one).await.expect(404);
    });
}

#[test]
fn propagation_becomes_finalizers() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
            admin.post(PATH, &json!({"metadata": {"name": "a"}})).await.expect(201);
            let one = format!("{PATH}/a");
            let marked = admin.delete(&one, &json!({"propagationPolicy": policy})).await.expect(200);
            assert_eq!(marked.at("/metadata/finalizers/0"), finalizer);
            admin.patch(&one, "merge-patch", &json!({"metadata": {"finalizers": []}})).await.expect(200);
            admin.get(&one).await.expect(404);
        }
        admin.post(PATH, &json!({"metadata": {"name": "a"}})).await.expect(201);
        let done = admin.delete(&format!("{PATH}/a"), &json!({"propagationPolicy": "Background"})).await.expect(200);
        assert_eq!((done.at("/status"), done.at("/details/kind")), ("Success", "configmaps"));
    });
}

#[test]
fn namespaces_end_by_finalize() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        cluster.namespace("n").await;
        let one = "/api/v1/namespaces/n";
        let going = admin.delete(one, &json!({})).await.expect(200);
        assert_eq!((going.at("/status/phase"), going.at("/spec/finalizers/0")), ("Terminating", "kubernetes"));
        let refused = admin.post("/api/v1/namespaces/n/configmaps", &json!({"metadata": {"name": "a"}})).await.expect(403);
        assert_eq!(
            refused.message(),
            "configmaps \"a\" is forbidden: unable to create new content in namespace n because it is being terminated"
        );
        assert_eq!(refused.at("/details/causes/0/reason"), "NamespaceTerminating");
        let mut last = going.json.clone();
        last["spec"] = json!({});
        admin.put(&format!("{one}/finalize"), &last).await.expect(200);
        admin.get(one).await.expect(404);
        let missing = admin.post("/api/v1/namespaces/n/configmaps", &json!({"metadata": {"name": "a"}})).await.expect(404);
        assert_eq!(missing.message(), "namespaces \"n\" not found");
        admin.delete("/api/v1/namespaces/default", &json!({})).await.expect(403);
    });
}
