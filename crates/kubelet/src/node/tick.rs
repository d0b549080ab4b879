//! The one timer of a node that has nothing to do: engine, pressure and status are looked at in the same tick.
//!
//! Source: kubernetes pkg/kubelet/kubelet.go (updateRuntimeUp, evictionMonitoringPeriod), which has a timer for each.

use std::sync::Arc;
use std::time::Duration;

use daruma_world::containers::RuntimeStatus;

use crate::shared::Shared;
use crate::{eviction, gc};

/// How often the engine is asked while something is missing: often where the node has just started, for every moment counts then.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(1);
/// After so many times it is no start any more.
const START: u32 = 200;

/// Ticks for as long as the kubelet lives.
pub async fn run(shared: Arc<Shared>) {
    let monotonic = || shared.world.monotonic();
    let (mut next_look, mut next_report, mut next_clean_up) = (monotonic(), monotonic(), monotonic() + gc::PERIOD);
    let mut missing: u32 = 0;
    loop {
        missing = if ask_engine(&shared).await { 0 } else { missing.saturating_add(1) };
        if monotonic() >= next_look {
            // A manifest directory in which nothing was found costs no timer of its own.
            shared.files_due.notify_one();
            if monotonic() >= next_clean_up {
                next_clean_up = monotonic() + gc::PERIOD;
                shared.clean_up_due.notify_one();
            }
            let ended = Box::pin(eviction::look(&shared)).await;
            next_look = monotonic();
            if ended.is_empty() {
                next_look += eviction::PERIOD;
            } else {
                // The next one is chosen as soon as these are gone, if there has to be a next one.
                Box::pin(eviction::wait_for_end(&shared, &ended)).await;
            }
        }
        if monotonic() >= next_report {
            next_report = monotonic() + shared.config.node_status_update_frequency;
            shared.node_due.notify_one();
        }
        let rest = next_look.min(next_report).saturating_sub(monotonic());
        shared
            .world
            .sleep(match missing {
                0 => rest,
                1..START => rest.min(SOON),
                _ => rest.min(LATER),
            })
            .await;
    }
}

/// Asks the engine for its state; what became possible happens at once. `true` where all is well.
pub(super) async fn ask_engine(shared: &Shared) -> bool {
    let status = match shared.runtime.status().await {
        Ok(status) => status,
        Err(error) => RuntimeStatus { runtime_problem: Some(error.to_string()), network_problem: None },
    };
    let good = status == RuntimeStatus::default();
    let before = std::mem::replace(&mut *shared.runtime_status.lock().expect("no panic while held"), status.clone());
    if before != status {
        shared.node_due.notify_one();
        shared.wake_all();
    }
    good
}
