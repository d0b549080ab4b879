//! The machine is about to be turned off.

use std::time::Duration;

use daruma_kubelet::SHUTDOWN_FILE;
use daruma_sim::containers::Behaviour;
use daruma_world::disk::WriteOptions;
use serde_json::json;

use super::Node;

const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

#[test]
fn ordinary_pods_end_before_critical_ones() {
    daruma_sim::run(1, |world| async move {
        let node = Node::new(&world);
        node.runtime.behave("stubborn", Behaviour { ignores_stop: true, ..Behaviour::default() });
        let running = node.start_with("b1", |config| {
            config.shutdown_grace_period = Duration::from_secs(30);
            config.shutdown_grace_period_critical_pods = Duration::from_secs(10);
        });
        let one = |image: &str| json!([{"name": "a", "image": image}]);
        node.pod_named("plain", json!({"containers": one("web")}));
        node.pod_named("stubborn", json!({"containers": one("stubborn"), "terminationGracePeriodSeconds": 600}));
        node.pod_named("critical", json!({"containers": one("web"), "priority": 2_000_000_000}));
        node.sleep(1000).await;
        let text = b"x".to_vec();
        world.disk.create_dir_all(std::path::Path::new("/run/daruma"), 0o755).await.expect("made");
        world.disk.write(std::path::Path::new(SHUTDOWN_FILE), text, WriteOptions::default()).await.expect("written");
        let kubelet = running.kubelet.clone();
        world.spawn("terminate", async move { kubelet.terminate().await });
        node.sleep(1000).await;
        assert_eq!(node.condition("nodes", "w", "Ready"), "False/KubeletNotReady");
        assert_eq!(node.api.events("Shutdown"), [("Shutdown manager detected shutdown event".to_owned(), 1)]);
        assert_eq!(node.end_of("plain"), ("Failed".into(), "Terminated".into(), MESSAGE.into()));
        assert_eq!(node.condition("pods", "default/plain", "DisruptionTarget"), "True/TerminationByKubelet");
        assert_eq!(node.end_of("stubborn").0, "Running", "it has 20 seconds");
        assert_eq!(node.condition("pods", "default/stubborn", "DisruptionTarget"), "-/-", "told with the end");
        assert_eq!(node.end_of("critical").0, "Running", "it comes last");
        node.pod_named("late", json!({"containers": one("web")}));
        node.sleep(500).await;
        let refused = "Pod was rejected: Pod was rejected as the node is shutting down.";
        assert_eq!(node.end_of("late"), ("Failed".into(), "NodeShutdown".into(), refused.into()));
        node.sleep(19_000).await;
        assert_eq!(node.end_of("stubborn").1, "Terminated");
        assert_eq!(node.end_of("critical"), ("Failed".into(), "Terminated".into(), MESSAGE.into()));
        node.sleep(3000).await;
        let state = world.disk.read(std::path::Path::new("/var/lib/kubelet/graceful_node_shutdown_state")).await.expect("there");
        let state: serde_json::Value = serde_json::from_slice(&state).expect("JSON");
        assert!(state["endTime"].as_str().is_some_and(|end| end.starts_with("2026")), "{state}");
    });
}

#[test]
fn without_a_period_or_with_a_restart_of_the_kubelet_nothing_ends() {
    daruma_sim::run(2, |world| async move {
        let node = Node::new(&world);
        let running = node.start("b1");
        node.pod(json!({"containers": [{"name": "a", "image": "web"}]}));
        node.sleep(500).await;
        // No period.
        running.kubelet.shutdown().await;
        running.kill();
        let running = node.start_with("b1", |config| config.shutdown_grace_period = Duration::from_secs(30));
        node.sleep(500).await;
        // Init says nothing of the machine.
        running.kubelet.terminate().await;
        node.sleep(500).await;
        assert_eq!(node.end_of("p").0, "Running");
        assert_eq!(node.condition("nodes", "w", "Ready"), "True/KubeletReady");
    });
}
