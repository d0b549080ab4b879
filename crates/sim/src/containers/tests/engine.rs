//! Sandboxes, images, commands, figures.

use std::collections::BTreeSet;

use daruma_world::containers::{ContainerError, ExecConfig};
use daruma_world::machines::Signal;

use super::*;
use crate::behaviour::Behaviour;
use crate::containers::BuiltInImage;

#[test]
fn a_pod_from_its_start_to_its_end() {
    lab(1, EngineConfig::default(), |lab| async move {
        let engine = lab.engine();
        let refused = engine.run_sandbox(SandboxConfig::default()).await;
        assert!(matches!(refused, Err(ContainerError::Network(text)) if text.ends_with("cni plugin not initialized")));
        assert!(engine.status().await.unwrap().network_problem.is_some());
        lab.network_ready().await;
        assert_eq!(engine.status().await.unwrap(), Default::default());

        let mut events = engine.events();
        let (sandbox, id) = lab.start("web", BOOTCAMP).await;
        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            assert_eq!((event.pod_uid.as_str(), event.sandbox_id == sandbox), ("uid-web", true));
            seen.push(event.container_id.is_some());
        }
        assert_eq!(seen, [false, true]);
        let address = lab.address(&sandbox).await.unwrap();
        assert_eq!(address.to_string(), "10.244.1.2");
        let hello = "200 OK: Hello Kubernetes bootcamp! | Running on: web | v=1";
        assert_eq!(lab.get(address, 8080, "/any").await.unwrap(), hello);
        let mut forwarded = engine.port_forward(&sandbox, 8080).await.unwrap();
        forwarded.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        forwarded.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("v=1"), "{text}");
        assert!(engine.port_forward(&sandbox, 81).await.is_err());
        // The machine's own address is not the pod's.
        assert!(lab.get(lab.machine().address().into(), 8080, "/").await.is_err());
        lab.sleep(10).await;
        let log = lab.world().disk.read(Path::new("/var/log/pods/web/main/0.log")).await.unwrap();
        let log = String::from_utf8(log).unwrap();
        assert!(log.contains(" stdout F Kubernetes Bootcamp App Started At: 2026-"), "{log}");
        assert!(log.contains(" stdout F Running On: web | Total Requests: 2 | App Uptime: "), "{log}");

        assert!(engine.remove_container(&id).await.is_err(), "it runs");
        engine.stop_container(&id, Duration::from_secs(30)).await.unwrap();
        assert_eq!(lab.state(&id).await, "0 Completed");
        assert!(lab.get(address, 8080, "/").await.is_err());
        engine.remove_sandbox(&sandbox).await.unwrap();
        engine.remove_sandbox(&sandbox).await.unwrap();
        assert_eq!(engine.list_containers().await.unwrap(), []);
        assert_eq!(engine.list_sandboxes().await.unwrap(), []);
        assert!(lab.world().disk.read_dir(Path::new("/var/log/pods/web")).await.unwrap().is_empty());
        let next = lab.sandbox("next", false).await;
        assert_eq!(lab.address(&next).await.unwrap().to_string(), "10.244.1.3");
    });
}

#[test]
fn images() {
    let yaml = "images: {gone: {pullFails: not found}, 'secret:1': {pullFails: denied}, far.example/x: {pullFails: unreachable}, \
                own: {pullFails: it rains}, big: {size: 500Mi}, huge: {size: 2Gi}}";
    let builtin = BuiltInImage { name: "daruma.dev/daruma:v1".into(), size_bytes: 1, entrypoint: vec!["/daruma".into()] };
    let config = EngineConfig { images: [builtin].into(), ..behaving(yaml) };
    lab(1, config, |lab| async move {
        let engine = lab.engine();
        let prefix = |name: &str| format!("failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": ");
        for (image, wanted) in [
            ("gone", prefix("docker.io/library/gone:latest") + "docker.io/library/gone:latest: not found"),
            ("secret:1", prefix("docker.io/library/secret:1") + "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"),
            ("far.example/x", prefix("far.example/x:latest") + "failed to do request: Head \"https://far.example/v2/x/manifests/latest\": dial tcp: lookup far.example: i/o timeout"),
            ("own", "it rains".to_owned()),
            ("NO", "couldn't parse image reference \"NO\": invalid reference format".to_owned()),
            ("huge", "failed to pull and unpack image \"docker.io/library/huge:latest\": failed to extract layer: write: no space left on device".to_owned()),
        ] {
            assert_eq!(engine.pull_image(image, None).await.unwrap_err().to_string(), wanted);
        }
        let before = lab.world().disk.usage(Path::new("/var/lib")).await.unwrap().available_bytes;
        let started = lab.world().monotonic();
        let id = engine.pull_image("big", None).await.unwrap();
        let took = lab.world().monotonic().saturating_sub(started);
        assert!((10_000..11_000).contains(&took.as_millis()), "500 MiB at 50 MiB/s: {took:?}");
        let after = lab.world().disk.usage(Path::new("/var/lib")).await.unwrap().available_bytes;
        assert_eq!(before - after, 500 << 20);
        for name in ["big", "big:latest", "docker.io/library/big", &id] {
            assert_eq!(engine.image_status(name).await.unwrap().map(|image| image.id), Some(id.clone()), "{name}");
        }
        let pinned = engine.image_status("daruma.dev/daruma:v1").await.unwrap().unwrap();
        assert!(pinned.pinned && engine.remove_image(&pinned.id).await.is_err());
        let sandbox = lab.sandbox("web", true).await;
        let container = lab.create(&sandbox, "big", |_| {}).await;
        assert!(engine.remove_image("big").await.is_err(), "a container needs it");
        engine.remove_container(&container).await.unwrap();
        engine.remove_image("big").await.unwrap();
        engine.remove_image("big").await.unwrap();
        assert_eq!(engine.list_images().await.unwrap().len(), 1);
        engine.remove_sandbox(&sandbox).await.unwrap();
        assert_eq!(lab.world().disk.usage(Path::new("/var/lib")).await.unwrap().available_bytes, before);
    });
}

#[test]
fn commands() {
    let yaml = "images: {web: {readyAfter: 2s, exec: [\
                {command: 'cat *', code: 1, stderr: 'none on ${NODE_NAME}'}, {command: slow, delay: 5s, stdout: done}]}}";
    lab(1, behaving(yaml), |lab| async move {
        lab.network_ready().await;
        let (_, id) = lab.start("web", "web").await;
        let engine = lab.engine();
        let run = |command: &str| {
            let command = command.split(' ').map(str::to_owned).collect();
            let answer = engine.exec_sync(&id, command, Duration::from_secs(1));
            async move {
                match answer.await {
                    Ok(Some(output)) => {
                        let text = [output.stdout, output.stderr].concat();
                        format!("{} {}", output.exit_code, String::from_utf8_lossy(&text))
                    }
                    Ok(None) => "timed out".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
        };
        assert_eq!(run("true").await, "1 true", "not ready yet");
        lab.sleep(2000).await;
        assert_eq!(run("true").await, "0 true");
        assert_eq!(run("cat /x").await, "1 none on m");
        assert_eq!(run("slow").await, "timed out");
        engine.set_unready(&id, true).unwrap();
        assert_eq!(run("true").await, "1 true");
        engine.set_unready(&id, false).unwrap();
        engine.signal(&id, Signal::Pause).unwrap();
        assert_eq!(run("true").await, "timed out");
        engine.signal(&id, Signal::Continue).unwrap();

        let config = ExecConfig { command: vec!["slow".to_owned()], tty: false, stdin: true };
        let mut session = engine.exec(&id, config).await.unwrap();
        assert_eq!(session.exit_code.await.unwrap(), 0);
        assert_eq!(session.stdout.recv().await.unwrap(), b"done");
        engine.stop_container(&id, Duration::ZERO).await.unwrap();
        assert_eq!(run("true").await, format!("container {id} is not running"));
    });
}

#[test]
fn readiness_and_start_delay() {
    let yaml = "images: {web: {startDelay: 1s, readyAfter: 3s, ports: {80: {http: {paths: {\
                /: {body: 'on ${NODE_NAME} at ${POD_IP}'}, /live: {always: true}}}}, 7: {tcp: {}}}}}";
    lab(1, behaving(yaml), |lab| async move {
        lab.network_ready().await;
        let (sandbox, id) = lab.start("web", "web").await;
        let at = lab.address(&sandbox).await.unwrap();
        assert_eq!(lab.get(at, 80, "/").await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        lab.sleep(1500).await;
        assert_eq!(lab.get(at, 80, "/").await.unwrap(), "503 Service Unavailable: not ready");
        assert_eq!(lab.get(at, 80, "/live").await.unwrap(), "200 OK: ");
        lab.sleep(2000).await;
        assert_eq!(lab.get(at, 80, "/").await.unwrap(), "200 OK: on m at 10.244.1.2");
        lab.engine().set_unready(&id, true).unwrap();
        assert_eq!(lab.get(at, 80, "/").await.unwrap(), "503 Service Unavailable: not ready");
        let mut echo = lab.world().net.connect(SocketAddr::new(at, 7)).await.unwrap();
        echo.write_all(b"abc").await.unwrap();
        let mut back = [0; 3];
        echo.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"abc");
        // A process that holds still accepts and says nothing.
        lab.engine().signal(&id, Signal::Pause).unwrap();
        let world = lab.world();
        let silent = world.timeout(Duration::from_secs(5), Box::pin(get(&world, SocketAddr::new(at, 80), "/live"))).await;
        assert!(silent.is_err());
        lab.engine().signal(&id, Signal::Continue).unwrap();
        assert_eq!(lab.get(at, 80, "/live").await.unwrap(), "200 OK: ");
    });
}

#[test]
fn a_port_that_is_taken_ends_the_second_container() {
    let yaml = "images: {web: {ports: {80: {tcp: {}}}}}";
    lab(1, behaving(yaml), |lab| async move {
        let mut states = Vec::new();
        for name in ["a", "b"] {
            let sandbox = lab.sandbox(name, true).await;
            let id = lab.create(&sandbox, "web", |_| {}).await;
            lab.engine().start_container(&id).await.unwrap();
            lab.sleep(10).await;
            states.push(lab.state(&id).await);
        }
        assert_eq!(states, ["running", "1 Error"]);
    });
}

#[test]
fn figures() {
    let yaml = "images: {web: {cpuMillis: 500, memory: 64Mi, disk: {bytes: 100Mi, over: 10s}}}";
    lab(1, behaving(yaml), |lab| async move {
        lab.network_ready().await;
        let free = || async { lab.world().disk.usage(Path::new("/var/lib")).await.unwrap().available_bytes };
        let (_, id) = lab.start("web", "web").await;
        let before = free().await;
        lab.sleep(4000).await;
        let stats = lab.engine().stats().await.unwrap();
        let one = &stats[0].containers[0];
        assert_eq!((one.container_id == id, one.cpu_ns / 100_000_000, one.memory_working_set_bytes), (true, 20, 64 << 20));
        assert_eq!(one.root_fs_used_bytes >> 20, 40);
        assert_eq!(lab.engine().usage().memory_bytes, 64 << 20);
        assert!((29 << 20..42 << 20).contains(&(before - free().await)), "the disk follows within a second");
        lab.sleep(10_000).await;
        assert!((99 << 20..=101 << 20).contains(&(before - free().await)));
        lab.engine().stop_container(&id, Duration::ZERO).await.unwrap();
        lab.engine().remove_container(&id).await.unwrap();
        assert!(free().await >= before, "its layer is gone");
    });
}

#[test]
fn what_all_containers_use_together() {
    let yaml = "images: {web: {cpuMillis: 500, memory: 64Mi}, growing: {cpuMillis: 1000, memory: 1Mi, \
                memoryGrowth: [{after: 60s, to: 2Mi}]}}";
    lab(1, behaving(yaml), |lab| async move {
        lab.network_ready().await;
        // As one asks each container: the CPU time of a second in thousandths of a core, and memory in MiB.
        let second = || async {
            let before = lab.engine().usage();
            lab.sleep(1000).await;
            let after = lab.engine().usage();
            let single: u64 =
                lab.engine().stats().await.unwrap().iter().flat_map(|stats| &stats.containers).map(|one| one.cpu_ns).sum();
            assert_eq!(after.cpu_ns, single);
            ((after.cpu_ns - before.cpu_ns).div_ceil(1_000_000), after.memory_bytes >> 20, after.tasks)
        };
        let (_, first) = lab.start("first", "web").await;
        lab.start("second", "web").await;
        assert_eq!(second().await, (1000, 128, 2));
        lab.engine().signal(&first, Signal::Pause).unwrap();
        assert_eq!(second().await, (500, 128, 2));
        lab.engine().signal(&first, Signal::Continue).unwrap();
        assert_eq!(second().await, (1000, 128, 2));
        lab.start("third", "growing").await;
        assert_eq!(second().await, (2000, 129, 3));
        lab.sleep(60_000).await;
        assert_eq!(second().await, (2000, 130, 3));
        lab.engine().behave("web", Behaviour { cpu_millis: 100, ..Behaviour::default() });
        assert_eq!(second().await, (1200, 2, 3));
    });
}

#[test]
fn steady_pods_cost_no_task() {
    lab(1, EngineConfig::default(), |lab| async move {
        lab.network_ready().await;
        lab.sleep(1000).await;
        let before = lab.machine().init().task_count();
        let mut addresses = BTreeSet::new();
        for number in 0..100 {
            let (sandbox, _) = lab.start(&format!("web-{number}"), BOOTCAMP).await;
            addresses.extend(lab.address(&sandbox).await);
        }
        lab.sleep(1000).await;
        assert_eq!((addresses.len(), lab.machine().init().task_count()), (100, before));
        let last = *addresses.last().unwrap();
        assert!(lab.get(last, 8080, "/").await.unwrap().starts_with("200 OK"));
        lab.sleep(1000).await;
        assert_eq!(lab.machine().init().task_count(), before);
    });
}

#[test]
fn a_seed_tells_all() {
    let run = |seed| {
        lab(seed, EngineConfig::default(), |lab| async move {
            lab.network_ready().await;
            let (sandbox, id) = lab.start("web", BOOTCAMP).await;
            (sandbox, id, lab.world().monotonic())
        })
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
