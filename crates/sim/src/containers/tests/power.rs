//! Loss of power, and an engine whose service is down.

use daruma_world::machines::Signal;

use super::*;

#[test]
fn after_a_loss_of_power() {
    let yaml = "images: {web: {}, done: {exits: {after: 1s, code: 3}}}";
    lab(1, behaving(yaml), |lab| async move {
        lab.network_ready().await;
        let (sandbox, runs) = lab.start("web", "web").await;
        let (_, ended) = lab.start("done", "done").await;
        let created = lab.create(&sandbox, "web", |config| config.name = "other".to_owned()).await;
        let before = lab.address(&sandbox).await.unwrap();
        lab.sleep(60_000).await;
        assert_eq!(lab.machines.living_containers("m").await.unwrap().len(), 1);
        lab.machines.power_off("m", false).await.unwrap();
        assert!(lab.machines.living_containers("m").await.unwrap().is_empty());
        assert!(lab.engine().living().is_empty());
        lab.machines.power_on("m").await.unwrap();

        lab.sleep(10).await;
        assert_eq!(lab.state(&runs).await, "255 Error");
        assert_eq!(lab.state(&created).await, "255 Error");
        assert_eq!(lab.state(&ended).await, "3 Error", "that was on the disk");
        let sandboxes = lab.engine().list_sandboxes().await.unwrap();
        assert_eq!(sandboxes.len(), 2);
        assert!(sandboxes.iter().all(|sandbox| !sandbox.ready && sandbox.addresses.is_empty()));
        assert!(lab.get(before, 8080, "/").await.is_err());
        let (again, _) = lab.start("web", "web").await;
        assert_eq!(lab.address(&again).await.unwrap().to_string(), "10.244.1.18", "behind what was reserved");
        for sandbox in sandboxes {
            lab.engine().remove_sandbox(&sandbox.id).await.unwrap();
        }
        assert_eq!(lab.engine().list_containers().await.unwrap().len(), 1);
    });
}

#[test]
fn the_service_is_down() {
    let yaml = "images: {web: {exits: {after: 10s, code: 3}}}";
    lab(1, behaving(yaml), |lab| async move {
        lab.network_ready().await;
        let (_, id) = lab.start("web", "web").await;
        let engine = lab.engine();
        let mut events = engine.events();
        engine.control(Signal::Stop);
        let error = engine.list_containers().await.unwrap_err().to_string();
        assert!(error.contains("containerd.sock: connect: connection refused"), "{error}");
        assert!(engine.status().await.is_err());
        assert_eq!(events.recv().await, None, "the stream breaks off");
        lab.sleep(20_000).await;
        engine.control(Signal::Start);
        assert_eq!(lab.state(&id).await, "3 Error", "what ended meanwhile is known");

        engine.control(Signal::Kill);
        assert!(engine.status().await.is_err());
        lab.sleep(5001).await;
        assert!(engine.status().await.is_ok(), "its init has started it again");
        engine.control(Signal::Pause);
        let world = lab.world();
        assert!(world.timeout(Duration::from_secs(60), engine.status()).await.is_err(), "it answers nothing");
        engine.control(Signal::Continue);
        assert!(engine.status().await.is_ok());
    });
}

#[test]
fn a_full_disk_refuses() {
    lab(1, EngineConfig::default(), |lab| async move {
        lab.network_ready().await;
        let sandbox = lab.sandbox("web", false).await;
        let image = lab.engine().pull_image(BOOTCAMP, None).await.unwrap();
        let full = daruma_world::machines::Pressure::Disk { leave_bytes: 0 };
        let pressure = lab.machines.press("m", full).await.unwrap();
        let config = ContainerConfig { name: "main".to_owned(), image, ..ContainerConfig::default() };
        let error = lab.engine().create_container(&sandbox, config.clone()).await.unwrap_err().to_string();
        assert!(error.starts_with("failed to create container \"main\": "), "{error}");
        lab.machines.release("m", pressure).await.unwrap();
        lab.engine().create_container(&sandbox, config).await.unwrap();
    });
}
