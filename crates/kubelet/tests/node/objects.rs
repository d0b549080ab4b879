//! ConfigMaps, Secrets and Services: watched for as long as a pod needs them.

use std::path::Path;

use serde_json::json;

use super::Node;

#[test]
fn a_change_is_seen_at_once_and_nobody_watches_in_the_end() {
    daruma_sim::run(1, |world| async move {
        let node = Node::new(&world);
        let map = |value: &str| json!({"metadata": {"name": "c", "namespace": "default"}, "data": {"k": value}});
        node.api.put("configmaps", map("one"));
        node.start("b1");
        node.pod(json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}], "containers": [{"name": "a", "image": "web"}]}));
        node.sleep(500).await;
        let file = Path::new("/var/lib/kubelet/pods/u/volumes/kubernetes.io~configmap/v/..data/k");
        assert_eq!(world.disk.read(file).await.expect("there"), b"one");
        node.api.take_requests();
        node.api.put("configmaps", map("two"));
        node.sleep(100).await;
        assert_eq!(world.disk.read(file).await.expect("there"), b"two");
        let asked = node.api.take_requests();
        assert!(!asked.contains_key("GET configmaps"), "the watch has brought it: {asked:?}");
        node.api.delete_gracefully("default/p", 1);
        node.sleep(3000).await;
        assert!(node.api.get("pods", "default/p").is_none());
        assert_eq!(node.api.watchers("configmaps"), 0);
        node.sleep(61_000).await;
        assert_eq!(node.api.watchers("services"), 0);
    });
}
