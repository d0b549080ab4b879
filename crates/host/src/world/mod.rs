//! The real world on tokio and Linux: clock, chance, tasks, files and sockets.

mod clock;
mod disk;
mod net;
mod random;
mod tasks;

use std::sync::Arc;

use daruma_world::World;

pub use clock::SystemClock;
pub use disk::LinuxDisk;
pub use net::LinuxNet;
pub(crate) use net::{Tcp, Udp, bind_tcp, bound_tcp};
pub use random::SystemRandom;
pub use tasks::TokioTasks;

/// The world of this process. Call it inside a tokio runtime: tasks start on that runtime.
pub fn real() -> World {
    World {
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(SystemRandom),
        tasks: Arc::new(TokioTasks::current()),
        disk: Arc::new(LinuxDisk),
        net: Arc::new(LinuxNet),
    }
}
