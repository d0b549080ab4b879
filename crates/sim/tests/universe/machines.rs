//! Power, services, clocks, hardware; and a whole day, twice.

use std::sync::{Arc, Mutex};

use daruma_sim::{Boot, Machine, ServiceMain, Universe};
use daruma_world::machines::{MachineError, Machines, PowerState, Pressure, Program, Signal};

use super::{Stage, ask, ms, s, says, spec, transport};

#[test]
fn power() {
    let stage = Stage::new(1, &["a", "b"]);
    stage.run(|stage, world| async move {
        let machines = stage.universe.machines();
        let power = async |name: &str| {
            let list = machines.list().await.unwrap();
            list.into_iter().find(|machine| machine.name == name).unwrap().power
        };
        assert_eq!(power("a").await, PowerState::On);
        assert!(matches!(machines.power_on("a").await, Err(MachineError::State(_))));
        let error = machines.power_off("c", false).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no machine \"c\"; there are a, b");
        let before = stage.machine("a").hardware().facts();
        let init = stage.machine("a").init();
        machines.power_off("a", false).await.unwrap();
        assert!(init.is_dead());
        assert_eq!(power("a").await, PowerState::Off);
        assert!(machines.hang("a").await.is_err() && machines.power_off("a", false).await.is_err());
        machines.power_on("a").await.unwrap();
        world.sleep(ms(0)).await;
        let after = stage.machine("a").hardware().facts();
        assert_ne!(before.boot_id, after.boot_id);
        assert_eq!((before.machine_id, before.system_uuid), (after.machine_id, after.system_uuid));
        machines.hang("a").await.unwrap();
        assert_eq!(power("a").await, PowerState::Hung);
        machines.reset("a").await.unwrap();
        assert_eq!(power("a").await, PowerState::On);
        machines.shutdown("a").await.unwrap();
        assert_eq!(power("a").await, PowerState::Off);
        stage.universe.remove_machine("b").unwrap();
        assert_eq!(machines.list().await.unwrap().len(), 1);
        assert!(stage.universe.add_machine(spec("a", 9), Arc::new(|_| Box::pin(async {}))).is_err());
        assert!(stage.universe.add_machine(spec("d", 1), Arc::new(|_| Box::pin(async {}))).is_err(), "the address is taken");
    });
}

#[test]
fn clocks_and_load() {
    let stage = Stage::new(1, &["a"]);
    stage.run(|stage, world| async move {
        let machines = stage.universe.machines();
        let machine = stage.machine("a");
        assert_eq!(machine.world().now(), world.now());
        machines.set_clock_offset("a", -90_000).await.unwrap();
        assert_eq!(world.now().duration_since(machine.world().now()).as_secs(), 90);
        assert_eq!(world.monotonic(), machine.world().monotonic());
        let before = machine.hardware().load().await.unwrap();
        let memory = machines.press("a", Pressure::Memory { bytes: 512 << 20 }).await.unwrap();
        let cpu = machines.press("a", Pressure::Cpu { processes: 9 }).await.unwrap();
        machines.press("a", Pressure::Pids { leave: 10 }).await.unwrap();
        world.sleep(s(10)).await;
        machines.release("a", cpu).await.unwrap();
        let after = machine.hardware().load().await.unwrap();
        assert_eq!(after.memory_working_set_bytes - before.memory_working_set_bytes, 512 << 20);
        assert_eq!((after.cpu_ns - before.cpu_ns) / 1_000_000_000, 20, "two cores for ten seconds");
        assert_eq!(after.tasks_max - after.tasks, 19, "those that spun have left their places");
        machines.release("a", memory).await.unwrap();
        let released = machine.hardware().load().await.unwrap();
        assert_eq!(released.memory_working_set_bytes, before.memory_working_set_bytes);
        assert!(released.cpu_ns >= after.cpu_ns);
    });
}

#[test]
fn a_service_lives_as_its_manager_says() {
    let universe = Universe::new(1);
    let log: Arc<Mutex<Vec<u64>>> = Arc::default();
    let starts = log.clone();
    let boot: Boot = Arc::new(move |machine: Machine| {
        let starts = starts.clone();
        let main: ServiceMain = Arc::new(move |scope| {
            starts.lock().unwrap().push(scope.world().monotonic().as_secs());
            Box::pin(async move { scope.world().sleep(s(1000)).await })
        });
        Box::pin(async move { machine.service("kubelet", main) })
    });
    universe.add_machine(spec("a", 1), boot).unwrap();
    let (machines, world) = (universe.machines(), universe.outside());
    universe.run(async move {
        let kubelet = Program::Service("kubelet".into());
        let signal = |signal| machines.signal("a", &kubelet, signal);
        machines.power_on("a").await.unwrap();
        world.sleep(s(5)).await;
        signal(Signal::Kill).await.unwrap();
        let error = signal(Signal::Kill).await.unwrap_err();
        assert_eq!(error.to_string(), "kubelet does not run now; it is started again in a moment");
        world.sleep(s(25)).await;
        signal(Signal::Stop).await.unwrap();
        assert!(signal(Signal::Stop).await.is_err() && signal(Signal::Pause).await.is_err());
        world.sleep(s(60)).await;
        signal(Signal::Start).await.unwrap();
        world.sleep(s(10)).await;
        // It sleeps on for as long as it is held, and ends by itself thereafter.
        signal(Signal::Pause).await.unwrap();
        world.sleep(s(2000)).await;
        signal(Signal::Continue).await.unwrap();
        world.sleep(s(20)).await;
        signal(Signal::Terminate).await.unwrap();
        world.sleep(s(20)).await;
        assert_eq!(*log.lock().unwrap(), [0, 15, 90, 2110, 2130]);
        assert!(machines.signal("a", &Program::Service("x".into()), Signal::Kill).await.is_err());
        assert!(machines.signal("a", &Program::Container("x".into()), Signal::Kill).await.is_err());
        machines.hang("a").await.unwrap();
        machines.power_off("a", false).await.unwrap();
        assert!(machines.signal("a", &kubelet, Signal::Kill).await.is_err());
    });
}

/// A day with every kind of harm, as lines.
fn day(seed: u64) -> Vec<String> {
    let stage = Stage::new(seed, &["a", "b", "c"]);
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = lines.clone();
    stage.run(|stage, world| async move {
        let machines: Arc<dyn Machines> = stage.universe.machines();
        let serve = |stage: &Stage| {
            let server = stage.machine("a").scope("server");
            stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), says("hello")).unwrap();
        };
        serve(&stage);
        for name in ["b", "c"] {
            let client = stage.machine(name).scope("client");
            let (clock, seen) = (client.world(), seen.clone());
            let transport = transport(&stage, &client, "10.0.0.1");
            client.spawn("asks", async move {
                loop {
                    clock.sleep(ms(100 + clock.random.below(900))).await;
                    let answer = clock.timeout(s(5), ask(&transport)).await;
                    seen.lock().unwrap().push(format!("{:?} {name} {answer:?}", clock.monotonic()));
                }
            });
        }
        world.sleep(s(10)).await;
        machines
            .set_link_faults(super::links::fault(Some("b"), None, daruma_world::machines::LinkEffect::Loss(40.0)))
            .await
            .unwrap();
        world.sleep(s(20)).await;
        machines.set_link_faults(super::links::cut(None, Some("c"))).await.unwrap();
        world.sleep(s(60)).await;
        machines.set_link_faults(vec![]).await.unwrap();
        machines.hang("a").await.unwrap();
        world.sleep(s(20)).await;
        machines.resume("a").await.unwrap();
        world.sleep(s(5)).await;
        machines.reset("a").await.unwrap();
        world.sleep(ms(0)).await;
        serve(&stage);
        world.sleep(s(60)).await;
    });
    let lines = std::mem::take(&mut *lines.lock().unwrap());
    assert!(lines.len() > 150, "{}", lines.len());
    assert!(lines.iter().any(|line| line.contains("Err")) && lines.last().unwrap().contains("hello"));
    lines
}

#[test]
fn one_seed_one_day() {
    let days: Vec<_> = (0..4).map(day).collect();
    for (seed, first) in days.iter().enumerate() {
        assert_eq!(*first, day(seed as u64), "seed {seed}");
    }
    assert_ne!(days[0], days[1]);
}
