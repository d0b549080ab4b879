//! What happens when: deadlines, mounts that fail, nodes that are deleted, init containers after a reboot.

use std::path::Path;
use std::time::Duration;

use daruma_sim::containers::Behaviour;
use daruma_world::disk::WriteOptions;
use daruma_world::machines::Signal;
use serde_json::json;

use super::Node;

#[test]
fn an_active_deadline() {
    daruma_sim::run(1, |world| async move {
        let node = Node::new(&world);
        node.start("b1");
        node.pod(json!({"activeDeadlineSeconds": 90, "containers": [{"name": "a", "image": "web"}]}));
        node.sleep(89_000).await;
        assert_eq!(node.end_of("p").0, "Running");
        node.sleep(2000).await;
        let message = "Pod was active on the node longer than the specified deadline";
        assert_eq!(node.end_of("p"), ("Failed".into(), "DeadlineExceeded".into(), message.into()));
        assert_eq!(node.api.events("DeadlineExceeded").len(), 1);
    });
}

#[test]
fn mounts_that_fail_are_tried_ever_more_rarely() {
    daruma_sim::run(2, |world| async move {
        let node = Node::new(&world);
        node.start("b1");
        node.pod(
            json!({"containers": [{"name": "a", "image": "web"}], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
        );
        // After 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 and 63.5 seconds, then every 122 seconds.
        for (until_ms, times) in [(1_000, 2), (10_000, 5), (60_000, 7), (120_000, 8)] {
            node.sleep(until_ms - u64::try_from(world.monotonic().as_millis()).expect("short")).await;
            let events = node.api.events("FailedMount");
            let message = "MountVolume.SetUp failed for volume \"v\" : secret \"s\" not found";
            assert_eq!(events, [(message.to_owned(), times)], "after {until_ms} ms");
        }
        // What appears is seen at once.
        node.api.put("secrets", json!({"metadata": {"name": "s", "namespace": "default"}, "data": {"k": "djE="}}));
        node.sleep(1000).await;
        assert_eq!(node.end_of("p").0, "Running");
    });
}

#[test]
fn a_cordon_is_told_with_the_next_status() {
    daruma_sim::run(4, |world| async move {
        let node = Node::new(&world);
        node.start("b1");
        node.sleep(1000).await;
        let cordon = |is_cordoned: bool| {
            let mut object = node.api.get("nodes", "w").expect("registered");
            object["spec"]["unschedulable"] = is_cordoned.into();
            node.api.put("nodes", object);
        };
        let told = || ["NodeNotSchedulable", "NodeSchedulable"].map(|reason| node.api.events(reason));
        assert_eq!(told(), [vec![], vec![]]);
        cordon(true);
        node.sleep(10_000).await;
        let event = |reason: &str| vec![(format!("Node w status is now: {reason}"), 1)];
        assert_eq!(told(), [event("NodeNotSchedulable"), vec![]]);
        cordon(false);
        node.sleep(30_000).await;
        assert_eq!(told(), [event("NodeNotSchedulable"), event("NodeSchedulable")]);
    });
}

#[test]
fn a_deleted_node_comes_back_with_the_next_kubelet_only() {
    daruma_sim::run(3, |world| async move {
        let node = Node::new(&world);
        let label = |config: &mut daruma_kubelet::KubeletConfig| drop(config.node_labels.insert("k".into(), "v".into()));
        let running = node.start_with("b1", label);
        node.sleep(1000).await;
        let first = node.api.get("nodes", "w").expect("registered");
        node.api.remove("nodes", "w");
        node.sleep(60_000).await;
        assert!(node.api.get("nodes", "w").is_none(), "who deletes it means it");
        running.kill();
        let running = node.start_with("b1", label);
        node.sleep(1000).await;
        let second = node.api.get("nodes", "w").expect("registered anew");
        assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
        assert_eq!(second["metadata"]["labels"]["k"], "v");
        assert_eq!(node.condition("nodes", "w", "Ready"), "True/KubeletReady");
        // A node that exists keeps what others wrote, and gets the labels that this kubelet wants.
        running.kill();
        let mut known = second;
        known["metadata"]["labels"] = json!({"mine": "1"});
        known["spec"] = json!({"unschedulable": true});
        node.api.put("nodes", known);
        node.start_with("b2", label);
        node.sleep(1000).await;
        let third = node.api.get("nodes", "w").expect("there");
        assert_eq!(third["metadata"]["labels"]["mine"], "1");
        assert_eq!(third["metadata"]["labels"]["k"], "v");
        assert_eq!(third["spec"]["unschedulable"], true);
        assert_eq!(third["status"]["nodeInfo"]["bootID"], "b2");
    });
}

#[test]
fn the_engine_is_asked_before_the_first_report() {
    // Each seed is another order of what a kubelet does at its start.
    daruma_sim::run_seeds(1, 20, |world| async move {
        let node = Node::new(&world);
        let reported = || {
            let boot = node.api.get("nodes", "w").map(|seen| seen["status"]["nodeInfo"]["bootID"].clone());
            (boot.unwrap_or_default(), node.condition("nodes", "w", "Ready"))
        };
        let first = node.start("b1");
        node.sleep(1000).await;
        assert_eq!(reported(), ("b1".into(), "True/KubeletReady".into()));
        first.kill();
        node.runtime.reset();
        let second = node.start("b2");
        node.sleep(1000).await;
        assert_eq!(reported(), ("b2".into(), "True/KubeletReady".into()));
        assert!(!node.api.reasons().contains(&"NodeNotReady".to_owned()), "it was Ready all along");
        // An engine that is not there is told.
        second.kill();
        node.runtime.control(Signal::Stop);
        node.start("b3");
        node.sleep(1000).await;
        assert_eq!(reported(), ("b3".into(), "False/KubeletNotReady".into()));
    });
}

#[test]
fn an_engine_is_down_when_it_was_not_well_for_half_a_minute() {
    for (harm, mend) in [(Signal::Pause, Signal::Continue), (Signal::Stop, Signal::Start)] {
        daruma_sim::run_seeds(1, 3, move |world| async move {
            let node = Node::new(&world);
            let ready = || node.condition("nodes", "w", "Ready");
            let message = || {
                let seen = node.api.get("nodes", "w").expect("it is registered");
                let conditions = seen["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
                ready["message"].as_str().unwrap_or_default().to_owned()
            };
            node.start("b1");
            node.sleep(5000).await;
            assert_eq!(ready(), "True/KubeletReady");
            node.runtime.control(harm);
            node.sleep(19_000).await;
            assert_eq!(ready(), "True/KubeletReady", "{harm:?}: not yet");
            node.sleep(25_000).await;
            assert_eq!(
                (ready().as_str(), message().as_str()),
                ("False/KubeletNotReady", "container runtime is down"),
                "{harm:?}"
            );
            node.sleep(150_000).await;
            let silent = message();
            let expected = "[container runtime is down, PLEG is not healthy: pleg was last seen active 3m";
            assert!(silent.starts_with(expected) && silent.ends_with("ago; threshold is 3m0s]"), "{harm:?}: {silent}");
            node.runtime.control(mend);
            node.sleep(3000).await;
            assert_eq!(ready(), "True/KubeletReady", "{mend:?}");
        });
    }
}

#[test]
fn init_containers_run_again_after_a_reboot() {
    daruma_sim::run(4, |world| async move {
        let node = Node::new(&world);
        node.runtime.behave("init", Behaviour { exits: Some((Duration::from_secs(5), 0)), ..Behaviour::default() });
        let first = node.start("b1");
        node.pod(json!({
            "initContainers": [{"name": "i", "image": "init"}], "containers": [{"name": "a", "image": "web"}],
        }));
        node.sleep(2000).await;
        assert_eq!(node.condition("pods", "default/p", "Initialized"), "False/ContainersNotInitialized");
        node.sleep(4000).await;
        assert_eq!(node.condition("pods", "default/p", "Initialized"), "True/-");
        first.kill();
        node.runtime.reset();
        node.start("b2");
        node.sleep(2000).await;
        // As real kubelets of this version have it: what has run before counts as initialized, so that `kubectl get` shows
        // the dead container's `Error` while the init containers run once more.
        let pod = node.api.get("pods", "default/p").expect("there");
        assert!(pod["status"]["initContainerStatuses"][0]["state"]["running"].is_object(), "{}", pod["status"]);
        assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 255);
        assert_eq!(
            (node.condition("pods", "default/p", "Initialized").as_str(), node.end_of("p").0.as_str()),
            ("True/-", "Pending")
        );
        node.sleep(4000).await;
        assert_eq!(node.api.history().last().map(String::as_str), Some("1/1 running 1 10.244.1.3 Running"));
    });
}

#[test]
fn places_inside_of_volumes() {
    use daruma_world::containers::ContainerRuntime as _;
    daruma_sim::run(5, |world| async move {
        let node = Node::new(&world);
        node.api.put("configmaps", json!({"metadata": {"name": "c", "namespace": "default"}, "data": {"file": "text"}}));
        world.disk.create_dir_all(Path::new("/host/d"), 0o755).await.expect("made");
        world.disk.write(Path::new("/host/d/f"), b"x".to_vec(), WriteOptions::default()).await.expect("written");
        world.disk.symlink(Path::new("/etc"), Path::new("/host/out")).await.expect("linked");
        node.start("b1");
        let mount = |volume: &str, sub: &str| json!({"name": volume, "mountPath": format!("/m/{volume}/{sub}"), "subPath": sub});
        let volumes = json!([{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}},
            {"name": "h", "hostPath": {"path": "/host"}}]);
        let mounts = json!([mount("e", "new/deep"), mount("c", "file"), mount("h", "d/f")]);
        node.pod(json!({"volumes": volumes, "containers": [{"name": "a", "image": "web", "volumeMounts": mounts}]}));
        node.sleep(1000).await;
        assert_eq!(node.end_of("p").0, "Running", "{:?}", node.api.events("Failed"));
        let containers = node.runtime.list_containers().await.expect("listed");
        let host = |container: &str| {
            let mounts = &containers[0].config.mounts;
            let found = mounts.iter().find(|mount| mount.container_path == Path::new(container)).expect("mounted");
            found.host_path.clone()
        };
        // A directory is made where there is none, with the volume's mode; files are mounted as they are.
        let made = host("/m/e/new/deep");
        assert!(made.ends_with("volumes/kubernetes.io~empty-dir/e/new/deep"), "{}", made.display());
        let facts = world.disk.metadata(&made).await.expect("there");
        assert_eq!((facts.kind, facts.mode & 0o777), (daruma_world::disk::EntryKind::Directory, 0o777));
        assert_eq!(world.disk.read(&host("/m/c/file")).await.expect("a file"), b"text");
        assert_eq!(host("/m/h/d/f"), Path::new("/host/d/f"));
        // What leads out of the volume is refused.
        for (name, sub) in [("dots", "../x"), ("link", "out/passwd")] {
            let spec =
                json!({"volumes": volumes, "containers": [{"name": "a", "image": "web", "volumeMounts": [mount("h", sub)]}]});
            node.pod_named(name, spec);
            node.sleep(1000).await;
            let pod = node.api.get("pods", &format!("default/{name}")).expect("there");
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            assert_eq!(waiting["reason"], "CreateContainerConfigError", "{name}: {}", pod["status"]);
        }
    });
}

#[test]
fn connections_are_given_up_after_the_second_heartbeat_that_failed() {
    daruma_sim::run(8, |world| async move {
        let node = Node::new(&world);
        node.start("b1");
        node.sleep(2_000).await;
        // The lease is renewed every 10 s, an answer is waited for 10 s.
        node.api.set_silent(true);
        node.sleep(18_000).await;
        assert_eq!(node.api.closed(), 0, "one failure is none");
        node.sleep(13_000).await;
        assert!(node.api.closed() > 0);
        node.api.set_silent(false);
        node.sleep(12_000).await;
        let renewed = node.api.get("leases", "kube-node-lease/w").expect("there")["spec"]["renewTime"].clone();
        node.sleep(11_000).await;
        assert_ne!(node.api.get("leases", "kube-node-lease/w").expect("there")["spec"]["renewTime"], renewed, "it beats again");
        // Refusals come at once, so five attempts follow each other, and four are failures after the first.
        let before = node.api.closed();
        node.api.set_down(true);
        node.sleep(11_000).await;
        let closed = node.api.closed() - before;
        assert!(closed >= 4 && closed.is_multiple_of(4), "{closed}");
    });
}
