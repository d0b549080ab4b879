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
        let engine = ask_engine(&shared).await;
        missing = if engine == Engine::Well { 0 } else { missing.saturating_add(1) };
        // The manager of evictions asks the engine, too, and would wait with it.
        if monotonic() >= next_look && engine != Engine::Silent {
            // A manifest directory in which nothing was found costs no timer of its own.
            if shared
                .files_found_at
                .lock()
                .expect("no panic while held")
                .is_none_or(|then| shared.world.disk.changes() != Some(then))
            {
                shared.files_due.notify_one();
            }
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
        // While the engine is silent, only the report is due.
        let next = if engine == Engine::Silent { next_report } else { next_look.min(next_report) };
        let rest = next.saturating_sub(monotonic());
        let pause = match (engine, missing) {
            (Engine::Well, _) => rest,
            (Engine::Unwell, ..START) => rest.min(SOON),
            (Engine::Unwell | Engine::Silent, _) => rest.min(LATER),
        };
        shared.world.sleep(pause).await;
    }
}

/// How the engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Well,
    Unwell,
    /// It does not answer.
    Silent,
}

/// Asks the engine for its state; what became possible happens at once. One that fails or is silent is not told of
/// before it has been so for a while ([`crate::engine_health`]).
pub(super) async fn ask_engine(shared: &Shared) -> Engine {
    let Some(answer) = shared.answer_soon(shared.runtime.status()).await else { return Engine::Silent };
    let status = match answer {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(%error, "the container engine does not tell its state");
            return Engine::Unwell;
        }
    };
    let is_well = status == RuntimeStatus::default();
    let changed = shared.engine.lock().expect("no panic while held").answered(status, shared.world.monotonic());
    if changed {
        shared.node_due.notify_one();
        shared.wake_all();
    }
    if is_well { Engine::Well } else { Engine::Unwell }
}
