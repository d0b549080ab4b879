//! The virtual world: a single-threaded executor, a clock that jumps, seeded chance, machines with
//! disks, power and a network.
//!
//! A [`Universe`] drives a future and everything it spawns until nothing can proceed, then moves the clock
//! to the next deadline. Which of several ready tasks goes first is drawn from the seed, so a seed
//! run twice gives one and the same order of events, and another seed another order.
//!
//! Invariant: no Kubernetes in here, no threads, no wall clock.

pub mod behaviour;
mod clock;
pub mod containers;
mod disk;
mod executor;
mod handle;
pub mod links;
mod machine;
mod network;
pub mod packet_rules;
mod place;
mod random;
mod scope;
mod store_backend;
mod universe;
mod wire;

use daruma_world::World;

pub use machine::{Boot, Machine, MachineSpec, ServiceMain, supports};
pub use random::SeededRandom;
pub use scope::{Ended, Scope};
pub use store_backend::StoreBackend;
pub use universe::{Injector, OUTSIDE_ADDRESS, Universe};
pub use wire::{Handler, PeerAddress, Wire};

/// Runs `main` outside of all machines of a new universe until it completes, and gives its output. What
/// it has spawned and what still runs then is dropped.
///
/// # Panics
/// With the seed printed: where `main` waits and no deadline is left that could wake it, where the
/// tasks wake each other for ever without the clock moving, and where a task panics.
pub fn run<F, W>(seed: u64, main: F) -> W::Output
where
    F: FnOnce(World) -> W,
    W: Future,
{
    let universe = Universe::new(seed);
    universe.run(main(universe.outside()))
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
