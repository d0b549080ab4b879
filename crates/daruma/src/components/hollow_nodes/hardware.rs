//! The machine that a simulated node says it is.

use std::io;
use std::net::Ipv4Addr;

use daruma_sim::containers::SimRuntime;
use daruma_world::World;
use daruma_world::hardware::{Facts, Hardware, Load};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Most processes and threads: Linux `pid_max` on small machines.
const TASKS_MAX: u64 = 32_768;

/// Facts as told; the load is that of the containers.
pub struct SimulatedHardware {
    facts: Facts,
    engine: SimRuntime,
}

impl SimulatedHardware {
    /// A machine that was switched on just now.
    pub fn new(
        world: &World,
        engine: SimRuntime,
        name: &str,
        address: Ipv4Addr,
        cpu_millis: u64,
        memory_bytes: u64,
    ) -> Self {
        // FNV-1a: the same machine after each start.
        let hash = |start: u64| name.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let id = format!("{:016x}{:016x}", hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4));
        let uuid = |id: &str| format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..32]);
        let boot = format!("{:016x}{:016x}", world.random.below(u64::MAX), world.random.below(u64::MAX));
        let facts = Facts {
            hostname: name.to_owned(),
            system_uuid: uuid(&id),
            boot_id: uuid(&boot),
            machine_id: id,
            kernel_version: "6.12.0-simulated".into(),
            os_image: "daruma simulated machine".into(),
            architecture: if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }.into(),
            cpu_millis,
            memory_bytes,
            addresses: vec![address.into()],
        };
        Self { facts, engine }
    }
}

impl Hardware for SimulatedHardware {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn load(&self) -> BoxFuture<'static, io::Result<Load>> {
        let used = self.engine.usage();
        let load = Load {
            cpu_ns: used.cpu_ns,
            memory_usage_bytes: used.memory_bytes,
            memory_working_set_bytes: used.memory_bytes,
            memory_rss_bytes: used.memory_bytes,
            tasks: used.tasks.min(TASKS_MAX),
            tasks_max: TASKS_MAX,
            ..Load::default()
        };
        std::future::ready(Ok(load)).boxed()
    }
}
