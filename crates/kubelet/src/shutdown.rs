//! The end of a node whose machine is about to be turned off.
//!
//! Source: kubernetes pkg/kubelet/nodeshutdown/nodeshutdown_manager.go, nodeshutdown_manager_linux.go, storage.go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daruma_world::disk::WriteOptions;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;

use crate::cell::{Forced, PodCell};
use crate::config::KubeletConfig;
use crate::shared::Shared;

/// Where init says that the machine, not only the kubelet, is ending (cleared by the next power-on, as all of `/run`).
pub const SHUTDOWN_FILE: &str = "/run/daruma/shutdown";

/// Beside the pods' directories (storage.go, localStorageStateFile).
const STATE_FILE: &str = "graceful_node_shutdown_state";
/// System critical priority (kubernetes pkg/apis/scheduling/types.go).
const CRITICAL: i32 = 2_000_000_000;
/// How long the API is given to hear of the ends.
const TELL: Duration = Duration::from_secs(2);

/// Pods from a priority on, and the seconds that they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    priority: i32,
    seconds: i64,
}

/// Ordinary pods, then critical ones; none where shutdown is left to the machine.
fn groups(config: &KubeletConfig) -> Vec<Group> {
    let (all, critical) = (config.shutdown_grace_period, config.shutdown_grace_period_critical_pods);
    if all.is_zero() || critical > all {
        return Vec::new();
    }
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    vec![
        Group { priority: 0, seconds: seconds(all.saturating_sub(critical)) },
        Group { priority: CRITICAL, seconds: seconds(critical) },
    ]
}

/// The group of a priority: the highest one that is not above it, the lowest for all that are below.
fn group_of(groups: &[Group], priority: i32) -> usize {
    groups.iter().rposition(|group| group.priority <= priority).unwrap_or(0)
}

/// See [`crate::Kubelet::shutdown`].
pub async fn run(shared: &Arc<Shared>) {
    let groups = groups(&shared.config);
    if groups.is_empty() || shared.shutting_down.swap(true, Ordering::AcqRel) {
        return;
    }
    tracing::info!("the node shuts down");
    shared.recorder.node("Shutdown", "Shutdown manager detected shutdown event");
    shared.node_due.notify_one();
    let started_at = shared.now();
    store(shared, started_at, None).await;
    let mut members: Vec<Vec<Arc<PodCell>>> = vec![Vec::new(); groups.len()];
    for cell in shared.pods.list() {
        let pod = {
            let state = cell.lock();
            if state.finished {
                continue;
            }
            state.pod.clone()
        };
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
        members[group_of(&groups, priority)].push(cell);
    }
    for (group, cells) in groups.iter().zip(&members).filter(|(_, cells)| !cells.is_empty()) {
        for cell in cells {
            end(cell, group.seconds);
        }
        let limit = Duration::from_secs(u64::try_from(group.seconds).unwrap_or_default());
        let all = join_all(cells.iter().map(|cell| cell.ended()));
        if shared.world.timeout(limit, all).await.is_err() {
            tracing::info!(priority = group.priority, "time is over for pods that have not ended");
        }
    }
    let told = join_all(members.iter().flatten().map(|cell| cell.sent()));
    let _ = shared.world.timeout(TELL, told).await;
    store(shared, started_at, Some(shared.now())).await;
}

fn end(cell: &PodCell, seconds: i64) {
    cell.force(Forced {
        reason: "Terminated".into(),
        message: "Pod was terminated in response to imminent node shutdown.".into(),
        disrupts: true,
        unless_succeeded: true,
    });
    let own = cell.pod().spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(i64::MAX);
    cell.end(own.min(seconds));
}

async fn store(shared: &Shared, started_at: Timestamp, ended_at: Option<Timestamp>) {
    // Go writes the time that there is none of like this.
    let never = "0001-01-01T00:00:00Z".to_owned();
    let text = json!({"startTime": started_at.to_string(), "endTime": ended_at.map_or(never, |at| at.to_string())}).to_string();
    let path = shared.config.root_dir.join(STATE_FILE);
    let options = WriteOptions { mode: 0o644, durable: true };
    if let Err(error) = shared.world.disk.write(&path, text.into_bytes(), options).await {
        tracing::warn!(%error, "cannot write the state of the shutdown");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(all: u64, critical: u64, priority: i32, expected: Option<(usize, i64)>) {
        let mut config = KubeletConfig::new("w");
        config.shutdown_grace_period = Duration::from_secs(all);
        config.shutdown_grace_period_critical_pods = Duration::from_secs(critical);
        let groups = groups(&config);
        let found = (!groups.is_empty()).then(|| {
            let index = group_of(&groups, priority);
            (index, groups[index].seconds)
        });
        assert_eq!(found, expected, "{all} s, {critical} s, priority {priority}");
    }

    #[test]
    fn periods_and_priorities() {
        check(0, 0, 0, None);
        check(10, 20, 0, None);
        check(30, 10, 0, Some((0, 20)));
        check(30, 10, -7, Some((0, 20)));
        check(30, 10, 1_999_999_999, Some((0, 20)));
        check(30, 10, 2_000_000_000, Some((1, 10)));
        check(30, 10, 2_000_001_000, Some((1, 10)));
    }
}
