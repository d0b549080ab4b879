//! What is done between switching the machines on and "every node is Ready".

use std::collections::BTreeSet;
use std::time::Duration;

use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_api::taints::NOT_READY;
use daruma_client::{Client, ClientError, ListOptions, Patch};
use serde_json::{Value, json};

use crate::addons;
use crate::shape::{Role, Shape};

/// Pause between two looks at the nodes, for each of them.
const LOOK_PER_NODE: Duration = Duration::from_millis(1);
/// Names told of those that are not ready.
const NAMED: usize = 8;

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
        let ready: BTreeSet<&str> = nodes.iter().filter(|node| is_ready(node)).map(ObjectExt::name).collect();
        let missing: Vec<&str> =
            shape.machines.iter().map(|machine| machine.name.as_str()).filter(|name| !ready.contains(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        say(&waiting_for(&missing));
        // Thousands of nodes are not listed ten times a second.
        world.sleep(step.max(LOOK_PER_NODE * u32::try_from(nodes.len()).unwrap_or(u32::MAX))).await;
    }
}

/// `waiting for worker-0, worker-1 and 998 more`.
fn waiting_for(missing: &[&str]) -> String {
    match missing.split_at_checked(NAMED) {
        Some((named, more)) if !more.is_empty() => format!("waiting for {} and {} more", named.join(", "), more.len()),
        _ => format!("waiting for {}", missing.join(", ")),
    }
}

/// Whether the kubelet says so, and the node lifecycle controller has seen it: pods may go there.
fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && !taints.into_iter().flatten().any(|taint| taint.key == NOT_READY)
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

#[cfg(test)]
mod tests {
    use daruma_api::core::v1::Node;
    use serde_json::{Value, json};

    use super::{is_ready, waiting_for};

    #[test]
    fn ready_is_where_pods_may_go() {
        let node = |status: &str, taints: Value| {
            let conditions = json!([{"type": "DiskPressure", "status": "True"}, {"type": "Ready", "status": status}]);
            serde_json::from_value::<Node>(json!({"spec": {"taints": taints}, "status": {"conditions": conditions}}))
                .expect("a node")
        };
        let taint = |key: &str| json!([{"key": key, "effect": "NoSchedule"}]);
        assert!(is_ready(&node("True", json!([]))));
        assert!(is_ready(&node("True", taint("node-role.kubernetes.io/control-plane"))));
        assert!(!is_ready(&node("True", taint("node.kubernetes.io/not-ready"))));
        assert!(!is_ready(&node("False", json!([]))));
        assert!(!is_ready(&Node::default()));
    }

    #[test]
    fn a_crowd_is_counted() {
        for (missing, says) in [
            (vec!["worker-1"], "waiting for worker-1"),
            (vec!["a", "b", "c", "d", "e", "f", "g", "h"], "waiting for a, b, c, d, e, f, g, h"),
            (vec!["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], "waiting for a, b, c, d, e, f, g, h and 2 more"),
        ] {
            assert_eq!(waiting_for(&missing), says);
        }
    }
}
