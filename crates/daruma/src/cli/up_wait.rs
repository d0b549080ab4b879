//! What `daruma up` does between switching the machines on and "every node is Ready".

use std::time::Duration;

use anyhow::Result;
use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_client::{Client, ListOptions, Patch};
use daruma_cluster::addons;
use daruma_cluster::shape::{Role, Shape};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

/// How often things are looked at.
const STEP: Duration = Duration::from_millis(25);

/// Tells a person what is going on, on the standard error.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shown to people only.
    pub fn new(visible: bool) -> Self {
        let bar = if visible { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// What is going on now.
    pub fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Creates the add-ons as soon as the API server answers, then waits for the nodes.
pub async fn until_ready(client: &Client, shape: &Shape, progress: &Progress) -> Result<()> {
    let world = client.world();
    progress.say("waiting for the API server");
    while client.json(http::Method::GET, "/readyz", "", None).await.is_err() {
        world.sleep(STEP).await;
    }
    progress.say("creating network, proxy, DNS and metrics");
    // The API server may be restarted under our hands; what is there already stays as it is.
    while let Err(error) = addons::apply(client, shape).await {
        tracing::debug!(%error, "creating add-ons");
        if error.api().is_some_and(|error| error.code < 500 && error.code != 429 && error.code != 403 && error.code != 404) {
            return Err(error.into());
        }
        world.sleep(STEP).await;
    }
    loop {
        let nodes = match client.cluster::<Node>().list(&ListOptions::default()).await {
            Ok(list) => list.items,
            Err(error) => {
                tracing::debug!(%error, "listing nodes");
                Vec::new()
            }
        };
        mark_control_plane(client, shape, &nodes).await;
        let missing: Vec<&str> =
            shape.machines.iter().map(|machine| machine.name.as_str()).filter(|name| !is_ready(&nodes, name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        progress.say(&format!("waiting for {}", missing.join(", ")));
        world.sleep(STEP).await;
    }
}

fn is_ready(nodes: &[Node], name: &str) -> bool {
    let conditions = nodes
        .iter()
        .find(|node| node.name() == name)
        .and_then(|node| node.status.as_ref())
        .and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The labels that kubeadm gives to controllers; a kubelet may not give them to itself.
async fn mark_control_plane(client: &Client, shape: &Shape, nodes: &[Node]) {
    const ROLE: &str = "node-role.kubernetes.io/control-plane";
    let controllers = shape.machines.iter().filter(|machine| machine.role == Role::Controller);
    for machine in controllers {
        let unmarked = nodes.iter().any(|node| node.name() == machine.name && node.label(ROLE).is_none());
        if unmarked {
            let labels = json!({ROLE: "", "node.kubernetes.io/exclude-from-external-load-balancers": ""});
            let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
            if let Err(error) = client.cluster::<Node>().patch(&machine.name, &patch).await {
                tracing::debug!(%error, "labelling a controller");
            }
        }
    }
}
