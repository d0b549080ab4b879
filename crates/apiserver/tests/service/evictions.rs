//! Evictions and disruption budgets.

use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, pod, test};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

/// A bound pod with label `app: x` in this phase.
async fn run(cluster: &Cluster, name: &str, phase: &str, ready: bool) {
    let mut bound = pod(name);
    bound["metadata"]["labels"] = json!({"app": "x"});
    bound["spec"]["nodeName"] = json!("n");
    cluster.admin.post(PODS, &bound).await.expect(201);
    let ready = if ready { "True" } else { "False" };
    let status = json!({"status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}});
    cluster.admin.patch(&format!("{PODS}/{name}/status"), "strategic-merge-patch", &status).await.expect(200);
}

/// A budget as its controller would have left it.
async fn budget(cluster: &Cluster, name: &str, spec: Value, status: Value) {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "x"}});
    cluster.admin.post(BUDGETS, &json!({"metadata": {"name": name}, "spec": spec})).await.expect(201);
    let mut status = status;
    status["observedGeneration"] = json!(1);
    cluster.admin.patch(&format!("{BUDGETS}/{name}/status"), "merge-patch", &json!({"status": status})).await.expect(200);
}

async fn evict(cluster: &Cluster, name: &str, options: Value) -> Answer {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options});
    cluster.admin.post(&format!("{PODS}/{name}/eviction"), &eviction).await
}

async fn is_leaving(cluster: &Cluster, name: &str) -> bool {
    let answer = cluster.admin.get(&format!("{PODS}/{name}")).await;
    answer.status == 404 || !answer.at("/metadata/deletionTimestamp").is_empty()
}

#[test]
fn a_budget_is_spent_and_then_refuses() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        for name in ["a", "b"] {
            run(&cluster, name, "Running", true).await;
        }
        let status = json!({"expectedPods": 2, "currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1});
        budget(&cluster, "guard", json!({"minAvailable": 1}), status).await;
        evict(&cluster, "a", json!({"dryRun": ["All"]})).await.expect(201);
        assert!(!is_leaving(&cluster, "a").await);
        evict(&cluster, "a", json!({})).await.expect(201);
        let leaving = cluster.admin.get(&format!("{PODS}/a")).await.expect(200);
        let conditions = leaving.json["status"]["conditions"].as_array().expect("conditions").clone();
        let why = conditions.iter().find(|one| one["type"] == "DisruptionTarget").expect("a reason");
        assert_eq!((&why["reason"], &why["message"]), (&json!("EvictionByEvictionAPI"), &json!("Eviction API: evicting")));
        assert!(!leaving.at("/metadata/deletionTimestamp").is_empty());
        let spent = cluster.admin.get(&format!("{BUDGETS}/guard")).await.expect(200);
        assert_eq!(spent.json["status"]["disruptionsAllowed"], 0);
        assert!(spent.json["status"]["disruptedPods"]["a"].is_string());
        assert_eq!(spent.at("/status/conditions/0/reason"), "InsufficientPods");

        let refused = evict(&cluster, "b", json!({})).await.expect(429);
        assert_eq!(refused.message(), "Cannot evict pod as it would violate the pod's disruption budget.");
        assert_eq!((refused.at("/reason"), refused.at("/details/causes/0/reason")), ("TooManyRequests", "DisruptionBudget"));
        assert!(!refused.headers.contains_key("retry-after"), "kubectl would wait instead of telling");
        assert!(!is_leaving(&cluster, "b").await);
        // What is going already needs no budget.
        evict(&cluster, "a", json!({})).await.expect(201);

        let spec = json!({"spec": {"minAvailable": 0}});
        cluster.admin.patch(&format!("{BUDGETS}/guard"), "merge-patch", &spec).await.expect(200);
        let stale = evict(&cluster, "b", json!({})).await.expect(429);
        assert_eq!(stale.headers["retry-after"], "10");
        assert_eq!(stale.json["details"]["retryAfterSeconds"], 10);
    });
}

#[test]
fn pods_that_no_budget_protects() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let none = json!({"expectedPods": 3, "currentHealthy": 1, "desiredHealthy": 2, "disruptionsAllowed": 0});
        budget(&cluster, "guard", json!({"minAvailable": 2}), none).await;
        for (name, phase) in [("ended", "Failed"), ("waiting", "Pending")] {
            run(&cluster, name, phase, false).await;
            evict(&cluster, name, json!({})).await.expect(201);
            assert!(is_leaving(&cluster, name).await, "{name}");
        }
        run(&cluster, "sick", "Running", false).await;
        evict(&cluster, "sick", json!({})).await.expect(429);
        // IfHealthyBudget: enough others are healthy.
        let healthy = json!({"status": {"currentHealthy": 2}});
        cluster.admin.patch(&format!("{BUDGETS}/guard/status"), "merge-patch", &healthy).await.expect(200);
        evict(&cluster, "sick", json!({})).await.expect(201);
        assert!(is_leaving(&cluster, "sick").await);

        run(&cluster, "sick-too", "Running", false).await;
        let policy = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
        cluster.admin.patch(&format!("{BUDGETS}/guard"), "merge-patch", &policy).await.expect(200);
        let short = json!({"status": {"currentHealthy": 0, "observedGeneration": 2}});
        cluster.admin.patch(&format!("{BUDGETS}/guard/status"), "merge-patch", &short).await.expect(200);
        evict(&cluster, "sick-too", json!({})).await.expect(201);
        assert!(is_leaving(&cluster, "sick-too").await);
    });
}

#[test]
fn refusals() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        evict(&cluster, "nobody", json!({})).await.expect(404);
        run(&cluster, "p", "Running", true).await;
        let nameless = cluster.admin.post(&format!("{PODS}/p/eviction"), &json!({})).await.expect(400);
        assert_eq!(nameless.message(), "name in URL does not match name in Eviction object");
        let other = evict(&cluster, "p", json!({"preconditions": {"uid": "other"}})).await.expect(409);
        assert!(other.message().starts_with("Operation cannot be fulfilled on Pod \"p\": the UID in the precondition (other)"));
        let old = evict(&cluster, "p", json!({"preconditions": {"resourceVersion": "1"}})).await.expect(409);
        assert!(old.message().contains("the ResourceVersion in the precondition (1)"), "{}", old.message());
        assert!(!is_leaving(&cluster, "p").await);
        for name in ["one", "two"] {
            budget(&cluster, name, json!({"minAvailable": 0}), json!({"disruptionsAllowed": 1})).await;
        }
        let several = evict(&cluster, "p", json!({})).await.expect(500);
        assert_eq!(
            several.message(),
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        );
        cluster.admin.delete(&format!("{BUDGETS}/two"), &json!({})).await.expect(200);
        let current = cluster.admin.get(&format!("{PODS}/p")).await.at("/metadata/resourceVersion").to_owned();
        evict(&cluster, "p", json!({"preconditions": {"resourceVersion": current}})).await.expect(201);
        assert!(is_leaving(&cluster, "p").await);
    });
}

#[test]
fn kubectl_finds_the_eviction_resource() {
    test(|cluster| async move {
        let groups = cluster.admin.get("/apis").await.expect(200);
        let groups = groups.json["groups"].as_array().expect("groups").clone();
        let policy = groups.iter().find(|one| one["name"] == "policy").expect("the group");
        assert_eq!(policy["preferredVersion"]["version"], "v1");
        let resources = cluster.admin.get("/api/v1").await.expect(200);
        let resources = resources.json["resources"].as_array().expect("resources").clone();
        let eviction = resources.iter().find(|one| one["name"] == "pods/eviction").expect("the subresource");
        assert_eq!(
            (&eviction["kind"], &eviction["group"], &eviction["version"]),
            (&json!("Eviction"), &json!("policy"), &json!("v1"))
        );
    });
}
