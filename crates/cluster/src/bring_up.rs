//! What is done between switching the machines on and "every node is Ready".

use std::time::Duration;

use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_client::{Client, ClientError, ListOptions, Patch};
use serde_json::{Value, json};

use crate::addons;
use crate::shape::{Role, Shape};

/// Creates the add-ons (see [`addons::objects`]) as soon as the API server answers, then waits for the nodes. Looks every `step` and tells by
/// `say` what it waits for.
///
/// # Errors
/// An add-on was refused for good.
pub async fn until_ready(
    client: &Client,
    shape: &Shape,
    addons: &[Value],
    step: Duration,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(), ClientError> {
    let world = client.world();
    say("waiting for the API server");
    while client.json(http::Method::GET, "/readyz", "", None).await.is_err() {
        world.sleep(step).await;
    }
    say("creating network, proxy, DNS and metrics");
    // The API server may be restarted under our hands; what is there already stays as it is.
    while let Err(error) = addons::apply(client, addons).await {
        tracing::debug!(%error, "creating add-ons");
        if error.api().is_some_and(|error| error.code < 500 && error.code != 429 && error.code != 403 && error.code != 404) {
            return Err(error);
        }
        world.sleep(step).await;
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
        say(&format!("waiting for {}", missing.join(", ")));
        world.sleep(step).await;
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
