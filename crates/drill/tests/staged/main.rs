//! Drills played on a stage of cardboard: which hand is laid on which switch, what is recorded, what is taken back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake_machines;
mod fake_server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daruma_drill::file::parse;
use daruma_drill::record::{EntryKind, Record};
use daruma_drill::{Drill, Options, Stage, WorldKind, run_with, undo};
use daruma_world::World;
use fake_machines::FakeMachines;
use fake_server::FakeServer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Bench {
    world: World,
    server: FakeServer,
    machines: FakeMachines,
    stage: Stage,
}

impl Bench {
    fn new(world: &World) -> Self {
        let (server, machines) = (FakeServer::default(), FakeMachines::new(world));
        for name in ["controller-0", "worker-0", "worker-1"] {
            server.set(&format!("/api/v1/nodes/{name}"), node(name, "True"));
        }
        server.set("/apis/apps/v1/namespaces/default/deployments/web", deployment());
        for (name, node) in [("web-abc-1", "worker-0"), ("web-abc-2", "worker-1")] {
            server.set(&format!("/api/v1/namespaces/default/pods/{name}"), pod(name, node));
        }
        let stage = Stage {
            kind: WorldKind::Sim,
            world: world.clone(),
            client: server.client(world),
            machines: Arc::new(machines.clone()),
        };
        Self { world: world.clone(), server, machines, stage }
    }

    async fn play(&self, rest: &str) -> Record {
        self.play_for(rest, &Options::default(), Duration::from_secs(100_000)).await
    }

    async fn play_for(&self, rest: &str, options: &Options, interrupt: Duration) -> Record {
        run_with(&self.stage, &drill(rest), options, &mut (), self.world.sleep(interrupt)).await
    }
}

fn drill(rest: &str) -> Drill {
    let text = format!("apiVersion: daruma.dev/v1\nkind: Drill\nmetadata: {{name: test}}\nspec:\n{rest}");
    parse("test.yaml", &text, &BTreeMap::new(), &|_| Err("there are no files".to_owned()))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn node(name: &str, ready: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": name, "labels": {"name": name}},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "addresses": [{"type": "InternalIP", "address": daruma_sim::OUTSIDE_ADDRESS.to_string()}],
        },
    })
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
    })
}

fn pod(name: &str, node: &str) -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "uid": "r", "controller": true});
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web", "pod-template-hash": "abc"}, "ownerReferences": [owner]},
        "spec": {"nodeName": node, "containers": [{"name": "web"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "web", "ready": true, "restartCount": 0, "containerID": "test://c1", "state": {"running": {}}}],
        },
    })
}

#[test]
fn each_fault_and_what_takes_it_back() {
    for (step, asked) in [
        ("fault: power-off, target: {machine: worker-1}", &["power off worker-1", "power on worker-1"][..]),
        ("fault: power-off, target: {nodeOf: {workload: deployment/web, nth: 1}}", &["power off worker-1", "power on worker-1"]),
        ("fault: shutdown, target: {nodes: name=worker-0}", &["shutdown worker-0", "power on worker-0"]),
        ("fault: reset, target: {machines: [worker-0, worker-1]}", &["reset worker-0", "reset worker-1"]),
        ("fault: hang, target: {machine: worker-1}", &["hang worker-1", "resume worker-1"]),
        ("fault: cut, target: {machine: worker-1}", &["2 link faults", "0 link faults"]),
        ("fault: cut-one-way, target: {machine: worker-1, to: {machine: worker-0}}", &["1 link faults", "0 link faults"]),
        (
            "fault: disk-full, target: {machine: worker-1}",
            &["press worker-1 Disk { leave_bytes: 67108864 }", "release worker-1 7"],
        ),
        (
            "fault: memory-pressure, target: {machine: worker-1}, with: {bytes: 1Gi}",
            &["press worker-1 Memory { bytes: 1073741824 }", "release worker-1 7"],
        ),
        (
            "fault: kubelet, target: {machine: worker-1}, with: {how: stop}",
            &["Stop Service(\"kubelet\") on worker-1", "Start Service(\"kubelet\") on worker-1"],
        ),
        ("fault: kubelet, target: {machine: worker-1}, with: {how: restart}", &["Terminate Service(\"kubelet\") on worker-1"]),
        (
            "fault: clock-skew, target: {machine: worker-1}, with: {offsetMs: -50}",
            &["clock of worker-1 -50", "clock of worker-1 0"],
        ),
        ("fault: kill-container, target: {pod: {selector: app=web}}", &["Kill Container(\"c1\") on worker-0"]),
        (
            "fault: readiness-failure, target: {pod: {name: web-abc-2}}",
            &["Pause Container(\"c1\") on worker-1", "Continue Container(\"c1\") on worker-1"],
        ),
    ] {
        daruma_sim::run(1, |world| async move {
            let bench = Bench::new(&world);
            let record = bench.play(&format!("  steps: [{{{step}}}]\n")).await;
            assert_eq!(record.aborted, None, "{step}");
            assert_eq!(bench.machines.take_asked(), asked, "{step}");
            let undone = record.timeline.iter().filter(|entry| entry.kind == EntryKind::Undo).count();
            assert_eq!(
                undone,
                asked.len()
                    - record
                        .timeline
                        .iter()
                        .filter(|entry| entry.kind == EntryKind::Fault)
                        .map(|entry| entry.machines.len())
                        .sum::<usize>()
                        .max(1),
                "{step}"
            );
        });
    }
}

#[test]
fn a_template_is_patched_and_patched_back() {
    daruma_sim::run(1, |world| async move {
        let bench = Bench::new(&world);
        let path = "/apis/apps/v1/namespaces/default/deployments/web";
        let before = bench.server.object(path).unwrap()["spec"].clone();
        for fault in ["image-pull-failure", "crash-on-start", "out-of-memory"] {
            let options = Options::default();
            let steps = format!("  steps: [{{fault: {fault}, target: {{workload: deployment/web}}}}, {{sleep: 1h}}]\n");
            let play = bench.play_for(&steps, &options, Duration::from_secs(10));
            let look = async {
                world.sleep(Duration::from_secs(5)).await;
                assert_ne!(bench.server.object(path).unwrap()["spec"], before, "{fault}");
            };
            let (record, ()) = futures::join!(play, look);
            assert_eq!(record.aborted.as_deref(), Some("interrupted"), "{fault}");
            assert_eq!(bench.server.object(path).unwrap()["spec"], before, "{fault}");
        }
    });
}

#[test]
fn all_is_taken_back_in_reverse_order_when_a_step_fails() {
    daruma_sim::run(1, |world| async move {
        let bench = Bench::new(&world);
        let record = bench
            .play(
                "  steps:
  - {fault: hang, target: {machine: worker-1}}
  - {fault: partition, target: {machine: worker-0, to: {machine: controller-0}}}
  - {fault: power-off, target: {machine: worker-0}}
  - {waitFor: {nodeNotReady: worker-1, limit: 60s}}
  - {note: never}
",
            )
            .await;
        assert_eq!(record.aborted.as_deref(), Some("waited 1m in vain: worker-1 is not Ready"));
        assert_eq!(
            bench.machines.take_asked(),
            ["hang worker-1", "2 link faults", "power off worker-0", "power on worker-0", "0 link faults", "resume worker-1"]
        );
        assert!(record.took_ms < 70_000 && record.timeline.iter().all(|entry| entry.text != "never"));
    });
}

#[test]
fn the_next_command_takes_back_what_a_killed_one_left() {
    daruma_sim::run(1, |world| async move {
        let bench = Bench::new(&world);
        let journal = PathBuf::from("/undo.json");
        let options = Options { journal: Some(journal.clone()), ..Options::default() };
        let steps =
            "  steps: [{fault: hang, target: {machine: worker-1}}, {fault: cut, target: {machine: worker-0}}, {sleep: 1h}]\n";
        let killed = Box::pin(bench.play_for(steps, &options, Duration::from_secs(3600)));
        let _ = futures::future::select(killed, world.sleep(Duration::from_secs(60))).await;
        assert_eq!(bench.machines.take_asked(), ["hang worker-1", "2 link faults"]);
        assert_eq!(undo::recover(&bench.stage, &journal).await.unwrap(), ["2 links are mended", "worker-1 goes on"]);
        assert_eq!(bench.machines.take_asked(), ["0 link faults", "resume worker-1"]);
        assert_eq!(bench.machines.links(), 0);
        assert!(undo::recover(&bench.stage, &journal).await.unwrap().is_empty());
        bench.world.disk.write(&journal, b"{".to_vec(), daruma_world::disk::WriteOptions::default()).await.unwrap();
        let error = undo::recover(&bench.stage, &journal).await.unwrap_err().to_string();
        assert!(error.starts_with("journal of undo /undo.json: "), "{error}");
    });
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_touched() {
    daruma_sim::run(1, |world| async move {
        let bench = Bench::new(&world);
        bench.machines.refuse("no such thing in this kernel");
        let record = bench.play("  manifests: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}]\n  steps: [{note: x}, {fault: hang, target: {machine: worker-1}}]\n").await;
        let why = "refused before anything was touched: spec.steps[1].fault: no such thing in this kernel";
        assert_eq!(record.aborted.as_deref(), Some(why));
        assert_eq!((bench.machines.take_asked().len(), bench.server.take_writes().len()), (0, 0));
    });
}

#[test]
fn an_engine_without_a_service_of_its_own_is_the_kubelet() {
    daruma_sim::run(1, |world| async move {
        let bench = Bench::new(&world);
        let step = "{fault: container-engine, target: {machine: worker-1}, with: {how: stop}}";
        let record = bench.play(&format!("  steps: [{step}]\n")).await;
        assert_eq!(record.aborted, None);
        let asked = bench.machines.take_asked();
        assert_eq!(asked, [r#"Stop Service("kubelet") on worker-1"#, r#"Start Service("kubelet") on worker-1"#]);
        let said = record.timeline.iter().find(|entry| entry.kind == EntryKind::Fault).map(|entry| entry.text.as_str());
        assert_eq!(said, Some("container-engine: kubelet, which is the container engine here, stopped"));
    });
}

#[test]
fn steps_do_what_kubectl_does() {
    for (step, writes, said) in [
        (
            "scale: {workload: deployment/web, replicas: 5}",
            &["PATCH /apis/apps/v1/namespaces/default/deployments/web"][..],
            "scaled to 5",
        ),
        ("restart: deployment/web", &["PATCH /apis/apps/v1/namespaces/default/deployments/web"], "restarted"),
        ("cordon: {machine: worker-1}", &["PATCH /api/v1/nodes/worker-1"], "cordoned"),
        (
            "drain: {target: {machine: worker-1}}",
            &["PATCH /api/v1/nodes/worker-1", "POST /api/v1/namespaces/default/pods/web-abc-2/eviction"],
            "drained",
        ),
        (
            "apply: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}]",
            &["POST /api/v1/namespaces/default/configmaps"],
            "created",
        ),
        (
            "delete: [{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}]",
            &["DELETE /api/v1/namespaces/default/configmaps/x"],
            "was not there",
        ),
        ("patch: {kind: Node, name: worker-0, type: merge, patch: {a: b}}", &["PATCH /api/v1/nodes/worker-0"], "patched"),
        ("view: get pods", &[], "NAME        READY   STATUS    RESTARTS   AGE\nweb-abc-1   1/1     Running   0"),
        (
            "waitFor: {pods: {workload: deployment/web, status: [Running], count: {exactly: 2}}}",
            &[],
            "exactly 2 pods of deployment/web Running: after 0.0 s",
        ),
        ("waitFor: {available: deployment/web}", &[], "deployment/web is available"),
        (
            "fault: force-delete-pod, target: {pod: {name: web-abc-1}}",
            &["DELETE /api/v1/namespaces/default/pods/web-abc-1"],
            "force deleted on worker-0",
        ),
    ] {
        daruma_sim::run(1, |world| async move {
            let bench = Bench::new(&world);
            let record = bench.play(&format!("  steps: [{{{step}}}]\n  convergeWithin: 0s\n")).await;
            assert_eq!(record.aborted, None, "{step}");
            assert_eq!(bench.server.take_writes(), writes, "{step}");
            assert!(record.timeline.iter().any(|entry| entry.text.contains(said)), "{step}: {:#?}", record.timeline);
        });
    }
}

#[test]
fn what_was_left_behind_is_told() {
    daruma_sim::run(1, |world| async move {
        let bench = Bench::new(&world);
        let record = bench.play("  steps: [{fault: reset, target: {machine: worker-1}}]\n").await;
        assert_eq!(record.left_behind, ["container ghost lives on worker-1, and no pod of the API has it"]);
    });
}

#[test]
fn probes_and_writers_are_recorded() {
    daruma_sim::run(1, |world| async move {
        let bench = Bench::new(&world);
        let ports = json!([{"port": 80, "nodePort": 30080}]);
        let service = json!({"metadata": {"name": "web", "namespace": "default", "uid": "s"}, "spec": {"ports": ports}});
        bench.server.set("/api/v1/namespaces/default/services/web", service);
        let mut listener = world.net.listen(([0, 0, 0, 0], 30080).into()).await.unwrap();
        world.spawn("application", async move {
            for count in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = match count % 10 {
                    9 => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                    _ => "HTTP/1.1 200 OK\r\n\r\nHello | Running on: web-abc-1 | v=1\n",
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let server = bench.server.clone();
        let later = world.clone();
        world.spawn("a node dies", async move {
            later.sleep(Duration::from_secs(20)).await;
            server.set("/api/v1/nodes/worker-1", node("worker-1", "Unknown"));
        });
        let record = bench
            .play(
                "  probes:
  - {name: web, http: {to: {service: web}}}
  - {name: nobody, tcp: {service: gone}}
  - {name: orders, interval: 500ms, write: {}}
  steps:
  - {waitFor: {nodeNotReady: worker-1, for: 5s}}
  - {at: 40s, note: done}
  convergeWithin: 0s
",
            )
            .await;
        assert_eq!(record.aborted, None);
        let of = |probe: &str| record.requests.iter().filter(|request| request.probe == probe).cloned().collect::<Vec<_>>();
        let web = of("web");
        assert_eq!(web.len(), 41, "{web:#?}");
        assert_eq!(web.iter().filter(|request| request.error.as_deref() == Some("status 503")).count(), 4);
        assert!(web.iter().all(|request| request.error.is_some() || request.by == "web-abc-1"));
        assert!(of("nobody").iter().all(|request| request.error.as_deref() == Some("there is no service default/gone")));
        assert!(record.writes.len() >= 80 && record.writes.iter().all(|write| write.kept), "{}", record.writes.len());
        assert!(record.nodes.iter().any(|state| state.node == "worker-1" && state.ready == "Unknown" && state.at_ms > 19_000));
        assert!(record.pods.iter().all(|state| state.workload == "deployment/web" && state.status == "Running"));
        assert!(record.replicas.iter().any(|state| state.workload == "default/deployment/web" && state.available == 2));
    });
}
