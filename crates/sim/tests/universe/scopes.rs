//! Processes: how they end, hold still and draw.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use daruma_sim::{Scope, Universe};
use daruma_world::World;
use daruma_world::disk::WriteOptions;

use super::{ms, s};

/// Says goodbye when it is dropped.
struct Goodbye(World, Arc<AtomicU32>);

impl Drop for Goodbye {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
        let world = self.0.clone();
        // None of this may have an effect.
        self.0.spawn("goodbye", async move {
            let _ = world.disk.write(Path::new("/goodbye"), b"I was here".to_vec(), WriteOptions::default()).await;
        });
    }
}

#[test]
fn the_dead_do_nothing() {
    let universe = Universe::new(1);
    let (outside, world) = (universe.outside_scope(), universe.outside());
    universe.run(async move {
        let process = outside.child("process");
        let child = process.child("child");
        let dropped = Arc::new(AtomicU32::new(0));
        for scope in [&process, &child] {
            let goodbye = Goodbye(scope.world(), dropped.clone());
            scope.spawn("worker", async move {
                let goodbye = goodbye;
                goodbye.0.sleep(s(100)).await;
            });
        }
        world.sleep(s(1)).await;
        assert_eq!(process.task_count(), 2);
        let ended = process.ended();
        process.kill();
        ended.await;
        assert!(process.is_dead() && child.is_dead() && process.child("late").is_dead());
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        world.sleep(s(1)).await;
        assert!(world.disk.read(Path::new("/goodbye")).await.is_err());
        // Calls on dead handles stay pending, whoever makes them.
        let dead = process.world();
        assert!(world.timeout(s(10), dead.sleep(ms(1))).await.is_err());
        assert!(world.timeout(s(10), dead.disk.read(Path::new("/"))).await.is_err());
        assert!(world.timeout(s(10), dead.blocking(|| 7)).await.is_err());
        assert!(world.timeout(s(10), dead.net.connect("10.0.0.1:1".parse().unwrap())).await.is_err());
    });
}

#[test]
fn a_process_may_end_itself() {
    let universe = Universe::new(1);
    let outside = universe.outside_scope();
    universe.run(async move {
        let process = outside.child("process");
        let own = process.clone();
        process.spawn_main("main", Box::pin(async move { own.world().sleep(s(1)).await }));
        process.spawn("other", std::future::pending());
        process.ended().await;
        assert_eq!(process.task_count(), 0);
        let process = outside.child("process");
        let own = process.clone();
        process.spawn("suicide", async move {
            own.kill();
            std::future::pending::<()>().await;
        });
        process.ended().await;
    });
}

#[test]
fn asked_to_end() {
    let universe = Universe::new(1);
    let (outside, world) = (universe.outside_scope(), universe.outside());
    universe.run(async move {
        let deaf = outside.child("deaf");
        deaf.terminate();
        assert!(deaf.is_dead());
        let polite = outside.child("polite");
        let own = polite.clone();
        let asked = polite.termination();
        polite.spawn_main(
            "main",
            Box::pin(async move {
                asked.await;
                own.world().sleep(s(3)).await;
            }),
        );
        world.sleep(s(1)).await;
        polite.terminate();
        assert!(!polite.is_dead());
        polite.ended().await;
        assert_eq!(world.monotonic(), s(4));
    });
}

#[test]
fn a_pause_delays() {
    let universe = Universe::new(1);
    let (outside, world) = (universe.outside_scope(), universe.outside());
    universe.run(async move {
        let process = outside.child("process");
        let child = process.child("child");
        let seen: Arc<Mutex<Vec<u128>>> = Arc::default();
        let (ticks, clock) = (seen.clone(), child.world());
        child.spawn("ticks", async move {
            loop {
                clock.sleep(s(1)).await;
                ticks.lock().unwrap().push(clock.monotonic().as_millis());
            }
        });
        world.sleep(ms(1500)).await;
        process.pause();
        child.pause();
        assert!(child.is_paused());
        world.sleep(s(10)).await;
        process.resume();
        world.sleep(s(1)).await;
        child.resume();
        world.sleep(ms(1600)).await;
        // The tick that came due in the pause comes at its end; the rhythm goes on from there.
        assert_eq!(*seen.lock().unwrap(), [1000, 12_500, 13_500]);
        process.pause();
        process.kill();
        process.ended().await;
    });
}

#[test]
fn chance_of_ones_own() {
    let draws = |busy: u64| {
        let universe = Universe::new(3);
        let outside = universe.outside_scope();
        let (first, second) = (outside.child("first"), outside.child("second"));
        for _ in 0..busy {
            first.world().random.next_u64();
        }
        let again: Scope = outside.child("second");
        [second.world().random.next_u64(), again.world().random.next_u64()]
    };
    assert_eq!(draws(0), draws(1000));
    assert_ne!(draws(0)[0], draws(0)[1], "another process of that name draws other numbers");
}
