//! How containers end.

use daruma_world::machines::Signal;

use super::*;

/// What somebody does to the container, two seconds after its start.
#[derive(Clone, Copy)]
enum Hand {
    Nothing,
    Stop(u64),
    Signal(Signal),
    /// Pause, and ten seconds later continue.
    Hold,
}

/// The container's state, checked `at` milliseconds after its start and just before.
#[track_caller]
fn check(behaviour: &str, hand: Hand, at: u64, wanted: &str) {
    let yaml = format!("images: {{web: {behaviour}}}");
    lab(1, behaving(&yaml), |lab| async move {
        lab.network_ready().await;
        let sandbox = lab.sandbox("web", false).await;
        let id = lab.create(&sandbox, "web", limit(100 << 20)).await;
        lab.engine().start_container(&id).await.unwrap();
        let (acting, target) = (lab.clone(), id.clone());
        lab.machine().init().spawn("hand", async move {
            acting.sleep(2000).await;
            let engine = acting.engine();
            match hand {
                Hand::Nothing => {}
                Hand::Stop(grace) => engine.stop_container(&target, Duration::from_millis(grace)).await.unwrap(),
                Hand::Signal(signal) => engine.signal(&target, signal).unwrap(),
                Hand::Hold => {
                    engine.signal(&target, Signal::Pause).unwrap();
                    acting.sleep(10_000).await;
                    engine.signal(&target, Signal::Continue).unwrap();
                }
            }
        });
        lab.sleep(at.saturating_sub(20)).await;
        if at > 0 {
            assert_eq!(lab.state(&id).await, "running", "{behaviour} before {at} ms");
        }
        lab.sleep(40).await;
        assert_eq!(lab.state(&id).await, wanted, "{behaviour} after {at} ms");
        let log = lab.world().disk.metadata(Path::new("/var/log/pods/web/main/0.log")).await;
        assert!(log.is_ok(), "its log outlives it");
    });
}

#[test]
fn by_themselves() {
    check("{exits: {after: 5s, code: 3}}", Hand::Nothing, 5000, "3 Error");
    check("{exits: {after: 0s}}", Hand::Nothing, 0, "0 Completed");
    check("{exits: {after: 5s}}", Hand::Hold, 15_000, "0 Completed");
    check("{memory: 200Mi}", Hand::Nothing, 0, "137 OOMKilled");
    check("{memoryGrowth: [{after: 10s, to: 200Mi}]}", Hand::Nothing, 5000, "137 OOMKilled");
    check("{memory: 90Mi, memoryGrowth: [{after: 10s, to: 99Mi}]}", Hand::Nothing, 30_000, "running");
}

#[test]
fn by_somebodys_hand() {
    check("{}", Hand::Stop(30_000), 2000, "143 Error");
    check("{stops: {code: 0}}", Hand::Stop(30_000), 2000, "0 Completed");
    check("{stops: {after: 1s, code: 4}}", Hand::Stop(30_000), 3000, "4 Error");
    check("{stops: {after: 9s}}", Hand::Stop(3000), 5000, "137 Error");
    check("{ignoresStop: true}", Hand::Stop(3000), 5000, "137 Error");
    check("{stops: {code: 0}}", Hand::Stop(0), 2000, "137 Error");
    check("{}", Hand::Signal(Signal::Kill), 2000, "137 Error");
    check("{}", Hand::Signal(Signal::Terminate), 2000, "143 Error");
    check("{ignoresStop: true}", Hand::Signal(Signal::Terminate), 9000, "running");
}

#[test]
fn what_does_not_start() {
    let yaml = "images: {web: {startFails: 'exec: \"web\": executable file not found in $PATH'}}";
    lab(1, behaving(yaml), |lab| async move {
        lab.network_ready().await;
        let sandbox = lab.sandbox("web", false).await;
        let engine = lab.engine();
        let id = lab.create(&sandbox, "web", |_| {}).await;
        let error = engine.start_container(&id).await.unwrap_err().to_string();
        assert!(
            error.ends_with("unable to start container process: exec: \"web\": executable file not found in $PATH"),
            "{error}"
        );
        assert_eq!(lab.state(&id).await, "128 StartError");
        let other = lab.create(&sandbox, BOOTCAMP, |_| {}).await;
        engine.stop_sandbox(&sandbox).await.unwrap();
        assert!(engine.start_container(&other).await.is_err(), "its sandbox has ended");
        assert!(engine.create_container("nothing", ContainerConfig::default()).await.is_err());
        assert!(engine.signal(&other, Signal::Kill).is_err());
        assert!(engine.signal(&id, Signal::Stop).is_err());
    });
}

#[test]
fn arguments_that_nobody_knows() {
    for (image, wanted) in [("web", "1 Error"), (BOOTCAMP, "1 Error"), ("other", "running")] {
        let mut behaviours = crate::behaviour::Behaviours::built_in();
        behaviours.read("images: {web: {refusesArguments: true}}").unwrap();
        lab(1, EngineConfig { behaviours: behaviours.into(), ..EngineConfig::default() }, |lab| async move {
            lab.network_ready().await;
            let sandbox = lab.sandbox("web", false).await;
            let id = lab.create(&sandbox, image, |config| config.args = vec!["--crash-on-start".into()]).await;
            lab.engine().start_container(&id).await.unwrap();
            lab.sleep(10).await;
            assert_eq!(lab.state(&id).await, wanted, "{image}");
        });
    }
}

#[test]
fn a_machine_without_memory() {
    let yaml = "images: {small: {memory: 100Mi}, large: {memory: 300Mi}, grows: {memoryGrowth: [{after: 10s, to: 900Mi}]}}";
    let config = EngineConfig { memory_bytes: Some(1 << 30), ..behaving(yaml) };
    lab(1, config, |lab| async move {
        lab.network_ready().await;
        let mut ids = Vec::new();
        for image in ["small", "large", "grows"] {
            ids.push(lab.start(image, image).await.1);
        }
        let states = || async {
            let mut states = Vec::new();
            for id in &ids {
                states.push(lab.state(id).await);
            }
            states.join(", ")
        };
        lab.sleep(6000).await;
        assert_eq!(states().await, "running, running, running");
        lab.sleep(2000).await;
        assert_eq!(states().await, "running, running, 137 OOMKilled", "the largest of them");
        lab.engine().set_strain(super::super::Strain { memory_bytes: 700 << 20, ..super::super::Strain::default() });
        assert_eq!(states().await, "running, 137 OOMKilled, 137 OOMKilled");
    });
}
