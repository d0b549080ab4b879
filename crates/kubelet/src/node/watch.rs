//! The kubelet's copy of its own Node object.
//!
//! Source: kubernetes pkg/kubelet/kubelet.go (nodeLister, with the field selector `metadata.name`).

use std::sync::Arc;

use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_client::ListOptions;
use daruma_client::informer::{Delta, Informer};

use crate::shared::Shared;

/// Follows the object for as long as the kubelet lives.
pub async fn run(shared: Arc<Shared>) {
    let options = ListOptions { field_selector: format!("metadata.name={}", shared.config.node_name), ..ListOptions::default() };
    let informer = Informer::new(shared.client.cluster::<Node>(), options);
    let handler = shared.clone();
    informer.on_delta(move |delta| match delta {
        Delta::Added(node) | Delta::Updated(_, node) => keep(&handler, node.clone()),
        Delta::Deleted(node) => {
            let mut known = handler.node.lock().expect("no panic while held");
            if known.as_ref().is_some_and(|known| known.uid() == node.uid()) {
                *known = None;
            }
        }
    });
    let _watch = informer.start_scoped();
    futures::future::pending::<()>().await;
}

/// Takes over a state of the object, unless a newer one is known.
pub fn keep(shared: &Shared, node: Arc<Node>) {
    let version = |node: &Node| {
        node.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok()).unwrap_or_default()
    };
    let mut known = shared.node.lock().expect("no panic while held");
    if known.as_ref().is_none_or(|known| known.uid() != node.uid() || version(known) <= version(&node)) {
        *known = Some(node);
    }
}
