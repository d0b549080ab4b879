//! The virtual world: a single-threaded executor, a clock that jumps, seeded chance, files and
//! sockets in memory.
//!
//! [`run`] drives a future and everything it spawns until nothing can proceed, then moves the clock
//! to the next deadline. Which of several ready tasks goes first is drawn from the seed, so a seed
//! run twice gives one and the same order of events, and another seed another order.
//!
//! Invariant: no Kubernetes in here, no threads, no wall clock.

mod clock;
pub mod containers;
mod disk;
mod executor;
mod net;
mod random;
mod tasks;

use std::sync::Arc;

use daruma_world::World;

pub use disk::MemoryDisk;
pub use net::MemoryNet;
pub use random::SeededRandom;

/// Runs `main` in a new world until it completes, and gives its output. What it has spawned and
/// what still runs then is dropped.
///
/// # Panics
/// With the seed printed: where `main` waits and no deadline is left that could wake it, where the
/// tasks wake each other for ever without the clock moving, and where a task panics.
pub fn run<F, W>(seed: u64, main: F) -> W::Output
where
    F: FnOnce(World) -> W,
    W: Future,
{
    let shared = executor::Shared::new(seed);
    let world = World {
        clock: Arc::new(clock::VirtualClock::new(shared.clone())),
        random: Arc::new(SeededRandom::new(seed)),
        tasks: Arc::new(tasks::SimTasks::new(shared.clone())),
        disk: Arc::new(MemoryDisk::new(clock::VirtualClock::new(shared.clone()))),
        net: Arc::new(MemoryNet::new()),
    };
    executor::run(&shared, main(world))
}

/// Runs `main` once for each of `count` seeds, the first being `first`: other seeds, other orders.
pub fn run_seeds<F, W>(first: u64, count: u64, main: F)
where
    F: Fn(World) -> W,
    W: Future<Output = ()>,
{
    for seed in first..first.saturating_add(count) {
        run(seed, &main);
    }
}
