//! Events on their way to the server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake_server;

use std::time::Duration;

use daruma_api::core::v1::{ConfigMap, ObjectReference};
use daruma_api::metav1::ObjectMeta;
use daruma_client::events::{EventRecorder, EventType, object_reference};
use daruma_world::World;
use fake_server::FakeServer;

fn object() -> ObjectReference {
    object_reference(&ConfigMap {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("ns".into()),
            uid: Some("u1".into()),
            resource_version: Some("7".into()),
            ..Default::default()
        },
        ..Default::default()
    })
}

/// `namespace reason count message` of each event, in order of their names.
fn told(server: &FakeServer) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let events = server.objects().into_iter();
    let line = |event: serde_json::Value| {
        format!(
            "{} {} {} {}",
            text(&event["metadata"]["namespace"]),
            text(&event["reason"]),
            event["count"],
            text(&event["message"])
        )
    };
    events.map(line).collect()
}

async fn settle(world: &World) {
    world.sleep(Duration::from_secs(1)).await;
}

#[test]
fn events_are_made_counted_and_kept_while_the_server_is_away() {
    daruma_sim::run_seeds(1, 20, |world| async move {
        let server = FakeServer::default();
        let recorder = EventRecorder::new(&server.client(&world), "kubelet", Some("worker-0"));
        recorder.event(&object(), EventType::Warning, "BackOff", "again".into());
        recorder.event(&object(), EventType::Warning, "BackOff", "again".into());
        settle(&world).await;
        assert_eq!(told(&server), ["ns BackOff 2 again"]);
        let event = &server.objects()[0];
        assert_eq!(event["source"], serde_json::json!({"component": "kubelet", "host": "worker-0"}));
        assert_eq!((&event["reportingComponent"], &event["reportingInstance"]), (&"kubelet".into(), &"worker-0".into()));
        assert_eq!((&event["type"], &event["involvedObject"]["kind"]), (&"Warning".into(), &"ConfigMap".into()));
        assert_eq!((&event["involvedObject"]["uid"], &event["involvedObject"]["resourceVersion"]), (&"u1".into(), &"7".into()));
        assert!(event["metadata"]["name"].as_str().unwrap().starts_with("web.1"));

        // The event has expired on the server: it starts anew with its count.
        let name = format!("/api/v1/namespaces/ns/events/{}", event["metadata"]["name"].as_str().unwrap());
        server.delete(&name);
        recorder.event(&object(), EventType::Warning, "BackOff", "again".into());
        settle(&world).await;
        assert_eq!(told(&server), ["ns BackOff 3 again"]);
        server.delete(&name);

        server.set_down(true);
        let node = ObjectReference { kind: Some("Node".into()), name: Some("worker-0".into()), ..Default::default() };
        recorder.event(&node, EventType::Normal, "Rebooted", "one".into());
        recorder.event(&node, EventType::Normal, "NodeReady", "two".into());
        world.sleep(Duration::from_secs(95)).await;
        server.set_down(false);
        world.sleep(Duration::from_secs(11)).await;
        let mut events = told(&server);
        events.sort();
        assert_eq!(events, ["default NodeReady 1 two", "default Rebooted 1 one"]);

        // After two minutes without a server an event is given up.
        server.set_down(true);
        recorder.event(&node, EventType::Normal, "Lost", "three".into());
        world.sleep(Duration::from_secs(121)).await;
        server.set_down(false);
        world.sleep(Duration::from_secs(60)).await;
        assert_eq!(told(&server).len(), 2);
    });
}
