//! A whole scheduler on a virtual world, before a little API server in memory.

mod api;

use std::sync::Arc;
use std::time::Duration;

use api::Api;
use daruma_client::{Client, RateLimit};
use daruma_scheduler::{Metrics, SchedulerConfig};
use daruma_world::World;
use serde_json::{Value, json};

/// Starts a scheduler for one node with one core.
async fn start(world: &World) -> Api {
    let api = Api::default();
    api.put(
        "nodes",
        json!({"metadata": {"name": "w"}, "spec": {}, "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "110"}}}),
    );
    let client = Client::new(world, Arc::new(api.clone()), "kube-scheduler", RateLimit::NONE);
    world.spawn("scheduler", async move {
        daruma_scheduler::run(client, SchedulerConfig::default(), Arc::new(Metrics::default())).await;
    });
    world.sleep(Duration::from_secs(1)).await;
    api
}

fn pod(api: &Api, name: &str, priority: i32, cpu: &str) {
    let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
    api.put(
        "pods",
        json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
            "spec": {"priority": priority, "containers": [container]}, "status": {"phase": "Pending"}}),
    );
}

fn get(api: &Api, name: &str) -> Value {
    api.get("pods", &format!("default/{name}")).unwrap_or_default()
}

#[test]
fn a_pod_makes_room_for_itself() {
    daruma_sim::run(1, |world| async move {
        let api = start(&world).await;
        pod(&api, "low", 0, "800m");
        pod(&api, "small", 0, "100m");
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!(get(&api, "low")["spec"]["nodeName"], "w");
        pod(&api, "high", 10, "500m");
        world.sleep(Duration::from_millis(500)).await;
        // It was promised the node; the victim ends, in its own time.
        let high = get(&api, "high");
        assert_eq!(high["status"]["nominatedNodeName"], "w");
        assert_eq!(high["status"]["conditions"][0]["message"], "0/1 nodes are available: 1 Insufficient cpu.");
        let low = get(&api, "low");
        assert!(low["metadata"]["deletionTimestamp"].is_string(), "{low}");
        let condition = &low["status"]["conditions"][0];
        assert_eq!((&condition["type"], &condition["reason"]), (&json!("DisruptionTarget"), &json!("PreemptionByScheduler")));
        assert_eq!(condition["message"], "default-scheduler: preempting to accommodate a higher priority pod");
        assert!(get(&api, "small")["metadata"]["deletionTimestamp"].is_null(), "it is enough without it");
        assert_eq!(api.events("Preempted"), [("Preempted by pod uid-high on node w".to_owned(), 1)]);
        // Meanwhile the place is kept: a pod of lower priority that would fit beside the promise's absence does not get it.
        pod(&api, "greedy", 5, "600m");
        world.sleep(Duration::from_secs(5)).await;
        assert!(get(&api, "greedy")["spec"]["nodeName"].is_null());
        let failures = api.events("FailedScheduling");
        assert_eq!(
            failures.iter().map(|(_, count)| *count).collect::<Vec<_>>(),
            [1, 1],
            "nobody is tried again and again: {failures:?}"
        );
        api.remove("pods", "default/low");
        world.sleep(Duration::from_secs(11)).await;
        assert_eq!(get(&api, "high")["spec"]["nodeName"], "w");
        assert!(get(&api, "greedy")["spec"]["nodeName"].is_null());
    });
}

#[test]
fn budgets_are_followed_once_the_server_knows_them() {
    daruma_sim::run(2, |world| async move {
        let api = start(&world).await;
        world.sleep(Duration::from_secs(1)).await;
        assert!(api.count("GET poddisruptionbudgets") <= 2, "it is not asked again and again");
        api.learn("poddisruptionbudgets");
        world.sleep(Duration::from_secs(61)).await;
        assert!(api.count("GET poddisruptionbudgets") >= 3, "list and watch");
    });
}
