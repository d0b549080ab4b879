//! Looking at what runs, and telling it.

use std::borrow::Cow;
use std::sync::Arc;

use daruma_api::core::v1::{PodCondition, PodStatus};
use daruma_world::containers::ContainerState;

use crate::cell::PodCell;
use crate::logs;
use crate::shared::Shared;
use crate::status::{self, Inputs};
use crate::view::{PodView, keys};

/// Longest message of one container (kubernetes pkg/kubelet/container/runtime.go).
const MESSAGE_BYTES: usize = 4096;
/// What is taken of a log in place of a message.
const LOG_BYTES: u64 = 2048;
const LOG_LINES: usize = 80;

/// Asks the runtime and keeps the answer; the old view stays where it does not answer.
pub async fn look(shared: &Shared, cell: &PodCell) -> PodView {
    match shared.look(&cell.uid).await {
        Ok(view) => {
            read_messages(shared, cell, &view).await;
            let before = std::mem::replace(&mut cell.lock().view, view.clone());
            if before != view {
                cell.tell_news();
            }
            view
        }
        Err(error) => {
            tracing::warn!(uid = cell.uid, %error, "cannot list a pod's containers");
            cell.lock().view.clone()
        }
    }
}

async fn read_messages(shared: &Shared, cell: &PodCell, view: &PodView) {
    for container in &view.containers {
        let ContainerState::Exited { exit_code, .. } = container.state else { continue };
        if cell.lock().messages.contains_key(&container.id) {
            continue;
        }
        let mut text = Vec::new();
        if let Some(file) = container.config.annotations.get(keys::MESSAGE_FILE) {
            text = shared.world.disk.read_at(std::path::Path::new(file), 0, MESSAGE_BYTES).await.unwrap_or_default();
        }
        let fall_back =
            container.config.annotations.get(keys::MESSAGE_POLICY).is_some_and(|policy| policy == "FallbackToLogsOnError");
        if text.is_empty() && exit_code != 0 && fall_back {
            text = logs::tail(&*shared.world.disk, &container.log_path, LOG_LINES, LOG_BYTES).await;
        }
        cell.lock().messages.insert(container.id.clone(), String::from_utf8_lossy(&text).into_owned());
    }
    let mut state = cell.lock();
    state.messages.retain(|id, _| view.by_id(id).is_some());
}

/// Generates the status from what is known and wakes the sender where it changed; gives the phase.
pub fn tell(shared: &Arc<Shared>, cell: &PodCell, terminal: bool) -> Option<String> {
    let host_ips = shared.host_ips();
    let mut guard = cell.lock();
    let state = &mut *guard;
    let object = state.mirror.as_ref().unwrap_or(&state.pod);
    let nothing = PodStatus::default();
    let api = object.status.as_ref().unwrap_or(&nothing);
    // An address is remembered by the kubelet that saw it (its PLEG's cache, in the real one). So after a reboot
    // the pod has none until it has a new sandbox.
    let first = || {
        let told = PodStatus { pod_ip: None, pod_ips: None, ..api.clone() };
        // A static pod starts anew with its kubelet, however it ended before (a shutdown of the node).
        if cell.is_static() { PodStatus { phase: None, reason: None, message: None, ..told } } else { told }
    };
    let old = state.status.as_ref().map_or_else(|| Cow::Owned(first()), Cow::Borrowed);
    let mut fresh = status::generate(&Inputs {
        pod: &state.pod,
        old: &old,
        view: &state.view,
        waiting: &state.waiting,
        messages: &state.messages,
        probed: &state.probed,
        runtime_name: &shared.runtime_name,
        host_ips: &host_ips,
        terminal,
        is_static: cell.is_static(),
        forced: state.forced.as_ref(),
        kubelet_started_at: shared.started_at,
        now: shared.now(),
    });
    let phase = fresh.phase.clone();
    // A pod is not final while anything of it may run.
    let sent = |phase: &Option<String>| status::is_terminal(phase.as_deref());
    if sent(&fresh.phase) && !sent(&api.phase) && !sent(&old.phase) && state.view.running().next().is_some() {
        fresh.phase.clone_from(&old.phase);
        fresh.reason.clone_from(&old.reason);
        fresh.message.clone_from(&old.message);
        if !api.conditions.iter().flatten().any(is_disruption) {
            fresh.conditions.get_or_insert_default().retain(|condition| !is_disruption(condition));
        }
    }
    let changed = state.status.as_ref() != Some(&fresh);
    if changed {
        state.status = Some(fresh);
    }
    drop(guard);
    if changed {
        cell.status_changed();
        cell.tell_news();
    }
    phase
}

fn is_disruption(condition: &PodCondition) -> bool {
    condition.type_ == "DisruptionTarget"
}
