//! Order and time.

use std::sync::{Arc, Mutex};

use daruma_world::World;
use tokio::sync::{Notify, mpsc};

use super::{ms, s};

/// What three tasks do, in order, under one seed.
fn trace(seed: u64) -> Vec<String> {
    daruma_sim::run(seed, |world: World| async move {
        let (sender, mut receiver) = mpsc::channel(100);
        for number in 0..3 {
            let (world2, sender) = (world.clone(), sender.clone());
            world.spawn("talker", async move {
                for step in 0..4 {
                    world2.sleep(ms(10 * world2.random.below(3))).await;
                    let at = world2.monotonic();
                    let _ = sender.send(format!("{number}.{step} at {at:?}")).await;
                }
            });
        }
        drop(sender);
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(line);
        }
        lines
    })
}

#[test]
fn a_seed_decides_everything() {
    let traces: Vec<_> = (0..8).map(trace).collect();
    for (seed, first) in traces.iter().enumerate() {
        assert_eq!(*first, trace(seed as u64), "seed {seed}");
    }
    assert!(traces.iter().any(|other| *other != traces[0]), "every seed gives the same order");
}

#[test]
fn the_clock_jumps_and_zero_sleeps_yield() {
    daruma_sim::run(1, |world| async move {
        let before = world.now();
        world.sleep(s(3600)).await;
        assert_eq!(world.monotonic(), s(3600));
        assert_eq!(world.now().duration_since(before).as_secs(), 3600);
        let order = Arc::new(Mutex::new(Vec::new()));
        let other = order.clone();
        world.spawn("other", async move { other.lock().unwrap().push("other") });
        world.sleep(ms(0)).await;
        order.lock().unwrap().push("main");
        assert_eq!(*order.lock().unwrap(), ["other", "main"]);
    });
}

#[test]
fn aborted_tasks_are_dropped() {
    daruma_sim::run(1, |world| async move {
        let (sender, mut receiver) = mpsc::channel::<()>(1);
        let world2 = world.clone();
        let task = world.spawn("sleeper", async move {
            world2.sleep(s(1)).await;
            let _ = sender.send(()).await;
        });
        task.abort();
        assert_eq!(receiver.recv().await, None);
        assert!(world.timeout(s(5), std::future::pending::<()>()).await.is_err());
        assert_eq!(world.blocking(|| 7).await, 7);
    });
}

#[test]
#[should_panic(expected = "deadlock at 2s: nothing can proceed and nobody sleeps (seed 5; waiting: main ×1, stuck ×1)")]
fn a_deadlock_is_told() {
    daruma_sim::run(5, |world| async move {
        let notify = Arc::new(Notify::new());
        let never = notify.clone();
        world.spawn("stuck", async move { never.notified().await });
        world.sleep(s(2)).await;
        notify.notified().await;
    });
}
