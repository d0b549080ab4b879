//! Tells kubelets by annotation how long they may keep ConfigMaps and Secrets, by cluster size.
//!
//! Source: kubernetes pkg/controller/ttl/ttl_controller.go.

use std::sync::Arc;
use std::sync::Mutex;

use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_client::Patch;
use daruma_client::informer::Delta;
use futures::FutureExt;
use serde_json::json;

use crate::shell::{Context, Synced};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Fewest nodes, most nodes, seconds; the steps overlap so that a size at an edge does not flap.
const STEPS: [(usize, usize, u32); 5] = [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The step that a cluster of so many nodes is in, coming from `step`.
pub fn next_step(mut step: usize, nodes: usize) -> usize {
    while nodes > STEPS[step].1 {
        step += 1;
    }
    while nodes < STEPS[step].0 {
        step -= 1;
    }
    step
}

/// The seconds to write on a node; `None` when it says so already.
pub fn plan(node: &Node, step: usize) -> Option<String> {
    let wanted = STEPS[step].2.to_string();
    (node.annotation(ANNOTATION) != Some(&wanted)).then_some(wanted)
}

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let queue = context.queue("ttlcontroller");
    let shared = context.shared.clone();
    let step = Arc::new(Mutex::new((0usize, 0usize)));
    {
        let (queue, step) = (queue.clone(), step.clone());
        shared.nodes.on_delta(move |delta| {
            let mut step = step.lock().expect("no panic while held");
            match delta {
                Delta::Added(_) => step.1 += 1,
                Delta::Deleted(_) => step.1 = step.1.saturating_sub(1),
                Delta::Updated(..) => {}
            }
            step.0 = next_step(step.0, step.1);
            if !matches!(delta, Delta::Deleted(_)) {
                queue.add(delta.object().name());
            }
        });
    }
    let ready = {
        let shared = shared.clone();
        async move { shared.nodes.wait_synced().await }
    };
    let syncer = context.clone();
    context.work(&queue, context.workers, ready, move |name| {
        let (context, step) = (syncer.clone(), step.clone());
        async move {
            let step = step.lock().expect("no panic while held").0;
            sync(&context, &name, step).await
        }
        .boxed()
    });
}

async fn sync(context: &Context, name: &str, step: usize) -> Synced {
    let Some(node) = context.shared.nodes.get("", name) else { return Ok(None) };
    if let Some(seconds) = plan(&node, step) {
        let patch = json!({ "metadata": { "annotations": { ANNOTATION: seconds } } });
        context.client.all::<Node>().patch(name, &Patch::Strategic(patch)).await?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_slack() {
        assert_eq!(next_step(0, 100), 0);
        assert_eq!(next_step(0, 101), 1);
        assert_eq!(next_step(1, 90), 1);
        assert_eq!(next_step(1, 89), 0);
        assert_eq!(next_step(0, 5000), 4);
        assert_eq!(plan(&Node::default(), 1).as_deref(), Some("15"));
    }
}
