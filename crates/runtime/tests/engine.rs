//! The engine on the real kernel: name spaces, control groups, overlay file systems, shims.
//!
//! The test binary plays three parts: the test, the shim (`shim`), and the program in the
//! containers' image (`act`). It needs root; without, it says so and passes.

#![allow(unsafe_code, clippy::unwrap_used, reason = "a test that prepares a mount name space of its own")]
#![allow(clippy::disallowed_methods, reason = "there is no world but the real one here")]

#[path = "engine_parts/act.rs"]
mod act;
#[path = "engine_parts/image.rs"]
#[allow(dead_code, reason = "the registry's tests use the rest")]
mod image;
#[path = "engine_parts/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daruma_runtime::images::registry::Settings;
use daruma_runtime::{EmbeddedEngine, EngineConfig, builtin};
use daruma_world::containers::{
    ContainerConfig, ContainerError, ContainerRuntime, ContainerState, DnsConfig, ExecConfig, Mount, Propagation, Resources,
    SandboxConfig, Security, SharedNamespaces,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A place to run an engine in, removed at the end.
struct Place {
    directory: tempfile::TempDir,
    group: String,
}

impl Place {
    fn new(name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("dr").tempdir_in("/tmp").unwrap();
        builtin::prepare(&directory.path().join("builtin"), &std::env::current_exe().unwrap()).unwrap();
        Self { directory, group: format!("daruma-test-{name}-{}", std::process::id()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn engine(&self) -> EmbeddedEngine {
        let config = EngineConfig {
            root: self.path("root"),
            run_dir: self.path("run"),
            shim_exe: "/proc/self/exe".into(),
            network: Arc::new(world::NoNetwork),
            builtin_images: Some(self.path("builtin")),
            cgroup_mount: "/sys/fs/cgroup".into(),
            cgroup_root: self.group.clone(),
            min_oom_score_adj: None,
            registries: Settings { certs_dir: self.path("certs.d"), ca_file: None },
        };
        EmbeddedEngine::open(&world::world(), config).await.unwrap()
    }

    fn sandbox(&self) -> SandboxConfig {
        SandboxConfig {
            name: "p".to_owned(),
            namespace: "default".to_owned(),
            uid: "uid-1".to_owned(),
            hostname: "pod-1".to_owned(),
            log_directory: self.path("logs"),
            dns: DnsConfig {
                servers: vec!["10.96.0.10".to_owned()],
                searches: vec!["svc".to_owned()],
                options: vec!["ndots:5".to_owned()],
            },
            cgroup_parent: "kubepods/burstable/poduid-1".to_owned(),
            ..SandboxConfig::default()
        }
    }

    fn container(name: &str, act: &[&str]) -> ContainerConfig {
        ContainerConfig {
            name: name.to_owned(),
            image: builtin::DARUMA.to_owned(),
            args: std::iter::once("act").chain(act.iter().copied()).map(str::to_owned).collect(),
            log_path: format!("{name}/0.log").into(),
            ..ContainerConfig::default()
        }
    }

    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.path("logs").join(name).join("0.log")).unwrap_or_default();
        text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).flat_map(|line| [line, "\n"]).collect()
    }

    fn check_no_mounts(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let run = self.path("run");
        assert!(!mounts.contains(run.to_str().unwrap()), "mounts are left:\n{mounts}");
    }

    /// Checks that nothing is left: mounts, control groups.
    fn check_clean(&self) {
        self.check_no_mounts();
        for controller in ["memory", "cpu", "pids"] {
            let pods = Path::new("/sys/fs/cgroup").join(controller).join(&self.group).join("kubepods/burstable/poduid-1");
            assert!(!pods.exists(), "{} is left", pods.display());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Shims that a failed test has left; a killed shim takes its containers along.
        for entry in std::fs::read_dir(self.path("run/s")).into_iter().flatten().flatten() {
            let pid = std::fs::read_to_string(entry.path().join("pid")).unwrap_or_default();
            if let Ok(pid @ 2..) = pid.parse() {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = controller.path().join(&self.group);
            for below in ["kubepods/burstable/poduid-1", "kubepods/burstable", "kubepods", "daruma-shims", ""] {
                let _ = std::fs::remove_dir(group.join(below));
            }
        }
    }
}

async fn state(engine: &EmbeddedEngine, id: &str) -> ContainerState {
    engine.list_containers().await.unwrap().into_iter().find(|container| container.id == id).unwrap().state
}

async fn wait_exit(engine: &EmbeddedEngine, id: &str) -> (i32, String) {
    for _ in 0..1000 {
        if let ContainerState::Exited { exit_code, reason, .. } = state(engine, id).await {
            return (exit_code, reason);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the container does not end");
}

async fn start(engine: &EmbeddedEngine, sandbox: &str, config: ContainerConfig) -> String {
    let id = engine.create_container(sandbox, config).await.unwrap();
    engine.start_container(&id).await.unwrap();
    id
}

async fn exit_codes_and_logs() {
    let place = Place::new("exit");
    let engine = place.engine().await;
    let mut events = engine.events();
    let sandbox = engine.run_sandbox(place.sandbox()).await.unwrap();
    let id = start(&engine, &sandbox, Place::container("a", &["say", "hello"])).await;
    assert_eq!(wait_exit(&engine, &id).await, (0, "Completed".to_owned()));
    assert_eq!(place.log("a"), "hello\n");
    let id = start(&engine, &sandbox, Place::container("b", &["exit", "7"])).await;
    assert_eq!(wait_exit(&engine, &id).await, (7, "Error".to_owned()));
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.pod_uid, "uid-1");
        seen.push(event.container_id);
    }
    assert!(seen.contains(&Some(id)), "{seen:?}");

    let mut config = Place::container("c", &[]);
    config.command = vec!["foo".to_owned()];
    let id = engine.create_container(&sandbox, config).await.unwrap();
    let error = engine.start_container(&id).await.unwrap_err();
    assert!(error.to_string().starts_with("failed to create containerd task: "), "{error}");
    assert!(error.to_string().ends_with(r#"exec: "foo": executable file not found in $PATH"#), "{error}");
    assert_eq!(wait_exit(&engine, &id).await, (128, "StartError".to_owned()));

    engine.remove_sandbox(&sandbox).await.unwrap();
    assert!(engine.list_containers().await.unwrap().is_empty());
    place.check_clean();
}

async fn what_a_container_sees() {
    let place = Place::new("sees");
    let engine = place.engine().await;
    let sandbox = engine.run_sandbox(place.sandbox()).await.unwrap();
    std::fs::create_dir(place.path("vol")).unwrap();
    std::fs::write(place.path("vol/f"), "from the host").unwrap();
    let mut config = Place::container("a", &["look"]);
    config.mounts = vec![
        Mount {
            host_path: place.path("vol"),
            container_path: "/var/run/secrets/x".into(),
            read_only: true,
            propagation: Propagation::Private,
        },
        Mount {
            host_path: place.path("vol/f"),
            container_path: "/data/one".into(),
            read_only: false,
            propagation: Propagation::HostToContainer,
        },
    ];
    config.env = vec![("A".to_owned(), "1".to_owned())];
    config.security = Security { run_as_user: Some(65534), supplemental_groups: vec![77], ..Security::default() };
    config.working_dir = Some("/work/here".into());
    let id = start(&engine, &sandbox, config).await;
    assert_eq!(wait_exit(&engine, &id).await.0, 0, "{}", place.log("a"));
    let log = place.log("a");
    for wanted in [
        "pid 1",
        "uid 65534",
        "groups 77 65534",
        "hostname pod-1",
        "cwd /work/here",
        "env A=1",
        "env HOSTNAME=pod-1",
        "file from the host",
        "resolv search svc",
        "write /var/run/secrets/x/new: EROFS",
        "write /dev/null: ok",
        "write /dev/shm/new: ok",
        "write /dev/stderr: ok",
    ] {
        assert!(log.lines().any(|line| line.starts_with(wanted)), "{wanted} is missing in\n{log}");
    }
    assert!(log.contains("CapEff:\t0000000000000000"), "{log}");

    let mut config = Place::container("b", &["look"]);
    config.security = Security { read_only_root: true, ..Security::default() };
    let id = start(&engine, &sandbox, config).await;
    assert_eq!(wait_exit(&engine, &id).await.0, 0);
    assert!(place.log("b").contains("write /new: EROFS"), "{}", place.log("b"));
    assert!(place.log("b").contains("CapEff:\t00000000a80425fb"), "{}", place.log("b"));

    let mut config = Place::container("c", &["look"]);
    config.security = Security { privileged: true, ..Security::default() };
    let id = start(&engine, &sandbox, config).await;
    assert_eq!(wait_exit(&engine, &id).await.0, 0);
    assert!(place.log("c").contains("write /sys/fs/cgroup"), "{}", place.log("c"));
    engine.remove_sandbox(&sandbox).await.unwrap();
    place.check_clean();

    // One process tree for the pod, and the machine's network.
    let shared = SharedNamespaces { network: true, pod_pid: true, ..SharedNamespaces::default() };
    let sandbox = engine.run_sandbox(SandboxConfig { shared, ..place.sandbox() }).await.unwrap();
    let id = start(&engine, &sandbox, Place::container("d", &["look"])).await;
    assert_eq!(wait_exit(&engine, &id).await.0, 0);
    assert!(!place.log("d").contains("pid 1\n"), "{}", place.log("d"));
    engine.remove_sandbox(&sandbox).await.unwrap();
    place.check_clean();
}

async fn out_of_memory() {
    let place = Place::new("oom");
    let engine = place.engine().await;
    let sandbox = engine.run_sandbox(place.sandbox()).await.unwrap();
    let mut config = Place::container("a", &["hog"]);
    config.resources = Resources { memory_limit_bytes: Some(32 << 20), pids_limit: Some(50), ..Resources::default() };
    config.resources.oom_score_adj = 900;
    let id = start(&engine, &sandbox, config).await;
    assert_eq!(wait_exit(&engine, &id).await, (137, "OOMKilled".to_owned()));
    engine.remove_sandbox(&sandbox).await.unwrap();
    place.check_clean();
}

async fn stop_with_grace() {
    let place = Place::new("stop");
    let engine = place.engine().await;
    let sandbox = engine.run_sandbox(place.sandbox()).await.unwrap();
    let polite = start(&engine, &sandbox, Place::container("a", &["polite"])).await;
    let stubborn = start(&engine, &sandbox, Place::container("b", &["sleep"])).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    engine.stop_container(&polite, Duration::from_secs(10)).await.unwrap();
    assert_eq!(wait_exit(&engine, &polite).await, (3, "Error".to_owned()));
    let begun = Instant::now();
    engine.stop_container(&stubborn, Duration::from_millis(300)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(wait_exit(&engine, &stubborn).await, (137, "Error".to_owned()));
    let last = start(&engine, &sandbox, Place::container("c", &["sleep"])).await;
    engine.stop_sandbox(&sandbox).await.unwrap();
    assert_eq!(wait_exit(&engine, &last).await.0, 137);
    assert!(!engine.list_sandboxes().await.unwrap()[0].ready);
    engine.remove_sandbox(&sandbox).await.unwrap();
    engine.remove_sandbox(&sandbox).await.unwrap();
    place.check_clean();
}

async fn exec_attach_forward() {
    let place = Place::new("exec");
    let engine = place.engine().await;
    let sandbox = engine.run_sandbox(place.sandbox()).await.unwrap();
    let mut config = Place::container("a", &["echo-server"]);
    config.stdin = true;
    let id = start(&engine, &sandbox, config).await;
    let act = |words: &[&str]| {
        std::iter::once("daruma")
            .chain(std::iter::once("act"))
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let limit = Duration::from_secs(10);

    let output = engine.exec_sync(&id, act(&["say", "inside"]), limit).await.unwrap().unwrap();
    assert_eq!((&output.stdout[..], output.exit_code), (&b"inside\n"[..], 0));
    let begun = Instant::now();
    for _ in 0..20 {
        engine.exec_sync(&id, act(&["exit", "0"]), limit).await.unwrap();
    }
    println!("  exec: {:?} each", begun.elapsed() / 20);
    assert_eq!(engine.exec_sync(&id, act(&["exit", "9"]), limit).await.unwrap().unwrap().exit_code, 9);
    let error = engine.exec_sync(&id, vec!["nope".to_owned()], limit).await.unwrap_err();
    assert!(
        matches!(&error, ContainerError::Start(text) if text.contains(r#"exec: "nope": executable file not found in $PATH"#)),
        "{error}"
    );
    assert_eq!(engine.exec_sync(&id, act(&["sleep"]), Duration::from_millis(200)).await.unwrap(), None);

    let config = ExecConfig { command: act(&["cat"]), tty: false, stdin: true };
    let mut session = engine.exec(&id, config).await.unwrap();
    let stdin = session.stdin.take().unwrap();
    stdin.send(b"ping".to_vec()).await.unwrap();
    assert_eq!(session.stdout.recv().await.unwrap(), b"ping");
    drop(stdin);
    assert_eq!(session.exit_code.await.unwrap(), 0);

    let config = ExecConfig { command: act(&["cat"]), tty: true, stdin: true };
    let mut session = engine.exec(&id, config).await.unwrap();
    session.resize.send((80, 25)).await.unwrap();
    let stdin = session.stdin.take().unwrap();
    stdin.send(b"tty\n\x04".to_vec()).await.unwrap();
    let mut all = Vec::new();
    while let Some(data) = session.stdout.recv().await {
        all.extend(data);
    }
    assert_eq!(String::from_utf8_lossy(&all), "tty\r\ntty\r\n");
    assert_eq!(session.exit_code.await.unwrap(), 0);

    let mut session = engine.attach(&id, true, false).await.unwrap();
    session.stdin.as_ref().unwrap().send(b"line\n".to_vec()).await.unwrap();
    assert_eq!(session.stdout.recv().await.unwrap(), b"got line\n");

    let mut config = Place::container("t", &["cat"]);
    (config.stdin, config.tty) = (true, true);
    let terminal = start(&engine, &sandbox, config).await;
    let mut attached = engine.attach(&terminal, true, true).await.unwrap();
    attached.resize.send((100, 30)).await.unwrap();
    attached.stdin.as_ref().unwrap().send(b"hi\n".to_vec()).await.unwrap();
    let mut all = Vec::new();
    while !all.ends_with(b"hi\r\nhi\r\n") {
        all.extend(attached.stdout.recv().await.unwrap());
    }
    attached.stdin.as_ref().unwrap().send(b"\x04".to_vec()).await.unwrap();
    assert_eq!(attached.exit_code.await.unwrap(), 0);

    let mut stream = engine.port_forward(&sandbox, 8123).await.unwrap();
    stream.write_all(b"abc").await.unwrap();
    let mut answer = [0u8; 3];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"abc");
    assert!(engine.port_forward(&sandbox, 8124).await.is_err());

    let stats = engine.stats().await.unwrap();
    assert!(stats[0].containers[0].memory_working_set_bytes > 0 && stats[0].tasks > 0, "{stats:?}");
    let resources = Resources { memory_limit_bytes: Some(64 << 20), ..Resources::default() };
    engine.update_resources(&id, resources).await.unwrap();
    engine.reopen_log(&id).await.unwrap();
    engine.stop_container(&id, Duration::ZERO).await.unwrap();
    assert!(session.stdout.recv().await.is_none());
    assert_eq!(session.exit_code.await.unwrap(), 137);
    engine.remove_sandbox(&sandbox).await.unwrap();
    place.check_clean();
}

async fn engine_restart_and_power_cut() {
    let place = Place::new("restart");
    let engine = place.engine().await;
    let sandbox = engine.run_sandbox(place.sandbox()).await.unwrap();
    let kept = start(&engine, &sandbox, Place::container("a", &["sleep"])).await;
    let ended = start(&engine, &sandbox, Place::container("b", &["delay", "5"])).await;
    drop(engine);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let engine = place.engine().await;
    assert!(engine.list_sandboxes().await.unwrap()[0].ready);
    assert!(matches!(state(&engine, &kept).await, ContainerState::Running { .. }));
    assert_eq!(wait_exit(&engine, &ended).await.0, 5);
    let output =
        engine.exec_sync(&kept, ["daruma", "act", "say", "x"].map(str::to_owned).to_vec(), Duration::from_secs(5)).await.unwrap();
    assert_eq!(output.unwrap().stdout, b"x\n");
    drop(engine);

    // Power cut: every process is gone, and the volatile directory with it.
    let shim = std::fs::read_to_string(place.path("run/s").join(&sandbox[..16]).join("pid")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim.parse().unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _ = nix::mount::umount2(&place.path("run/netns").join(&sandbox), nix::mount::MntFlags::MNT_DETACH);
    let _ = nix::mount::umount2(&place.path("run/s").join(&sandbox[..16]).join("shm"), nix::mount::MntFlags::MNT_DETACH);
    std::fs::remove_dir_all(place.path("run")).unwrap();
    let engine = place.engine().await;
    assert!(!engine.list_sandboxes().await.unwrap()[0].ready);
    assert_eq!(wait_exit(&engine, &kept).await, (255, "Error".to_owned()));
    assert_eq!(wait_exit(&engine, &ended).await.0, 5);
    engine.remove_sandbox(&sandbox).await.unwrap();

    // A shim whose record was never written is ended.
    let orphan = engine.run_sandbox(place.sandbox()).await.unwrap();
    std::fs::remove_dir_all(place.path("root/sandboxes").join(&orphan)).unwrap();
    drop(engine);
    let engine = place.engine().await;
    place.check_no_mounts();

    // A shim that is killed takes its containers along, and the engine is told.
    let sandbox = engine.run_sandbox(place.sandbox()).await.unwrap();
    let id = start(&engine, &sandbox, Place::container("a", &["sleep"])).await;
    let shim = std::fs::read_to_string(place.path("run/s").join(&sandbox[..16]).join("pid")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim.parse().unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(wait_exit(&engine, &id).await, (255, "Error".to_owned()));
    engine.remove_sandbox(&sandbox).await.unwrap();
    place.check_clean();
}

/// An image of two layers, the second with whiteouts; its program is this one.
fn test_image() -> image::TestImage {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let first = image::tar(&[
        ("bin/program", 0o755, &program),
        ("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/sh\n"),
        ("etc/gone", 0o644, b"x"),
        ("dir/old", 0o644, b"x"),
    ]);
    let second = image::tar(&[("etc/.wh.gone", 0o644, b""), ("dir/.wh..wh..opq", 0o644, b""), ("dir/new", 0o644, b"x")]);
    let config = serde_json::json!({
        "User": "web", "Env": null, "Entrypoint": ["/bin/program", "act"],
        "Cmd": ["exists", "/etc/gone", "/dir/old", "/dir/new", "/etc/passwd"]
    });
    image::TestImage::new(config, vec![first, second])
}

async fn images() {
    let place = Place::new("images");
    let engine = place.engine().await;
    let image = test_image();
    std::fs::write(place.path("saved.tar"), image.docker_archive("localhost/saved:1")).unwrap();
    assert_eq!(engine.load_archive(&place.path("saved.tar")).await.unwrap(), ["localhost/saved:1"]);
    std::fs::write(place.path("oci.tar"), image.oci_archive("example.org/oci:2")).unwrap();
    assert_eq!(engine.load_archive(&place.path("oci.tar")).await.unwrap(), ["example.org/oci:2"]);
    let known = engine.image_status("localhost/saved:1").await.unwrap().unwrap();
    assert_eq!(known.tags, ["example.org/oci:2", "localhost/saved:1"]);
    engine.remove_image(&known.id).await.unwrap();
    assert!(engine.image_status("localhost/saved:1").await.unwrap().is_none());
    engine.load_archive(&place.path("oci.tar")).await.unwrap();
    let name = "example.org/oci:2";
    let id = known.id;
    assert_eq!(engine.image_status(name).await.unwrap().unwrap().username.as_deref(), Some("web"));

    // The second layer hides a file and a directory's content of the first.
    let sandbox = engine.run_sandbox(place.sandbox()).await.unwrap();
    let config =
        ContainerConfig { image: id.clone(), log_path: "a/0.log".into(), name: "a".to_owned(), ..ContainerConfig::default() };
    let id = start(&engine, &sandbox, config).await;
    assert_eq!(wait_exit(&engine, &id).await.0, 0, "{}", place.log("a"));
    assert_eq!(place.log("a"), "/etc/gone false\n/dir/old false\n/dir/new true\n/etc/passwd true\n");
    assert!(engine.remove_image(name).await.is_err());
    engine.remove_sandbox(&sandbox).await.unwrap();
    engine.remove_image(name).await.unwrap();
    assert_eq!(std::fs::read_dir(place.path("root/images/layers")).unwrap().count(), 0);
    place.check_clean();
}

async fn speed() {
    let place = Place::new("speed");
    let engine = place.engine().await;
    let mut worst = Duration::ZERO;
    for round in 0..10 {
        let begun = Instant::now();
        let sandbox = engine.run_sandbox(place.sandbox()).await.unwrap();
        let made = begun.elapsed();
        start(&engine, &sandbox, Place::container("a", &["sleep"])).await;
        let all = begun.elapsed();
        if round > 0 {
            worst = worst.max(all);
        }
        println!("  sandbox {made:?}, with container {all:?}");
        engine.remove_sandbox(&sandbox).await.unwrap();
    }
    println!("  worst {worst:?}");
    place.check_clean();
}

type Test = (&'static str, fn() -> std::pin::Pin<Box<dyn Future<Output = ()>>>);

/// Every test, by name.
const ALL: &[Test] = &[
    ("exit_codes_and_logs", || Box::pin(exit_codes_and_logs())),
    ("what_a_container_sees", || Box::pin(what_a_container_sees())),
    ("out_of_memory", || Box::pin(out_of_memory())),
    ("stop_with_grace", || Box::pin(stop_with_grace())),
    ("exec_attach_forward", || Box::pin(exec_attach_forward())),
    ("engine_restart_and_power_cut", || Box::pin(engine_restart_and_power_cut())),
    ("images", || Box::pin(images())),
    ("speed", || Box::pin(speed())),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("shim") => daruma_runtime::shim_main(&std::env::args_os().skip(2).collect::<Vec<_>>()),
        Some("act") => act::main(&args[2..]),
        _ => {}
    }
    if args.iter().any(|arg| arg == "--list") {
        if !args.iter().any(|arg| arg == "--ignored") {
            for (name, _) in ALL {
                println!("{name}: test");
            }
        }
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: this needs root");
        return;
    }
    // Mounts of the tests are seen by nobody else.
    if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS) {
        println!("skipped: cannot make a mount name space: {error}");
        return;
    }
    let none: Option<&str> = None;
    nix::mount::mount(none, "/", none, nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE, none).unwrap();
    let chosen: Vec<&String> = args[1..].iter().filter(|arg| !arg.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (name, test) in ALL {
        if chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str())) {
            println!("{name}");
            runtime.block_on(test());
        }
    }
    // Blocking reads of abandoned sessions must not hold the process.
    runtime.shutdown_background();
}
