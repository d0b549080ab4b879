//! Gives every node its slice of the pods' range.
//!
//! Source: kubernetes pkg/controller/nodeipam/ipam/range_allocator.go.

pub mod cidr_set;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_client::Patch;
use daruma_client::events::EventType;
use daruma_client::informer::Delta;
use futures::FutureExt;
use serde_json::json;

use self::cidr_set::{Cidr, CidrSet};
use crate::events::node_reference;
use crate::shell::{Context, SyncError, Synced};

/// Attempts to write a node's range.
const TRIES: u32 = 3;

/// What a node needs.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is on its way out.
    Nothing,
    /// It has these ranges, which are to be marked as used.
    Occupy(Vec<String>),
    /// A new range.
    Allocate,
}

/// Decides about one node.
pub fn plan(node: &Node) -> Need {
    let ranges = ranges(node);
    if !ranges.is_empty() {
        Need::Occupy(ranges)
    } else if node.is_being_deleted() {
        Need::Nothing
    } else {
        Need::Allocate
    }
}

fn ranges(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    match spec.pod_cidrs.clone() {
        Some(ranges) if !ranges.is_empty() => ranges,
        _ => spec.pod_cidr.iter().filter(|range| !range.is_empty()).cloned().collect(),
    }
}

/// Registers the controller; without a valid range it has nothing to do.
pub(crate) fn start(context: Context) {
    if !context.config.allocate_node_cidrs {
        return;
    }
    let config = &context.config;
    let set = config.cluster_cidr.parse().and_then(|range: Cidr| CidrSet::new(range, config.node_cidr_mask_size));
    let mut set = match set {
        Ok(set) => set,
        Err(error) => {
            tracing::error!(%error, range = config.cluster_cidr, "nodes get no pod ranges");
            return;
        }
    };
    if let Ok(services) = config.service_cluster_ip_range.parse::<Cidr>() {
        // Ranges that do not overlap are the usual case.
        let _ = set.occupy(services);
    }
    let set = Arc::new(Mutex::new(set));
    let queue = context.queue("cidrallocator_node");
    let shared = context.shared.clone();
    {
        let (queue, set) = (queue.clone(), set.clone());
        shared.nodes.on_delta(move |delta| match delta {
            Delta::Added(node) | Delta::Updated(_, node) => queue.add(node.name()),
            Delta::Deleted(node) => {
                let mut set = set.lock().expect("no panic while held");
                for range in ranges(node) {
                    if let Err(error) = range.parse().and_then(|range| set.release(range)) {
                        tracing::warn!(node = node.name(), %error, "cannot release the node's range");
                    }
                }
            }
        });
    }
    let ready = {
        let (shared, set) = (shared.clone(), set.clone());
        async move {
            shared.nodes.wait_synced().await;
            // What nodes have must be known before anything is given out.
            for node in shared.nodes.list() {
                occupy(&set, &node, &ranges(&node));
            }
        }
    };
    let allocator = Arc::new(Allocator { context: context.clone(), set, given: Mutex::default() });
    context.work(&queue, context.workers, ready, move |name| {
        let allocator = allocator.clone();
        async move { allocator.sync(&name).await }.boxed()
    });
}

fn occupy(set: &Mutex<CidrSet>, node: &Node, ranges: &[String]) {
    let mut set = set.lock().expect("no panic while held");
    for range in ranges {
        if let Err(error) = range.parse().and_then(|range| set.occupy(range)) {
            tracing::warn!(node = node.name(), %error, "the node's range is not of the cluster's");
        }
    }
}

struct Allocator {
    context: Context,
    set: Arc<Mutex<CidrSet>>,
    /// Ranges given by node uid that the local copy of the node does not show yet.
    given: Mutex<BTreeMap<String, Cidr>>,
}

impl Allocator {
    async fn sync(&self, name: &str) -> Synced {
        let Some(node) = self.context.shared.nodes.get("", name) else { return Ok(None) };
        match plan(&node) {
            Need::Nothing => {}
            Need::Occupy(ranges) => {
                self.given.lock().expect("no panic while held").remove(node.uid());
                occupy(&self.set, &node, &ranges);
            }
            Need::Allocate => self.allocate(&node).await?,
        }
        Ok(None)
    }

    async fn allocate(&self, node: &Node) -> Result<(), SyncError> {
        let earlier = self.given.lock().expect("no panic while held").get(node.uid()).copied();
        let allocated = earlier.map_or_else(|| self.set.lock().expect("no panic while held").allocate(), Ok);
        let range = match allocated {
            Ok(range) => range,
            Err(error) => {
                self.event(node, "CIDRNotAvailable");
                return Err(SyncError::Blocked(format!("failed to allocate cidr from cluster cidr at idx:0: {error}")));
            }
        };
        self.given.lock().expect("no panic while held").insert(node.uid().to_owned(), range);
        let text = range.to_string();
        let patch = Patch::Strategic(json!({ "spec": { "podCIDR": text, "podCIDRs": [text] } }));
        let api = self.context.client.all::<Node>();
        let mut failure = None;
        for _ in 0..TRIES {
            match api.patch(node.name(), &patch).await {
                Ok(_) => {
                    tracing::info!(node = node.name(), range = text, "the node has its pod range");
                    return Ok(());
                }
                Err(error) => failure = Some(error),
            }
        }
        let Some(error) = failure else { return Ok(()) };
        // A write whose answer was lost may have happened: only a refusal frees the range.
        if error.api().is_some() {
            self.event(node, "CIDRAssignmentFailed");
            self.given.lock().expect("no panic while held").remove(node.uid());
            if let Err(error) = self.set.lock().expect("no panic while held").release(range) {
                tracing::warn!(%error, "cannot release a range that was not used");
            }
        }
        Err(error.into())
    }

    fn event(&self, node: &Node, reason: &str) {
        let message = format!("Node {} status is now: {reason}", node.name());
        self.context.recorder.event(&node_reference(node.name(), node.uid()), EventType::Normal, reason, message);
    }
}
