//! The work queue with several workers, delays and back-off.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_client::work_queue::{Backoff, WorkQueue};
use daruma_world::World;

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Starts workers that each take `work` for a key; gives what they began, and when in milliseconds.
fn workers(world: &World, queue: &WorkQueue, count: usize, work: Duration) -> Arc<Mutex<Vec<(String, u128)>>> {
    let log: Arc<Mutex<Vec<(String, u128)>>> = Arc::default();
    for _ in 0..count {
        let (world2, queue, log) = (world.clone(), queue.clone(), log.clone());
        world.spawn("worker", async move {
            while let Some(key) = queue.get().await {
                log.lock().unwrap().push((key.clone(), world2.monotonic().as_millis()));
                world2.sleep(work).await;
                queue.done(&key);
            }
            log.lock().unwrap().push(("end".into(), world2.monotonic().as_millis()));
        });
    }
    log
}

#[track_caller]
fn check(log: &Arc<Mutex<Vec<(String, u128)>>>, expected: &[(&str, u128)]) {
    let mut log = std::mem::take(&mut *log.lock().unwrap());
    log.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    let log: Vec<(&str, u128)> = log.iter().map(|(key, at)| (key.as_str(), *at)).collect();
    assert_eq!(log, expected);
}

#[test]
fn a_key_is_with_one_worker_and_comes_again_when_added_meanwhile() {
    daruma_sim::run_seeds(1, 30, |world| async move {
        let queue = WorkQueue::new(&world, Backoff::default());
        for key in ["a", "b", "a", "a"] {
            queue.add(key);
        }
        let log = workers(&world, &queue, 3, millis(100));
        world.sleep(millis(50)).await;
        queue.add("a");
        queue.add("a");
        queue.add("c");
        world.sleep(millis(950)).await;
        check(&log, &[("a", 0), ("b", 0), ("c", 50), ("a", 100)]);
        queue.add("last");
        queue.close();
        queue.add("late");
        world.sleep(millis(1000)).await;
        check(&log, &[("end", 1000), ("end", 1000), ("last", 1000), ("end", 1100)]);
    });
}

#[test]
fn the_earliest_delay_counts() {
    daruma_sim::run_seeds(1, 30, |world| async move {
        let queue = WorkQueue::new(&world, Backoff::default());
        let log = workers(&world, &queue, 2, millis(1));
        queue.add_after("a", millis(500));
        queue.add_after("b", millis(300));
        world.sleep(millis(100)).await;
        queue.add_after("a", millis(100));
        queue.add_after("a", millis(900));
        queue.add_after("b", millis(900));
        queue.add_after("c", millis(50));
        queue.add_after("d", Duration::ZERO);
        world.sleep(millis(2000)).await;
        check(&log, &[("d", 100), ("c", 150), ("a", 200), ("b", 300)]);
    });
}

#[test]
fn every_key_is_worked_on_whatever_the_order() {
    daruma_sim::run_seeds(1, 100, |world| async move {
        let queue = WorkQueue::new(&world, Backoff::default());
        let log = workers(&world, &queue, 4, millis(3));
        for number in 0..50u64 {
            let key = number.to_string();
            match world.random.below(3) {
                0 => queue.add(&key),
                1 => queue.add_after(&key, millis(world.random.below(20))),
                _ => world.sleep(millis(world.random.below(4))).await,
            }
            queue.add_after(&key, millis(world.random.below(40)));
        }
        world.sleep(millis(1000)).await;
        let mut keys: Vec<u64> = log.lock().unwrap().iter().map(|(key, _)| key.parse().unwrap()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys, (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn back_off_doubles_until_it_is_forgotten() {
    daruma_sim::run(1, |world| async move {
        let backoff = Backoff { base: millis(100), max: millis(500) };
        let queue = WorkQueue::new(&world, backoff);
        let log = workers(&world, &queue, 1, Duration::ZERO);
        let mut start = 0;
        for (failures, delay) in [(1, 100), (2, 200), (3, 400), (4, 500), (5, 500), (1, 100)] {
            if failures == 1 {
                queue.forget("a");
            }
            queue.add_rate_limited("a");
            assert_eq!(queue.failures("a"), failures);
            world.sleep(millis(600)).await;
            check(&log, &[("a", start + delay)]);
            start += 600;
        }
    });
}

#[test]
fn many_failing_keys_share_a_limit() {
    for (unlimited, last) in [(false, 2005), (true, 5)] {
        daruma_sim::run(1, |world| async move {
            let mut queue = WorkQueue::new(&world, Backoff::default());
            if unlimited {
                queue = queue.without_overall_limit();
            }
            let log = workers(&world, &queue, 1, Duration::ZERO);
            for number in 0..120 {
                queue.add_rate_limited(&number.to_string());
            }
            world.sleep(Duration::from_secs(10)).await;
            let times: Vec<u128> = log.lock().unwrap().iter().map(|(_, at)| *at).collect();
            assert_eq!((times.len(), times[99]), (120, 5));
            assert!(times[119].abs_diff(last) <= 5, "{}", times[119]);
        });
    }
}
