//! Registers the node and reports its status.
//!
//! Source: kubernetes pkg/kubelet/kubelet_node_status.go (registerWithAPIServer, tryUpdateNodeStatus), and pkg/kubelet/kubelet.go
//! (Run) for what comes before the first report.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Node, NodeStatus};
use daruma_client::{ClientError, Patch};
use daruma_world::containers::Image;
use daruma_world::disk::Usage;
use futures::future::BoxFuture;
use serde_json::json;

use super::status::{Inputs, differs, events, labels, make, new_node};
use super::{heartbeat, keep, tick};
use crate::eviction::Pressure;
use crate::shared::Shared;

const RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// Reports for as long as the kubelet lives.
pub async fn run(shared: Arc<Shared>) {
    // Else a node that was only restarted would not be Ready for a moment, whenever the API is quicker than the engine.
    tick::ask_engine(&shared).await;
    let mut retry = RETRY;
    while let Err(error) = register(&shared).await {
        tracing::debug!(%error, "cannot register the node");
        shared.world.sleep(retry).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
    crate::mirror::look(&shared);
    let mut sent_at = shared.world.monotonic();
    let mut first = true;
    let mut last = Last::default();
    loop {
        let due = first || shared.world.monotonic().saturating_sub(sent_at) >= shared.config.node_status_report_frequency;
        let failed = match report_repeatedly(&shared, due, &mut last).await {
            Ok(sent) => {
                if sent {
                    sent_at = shared.world.monotonic();
                }
                first = false;
                false
            }
            Err(error) => {
                tracing::debug!(%error, "cannot report the node's status");
                true
            }
        };
        let retry: BoxFuture<'static, ()> =
            if failed { shared.world.sleep(LONGEST_RETRY) } else { Box::pin(futures::future::pending()) };
        // The node's tick says when a status is due.
        tokio::select! {
            biased;
            () = shared.node_due.notified() => {}
            () = retry => {}
        }
    }
}

async fn report_repeatedly(shared: &Shared, due: bool, last: &mut Last) -> Result<bool, ClientError> {
    let mut attempt = 0;
    loop {
        match Box::pin(report(shared, due, last)).await {
            Ok(sent) => return Ok(sent),
            Err(error) => {
                heartbeat::failed(shared, attempt, "reporting the node's status", &error);
                attempt += 1;
                if attempt == heartbeat::ATTEMPTS {
                    return Err(error);
                }
            }
        }
    }
}

/// What a status is made of, next to what never changes and the time.
#[derive(PartialEq)]
struct Ground {
    disk: Usage,
    images: Arc<[Image]>,
    problems: Vec<String>,
    pressure: Pressure,
}

async fn survey(shared: &Shared) -> Ground {
    let known = shared.disk.lock().expect("no panic while held").usage;
    let disk = if known.capacity_bytes > 0 { known } else { shared.space().await };
    let images = match shared.answer_soon(shared.runtime.list_images()).await {
        Some(Ok(images)) => {
            *shared.images.lock().expect("no panic while held") = images.clone();
            images
        }
        // Those that it had, as long as it tells of no others.
        _ => shared.images.lock().expect("no panic while held").clone(),
    };
    let shutdown = shared.is_shutting_down().then(|| "node is shutting down".to_owned());
    let problems = shared.runtime_problems().into_iter().chain(shared.network_problem()).chain(shutdown).collect();
    let pressure = shared.pressure.lock().expect("no panic while held").clone();
    Ground { disk, images, problems, pressure }
}

fn compute(shared: &Shared, ground: &Ground, old: &NodeStatus) -> NodeStatus {
    make(
        &Inputs {
            facts: &shared.facts,
            config: &shared.config,
            host_ips: &shared.host_ips(),
            runtime_version: &shared.runtime.version(),
            disk: ground.disk,
            images: &ground.images,
            problems: &ground.problems,
            pressure: &ground.pressure,
            now: crate::status::to_seconds(shared.now()),
        },
        old,
    )
}

async fn register(shared: &Shared) -> Result<(), ClientError> {
    let api = shared.client.cluster::<Node>();
    let name = &shared.config.node_name;
    let found = match api.find(name).await? {
        Some(node) => Arc::new(node),
        None if shared.config.register_node => {
            let status = compute(shared, &survey(shared).await, &NodeStatus::default());
            match api.create(&new_node(&shared.facts, &shared.config, status.clone())).await {
                Ok(node) => {
                    tell(shared, events(None, &status));
                    node
                }
                Err(error) if error.is_already_exists() => Arc::new(api.get(name).await?),
                Err(error) => return Err(error),
            }
        }
        None => return Err(daruma_client::TransportError(format!("node {name:?} does not exist yet")).into()),
    };
    let wanted = labels(&shared.facts, &shared.config);
    let have = found.metadata.labels.clone().unwrap_or_default();
    let missing: std::collections::BTreeMap<_, _> =
        wanted.into_iter().filter(|(key, value)| have.get(key) != Some(value)).collect();
    let found =
        if missing.is_empty() { found } else { api.patch(name, &Patch::Merge(json!({"metadata": {"labels": missing}}))).await? };
    keep(shared, found);
    Ok(())
}

fn tell(shared: &Shared, events: Vec<&'static str>) {
    for event in events {
        shared.recorder.node(event, format!("Node {} status is now: {event}", shared.config.node_name));
    }
}

/// What was seen at the last look.
#[derive(Default)]
struct Last {
    /// The node's object, and what its status was made of.
    look: Option<(Arc<Node>, Ground)>,
    is_cordoned: bool,
}

/// Computes the status and sends it where it changed or is due; `true` when it was sent.
async fn report(shared: &Shared, due: bool, last: &mut Last) -> Result<bool, ClientError> {
    let api = shared.client.cluster::<Node>();
    // The copy is kept current by a watch. Who deletes the object means it: only a kubelet that starts registers its node.
    let Some(node) = shared.node.lock().expect("no panic while held").clone() else { return Ok(false) };
    let is_cordoned = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    if is_cordoned != last.is_cordoned {
        last.is_cordoned = is_cordoned;
        tell(shared, vec![if is_cordoned { "NodeNotSchedulable" } else { "NodeSchedulable" }]);
    }
    let never = NodeStatus::default();
    let old = node.status.as_ref().unwrap_or(&never);
    let ground = survey(shared).await;
    if !due && last.look.as_ref().is_some_and(|(seen, before)| Arc::ptr_eq(seen, &node) && *before == ground) {
        return Ok(false);
    }
    let new = compute(shared, &ground, old);
    if !due && !differs(old, &new) {
        last.look = Some((node, ground));
        return Ok(false);
    }
    let old_boot = old.node_info.as_ref().map(|info| info.boot_id.clone()).filter(|id| !id.is_empty());
    if let Some(old_boot) = old_boot
        && old_boot != shared.facts.boot_id
    {
        let message = format!("Node {} has been rebooted, boot id: {}", shared.config.node_name, shared.facts.boot_id);
        shared.recorder.node_warning("Rebooted", message);
    }
    let mut before = serde_json::to_value(old).unwrap_or_default();
    let mut after = serde_json::to_value(&new).unwrap_or_default();
    let mut patch = serde_json::Map::new();
    // Conditions merge by type, addresses by type (which cannot hold two of one type: they are replaced as a whole).
    if let (Some(before), Some(after)) = (before.as_object_mut(), after.as_object_mut()) {
        let conditions = after.remove("conditions").unwrap_or_default();
        before.remove("conditions");
        patch.insert("conditions".into(), conditions);
        for (field, value) in after.iter() {
            if before.get(field) != Some(value) {
                if field == "addresses" {
                    let mut list = value.as_array().cloned().unwrap_or_default();
                    list.push(json!({"$patch": "replace"}));
                    patch.insert(field.clone(), list.into());
                } else {
                    patch.insert(field.clone(), value.clone());
                }
            }
        }
    }
    let patch = Patch::Strategic(json!({"status": patch}));
    let updated = heartbeat::limited(shared, api.patch_status(&shared.config.node_name, &patch)).await?;
    tell(shared, events(Some(old), &new));
    keep(shared, updated);
    Ok(true)
}
