//! The simulated nodes of `daruma up --simulated N`: how they are started and waited for.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_client::{Client, ListOptions};
use daruma_cluster::shape::Shape;
use daruma_cluster::simulated;
use daruma_sim::behaviour::Behaviours;
use jiff::Timestamp;

use super::Which;
use super::cluster_directory::ClusterDirectory;
use super::up_wait::Progress;

/// Clusters of more nodes than this have controllers that may ask more often.
const MANY: usize = 250;
/// How often nodes are looked at, and how much later for each of them: a look costs the API server something.
const STEP: Duration = Duration::from_millis(200);
const STEP_A_NODE: Duration = Duration::from_millis(1);

/// Raises the controllers' rate of requests in a cluster of many nodes, where nobody has set it: each node that joins takes
/// two of them, which at 20 a second would make a thousand nodes wait for 100 s.
pub fn raise_limits(shape: &mut Shape, nodes: usize) {
    if nodes > MANY {
        let flags = shape.settings.entry("kube-controller-manager".to_owned()).or_default();
        for (flag, value) in [("kube-api-qps", "200"), ("kube-api-burst", "400")] {
            flags.entry(flag.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
}

/// The command line of their process without the program; `None` where there are none.
pub fn command(shape: &Shape, which: &Which) -> Option<Vec<String>> {
    let words = || {
        let root = std::path::absolute(&which.root).unwrap_or_else(|_| which.root.clone());
        vec![simulated::MODE.to_owned(), format!("--name={}", which.name), format!("--root={}", root.display())]
    };
    (simulated::count(shape) > 0).then(words)
}

/// Reads a file of behaviours, to be refused before anything is made.
pub fn behaviours(file: Option<&Path>, simulated: u32) -> Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    if simulated == 0 {
        bail!("--behaviours says how containers of simulated nodes behave; ask for some with --simulated");
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Behaviours::new().read(&text).with_context(|| file.display().to_string())?;
    Ok(Some(text))
}

/// Keeps it for the simulated nodes.
pub fn keep_behaviours(directory: &ClusterDirectory, text: Option<&str>) -> Result<()> {
    text.map_or(Ok(()), |text| directory.write(ClusterDirectory::BEHAVIOURS, text))
}

/// Waits until all of these have said that they are Ready after `since`: of a cluster that comes back, the Node objects are
/// there already.
pub async fn until_ready(client: &Client, names: BTreeSet<String>, progress: &Progress, since: Timestamp) {
    let wanted = names.len();
    let selector = format!("{}={}", simulated::LABEL.0, simulated::LABEL.1);
    if wanted == 0 {
        return;
    }
    loop {
        let options = ListOptions { label_selector: selector.clone(), ..ListOptions::default() };
        let ready = match client.cluster::<Node>().list(&options).await {
            Ok(list) => list.items.iter().filter(|node| names.contains(node.name()) && is_ready(node, since)).count(),
            Err(error) => {
                tracing::debug!(%error, "listing nodes");
                0
            }
        };
        if ready >= wanted {
            return;
        }
        progress.say(&format!("waiting for simulated nodes: {ready} of {wanted} are Ready"));
        client.world().sleep(STEP + STEP_A_NODE * u32::try_from(wanted).unwrap_or(u32::MAX)).await;
    }
}

fn is_ready(node: &Node, since: Timestamp) -> bool {
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    // Heartbeats have whole seconds.
    let is_new = |heartbeat: Timestamp| heartbeat.as_second() >= since.as_second();
    conditions.into_iter().any(|condition| {
        let heartbeat = condition.last_heartbeat_time.as_ref().is_some_and(|time| is_new(time.0));
        condition.type_ == "Ready" && condition.status == "True" && heartbeat
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_heartbeat_is_none() {
        let check = |status: &str, heartbeat: &str, wanted: bool| {
            let condition = serde_json::json!({"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat});
            let node = serde_json::json!({"metadata": {}, "status": {"conditions": [condition]}});
            let node: Node = serde_json::from_value(node).expect("a node");
            let since = "2026-01-02T03:04:05.6Z".parse().expect("a time");
            assert_eq!(is_ready(&node, since), wanted, "{status} {heartbeat}");
        };
        check("True", "2026-01-02T03:04:05Z", true);
        check("True", "2026-01-02T03:04:04Z", false);
        check("False", "2026-01-02T03:05:05Z", false);
    }
}
