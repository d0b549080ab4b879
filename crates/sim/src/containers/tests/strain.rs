//! Machines without processes or CPU time to spare.

use std::sync::atomic::{AtomicU32, Ordering};

use daruma_world::containers::{ContainerError, ExecConfig};
use daruma_world::machines::Pressure;

use super::*;

#[test]
fn without_process_ids_nothing_starts() {
    lab(1, EngineConfig::default(), |lab| async move {
        lab.network_ready().await;
        let engine = lab.engine();
        let pressure = lab.machines.press("m", Pressure::Pids { leave: 1 }).await.unwrap();
        let load = lab.machine().hardware().load().await.unwrap();
        assert_eq!(load.tasks_max - load.tasks, 1);
        // The one process that may still be started.
        let (_, id) = lab.start("web", BOOTCAMP).await;
        let exhausted =
            |doing: &str, program: &str| format!("{doing}: fork/exec {program}: resource temporarily unavailable: unknown");
        let command = || vec!["true".to_owned()];
        let prefix = "OCI runtime exec failed: exec failed: unable to start container process: ";
        let expected = format!("{prefix}{}", exhausted("error starting setns process", "/proc/self/fd/6"));
        let refused = engine.exec_sync(&id, command(), Duration::ZERO).await;
        assert!(matches!(refused, Err(ContainerError::Start(text)) if text == expected));
        let refused = engine.exec(&id, ExecConfig { command: command(), ..ExecConfig::default() }).await;
        assert!(matches!(refused, Err(ContainerError::Start(text)) if text == expected));
        let shim = "rpc error: code = Unknown desc = failed to create containerd task: failed to start shim: start failed: ";
        let expected = exhausted(shim, "/usr/bin/containerd-shim-runc-v2");
        let refused = engine.run_sandbox(SandboxConfig::default()).await;
        assert!(matches!(refused, Err(ContainerError::Other(text)) if text == expected));
        let sandbox = lab.find(&id).await.sandbox_id;
        let second = lab.create(&sandbox, BOOTCAMP, |config| config.name = "second".to_owned()).await;
        let refused = engine.start_container(&second).await;
        assert!(
            matches!(refused, Err(ContainerError::Start(text)) if text.ends_with(&exhausted("unable to start init", "/proc/self/fd/6")))
        );
        assert_eq!(lab.state(&second).await, "128 StartError");
        assert_eq!(lab.state(&id).await, "running", "what runs goes on");

        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        let main = move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::pending()) as futures::future::BoxFuture<'static, ()>
        };
        lab.machine().service("agent", Arc::new(main));
        lab.sleep(30_000).await;
        assert_eq!(starts.load(Ordering::Relaxed), 0, "init cannot start a service either");
        lab.machines.release("m", pressure).await.unwrap();
        lab.sleep(10_000).await;
        assert_eq!(starts.load(Ordering::Relaxed), 1);
        assert!(engine.exec_sync(&id, command(), Duration::ZERO).await.is_ok());
    });
}

#[test]
fn without_cpu_time_everything_takes_longer() {
    let yaml = "images: {web: {startDelay: 500ms, readyAfter: 1s, ports: {80: {http: {paths: {/: {}, /slow: {delay: 100ms}}}}}}}";
    lab(1, behaving(yaml), |lab| async move {
        lab.network_ready().await;
        // Milliseconds that an answer takes beyond the network's.
        let timed = async |to: IpAddr, path: &str| {
            let before = lab.world().monotonic();
            let answer = lab.get(to, 80, path).await;
            (
                answer.map_or_else(|_| "refused".to_owned(), |answer| answer[..3].to_owned()),
                lab.world().monotonic().saturating_sub(before).as_millis(),
            )
        };
        let (sandbox, id) = lab.start("usual", "web").await;
        let usual = lab.address(&sandbox).await.unwrap();
        lab.sleep(2000).await;
        assert_eq!((timed(usual, "/").await, timed(usual, "/slow").await), (("200".into(), 0), ("200".into(), 100)));
        // Sixteen for two CPUs: eight times as long.
        let pressure = lab.machines.press("m", Pressure::Cpu { processes: 15 }).await.unwrap();
        assert_eq!((timed(usual, "/").await, timed(usual, "/slow").await), (("200".into(), 16), ("200".into(), 816)));
        let before = lab.world().monotonic();
        lab.engine().exec_sync(&id, vec!["true".to_owned()], Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(lab.world().monotonic().saturating_sub(before).as_millis(), 240);
        let (sandbox, _) = lab.start("starved", "web").await;
        let starved = lab.address(&sandbox).await.unwrap();
        for (wait, expected) in [(3900, "refused"), (200, "503"), (3600, "503"), (500, "200")] {
            lab.sleep(wait).await;
            assert_eq!(timed(starved, "/").await.0, expected);
        }
        lab.machines.release("m", pressure).await.unwrap();
        assert_eq!(timed(usual, "/").await, ("200".into(), 0));
    });
}
