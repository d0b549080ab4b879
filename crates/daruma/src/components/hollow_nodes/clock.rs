//! The wall clocks of the simulated machines: they show the host's time, whatever the universe counts from.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daruma_cluster::simulated;
use daruma_world::World;
use daruma_world::machines::{MachineError, Machines};

/// Between two looks at the host's clock.
const LOOK: Duration = Duration::from_secs(10);
/// A smaller difference is left: a universe that has much to do is late by as much.
const TOLERANCE_MS: i64 = 250;

/// Sets the machines' clocks.
pub struct Clocks {
    machines: Arc<dyn Machines>,
    /// The clock of the universe, without any offset.
    inside: World,
    host: World,
    base_ms: AtomicI64,
    /// By how much a clock is wrong on purpose, by machine.
    wrong_ms: Mutex<BTreeMap<String, i64>>,
}

impl Clocks {
    /// Reads how far the two clocks are apart.
    pub fn new(machines: Arc<dyn Machines>, inside: &World, host: &World) -> Self {
        let base_ms = AtomicI64::new(apart_ms(inside, host));
        Self { machines, inside: inside.clone(), host: host.clone(), base_ms, wrong_ms: Mutex::default() }
    }

    /// Makes one machine's clock wrong by `wrong_ms`; 0 is right.
    ///
    /// # Errors
    /// There is no such machine.
    pub async fn set(&self, machine: &str, wrong_ms: i64) -> Result<(), MachineError> {
        self.machines.set_clock_offset(machine, self.base_ms.load(Ordering::Relaxed).saturating_add(wrong_ms)).await?;
        let mut wrong = self.wrong_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong_ms == 0 {
            wrong.remove(machine);
        } else {
            wrong.insert(machine.to_owned(), wrong_ms);
        }
        Ok(())
    }

    /// Forgets a machine that is gone.
    pub fn forget(&self, machine: &str) {
        self.wrong_ms.lock().unwrap_or_else(PoisonError::into_inner).remove(machine);
    }

    /// Follows the host's clock where that is set, or the universe was late for long.
    pub async fn follow(&self) {
        loop {
            self.inside.sleep(LOOK).await;
            let apart = apart_ms(&self.inside, &self.host);
            if (apart - self.base_ms.load(Ordering::Relaxed)).abs() < TOLERANCE_MS {
                continue;
            }
            self.base_ms.store(apart, Ordering::Relaxed);
            let machines = self.machines.list().await.unwrap_or_default();
            // The gateway bears a real machine's name.
            for machine in machines.into_iter().map(|machine| machine.name).filter(|name| simulated::is_name(name)) {
                let wrong = self.wrong_ms.lock().unwrap_or_else(PoisonError::into_inner).get(&machine).copied();
                if let Err(error) = self.set(&machine, wrong.unwrap_or_default()).await {
                    tracing::debug!(machine, %error, "setting a clock");
                }
            }
        }
    }
}

fn apart_ms(inside: &World, host: &World) -> i64 {
    host.now().as_millisecond() - inside.now().as_millisecond()
}
