//! The node runs out of memory, disk or process ids.

use std::path::Path;

use daruma_kubelet::parse_thresholds;
use daruma_sim::containers::Behaviour;
use daruma_world::disk::WriteOptions;
use daruma_world::hardware::Load;
use serde_json::json;

use super::Node;

const MIB: u64 = 1 << 20;

#[test]
fn memory_runs_out() {
    daruma_sim::run(1, |world| async move {
        let node = Node::new(&world);
        for (image, mib) in [("small", 50), ("large", 200)] {
            node.runtime.behave(image, Behaviour { memory_bytes: mib * MIB, ..Behaviour::default() });
        }
        node.start("b1");
        let one =
            |image: &str, request: &str| json!([{"name": "a", "image": image, "resources": {"requests": {"memory": request}}}]);
        node.pod_named("modest", json!({"containers": one("large", "300Mi")}));
        node.pod_named("small", json!({"containers": one("small", "10Mi")}));
        node.pod_named("large", json!({"containers": one("large", "10Mi")}));
        node.pod_named("important", json!({"priority": 1000, "containers": one("large", "10Mi")}));
        node.sleep(5000).await;
        // 50 MiB of 1 GiB are left: of those above their request the least important and largest goes, one at a time.
        let set = |left: u64| {
            *node.load.lock().expect("no panic") = Load { memory_working_set_bytes: 1024 * MIB - left * MIB, ..Load::default() }
        };
        set(50);
        node.sleep(5500).await;
        let (phase, reason, message) = node.end_of("large");
        assert_eq!((phase.as_str(), reason.as_str()), ("Failed", "Evicted"));
        assert_eq!(
            message,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container a was using 200Mi, request is 10Mi, has larger consumption of memory. "
        );
        assert_eq!(node.condition("pods", "default/large", "DisruptionTarget"), "True/TerminationByKubelet");
        assert_eq!(node.condition("nodes", "w", "MemoryPressure"), "True/KubeletHasInsufficientMemory");
        set(500);
        node.sleep(20_000).await;
        for name in ["modest", "small", "important"] {
            assert_eq!(node.end_of(name).0, "Running", "{name}");
        }
        // While the condition is held, pods of no request are not taken.
        node.pod_named("late", json!({"containers": [{"name": "a", "image": "small"}]}));
        node.sleep(500).await;
        assert_eq!(node.end_of("late").2, "Pod was rejected: The node had condition: [MemoryPressure]. ");
        node.sleep(270_000).await;
        assert_eq!(node.condition("nodes", "w", "MemoryPressure"), "True/KubeletHasInsufficientMemory");
        node.sleep(40_000).await;
        assert_eq!(node.condition("nodes", "w", "MemoryPressure"), "False/KubeletHasSufficientMemory");
    });
}

#[test]
fn the_disk_runs_full() {
    daruma_sim::run(2, |world| async move {
        let node = Node::new(&world);
        let root = Path::new("/var/lib/kubelet");
        world.disk.create_dir_all(root, 0o755).await.expect("made");
        world.disk.mount_memory(root, Some(MIB)).await.expect("mounted");
        node.start("b1");
        let spec = |priority: i32| json!({"priority": priority, "containers": [{"name": "a", "image": "web"}], "volumes": [{"name": "v", "emptyDir": {}}]});
        for (name, priority) in [("low", 0), ("large", 0), ("important", 5)] {
            node.pod_named(name, spec(priority));
        }
        node.sleep(5000).await;
        let fill = async |name: &str, bytes: usize| {
            let file = root.join(format!("pods/{name}/volumes/kubernetes.io~empty-dir/v/f"));
            world.disk.write(&file, vec![0; bytes], WriteOptions::default()).await.expect("written");
        };
        fill("low", 100_000).await;
        fill("large", 300_000).await;
        fill("important", 500_000).await;
        node.sleep(8000).await;
        let (phase, reason, message) = node.end_of("large");
        assert_eq!((phase.as_str(), reason.as_str()), ("Failed", "Evicted"), "{message}");
        assert!(message.starts_with("The node was low on resource: ephemeral-storage. Threshold quantity: "), "{message}");
        assert_eq!(node.condition("nodes", "w", "DiskPressure"), "True/KubeletHasDiskPressure");
        node.sleep(20_000).await;
        // Its volume went with it: there is room again, and nobody else has to go.
        assert_eq!((node.end_of("low").0.as_str(), node.end_of("important").0.as_str()), ("Running", "Running"));
    });
}

#[test]
fn process_ids_and_soft_thresholds() {
    daruma_sim::run(3, |world| async move {
        let node = Node::new(&world);
        node.start_with("b1", |config| {
            let soft = parse_thresholds(Some(""), "pid.available<10%", "pid.available=30s");
            config.eviction = soft.expect("they parse");
        });
        node.pod_named("low", json!({"containers": [{"name": "a", "image": "web"}]}));
        node.pod_named("high", json!({"priority": 9, "containers": [{"name": "a", "image": "web"}]}));
        node.sleep(1000).await;
        *node.load.lock().expect("no panic") = Load { tasks: 95, tasks_max: 100, ..Load::default() };
        node.sleep(25_000).await;
        assert_eq!(node.condition("nodes", "w", "PIDPressure"), "True/KubeletHasInsufficientPID");
        assert_eq!(node.end_of("low").0, "Running", "the threshold has a grace period");
        node.sleep(20_000).await;
        assert_eq!(node.end_of("low").1, "Evicted");
        assert_eq!(node.end_of("low").2, "The node was low on resource: pids. Threshold quantity: 10, available: 5. ");
    });
}

#[test]
fn a_volume_exceeds_its_limit() {
    daruma_sim::run(4, |world| async move {
        let node = Node::new(&world);
        node.start("b1");
        let volumes = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}]);
        node.pod(json!({"containers": [{"name": "a", "image": "web"}], "volumes": volumes}));
        node.sleep(1000).await;
        let file = Path::new("/var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/v/f");
        world.disk.write(file, vec![0; 9000], WriteOptions::default()).await.expect("written");
        node.sleep(12_000).await;
        assert_eq!(node.end_of("p").2, "Usage of EmptyDir volume \"v\" exceeds the limit \"1Ki\". ");
        assert_eq!(node.condition("pods", "default/p", "DisruptionTarget"), "-/-");
    });
}
