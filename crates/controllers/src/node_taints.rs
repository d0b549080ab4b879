//! Adding and removing taints of a node, conflict-safe.
//!
//! Source: kubernetes pkg/controller/controller_utils.go (AddOrUpdateTaintOnNode, RemoveTaintOffNode).

use std::time::Duration;

use daruma_api::core::v1::{Node, Taint};
use daruma_api::meta::ObjectExt;
use daruma_api::taints::same;
use daruma_client::{Api, ClientError, Patch};
use serde_json::json;

use crate::pods::wire_time;

/// Attempts after a conflict, and the pause between them.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// The taints of a node.
pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Whether the node carries a taint of this key and effect.
pub fn has(node: &Node, taint: &Taint) -> bool {
    taints(node).iter().any(|one| same(one, taint))
}

/// A taint without value and time.
pub fn taint(key: &str, effect: &str) -> Taint {
    Taint { key: key.to_owned(), effect: effect.to_owned(), time_added: None, value: None }
}

/// `present` with `add` added or updated and `remove` taken out; `None` when that changes nothing.
pub fn changed(present: &[Taint], add: &[Taint], remove: &[Taint]) -> Option<Vec<Taint>> {
    let mut result: Vec<Taint> = present.to_vec();
    for taint in add {
        match result.iter_mut().find(|one| same(one, taint)) {
            Some(one) => *one = taint.clone(),
            None => result.push(taint.clone()),
        }
    }
    result.retain(|one| !remove.iter().any(|taint| same(one, taint)));
    (result != present).then_some(result)
}

/// Adds taints, with the time of adding, then removes others, each in a write of its own, as node
/// controllers do it. `node` is what the caller has seen; it saves needless reads.
pub(crate) async fn swap(api: &Api<Node>, node: &Node, add: &[Taint], remove: &[Taint]) -> Result<(), ClientError> {
    let now = wire_time(api.client().world().now());
    let add: Vec<Taint> = add.iter().map(|taint| Taint { time_added: Some(now.clone()), ..taint.clone() }).collect();
    if !add.is_empty() {
        write(api, node.name(), &add, &[]).await?;
    }
    remove_from(api, node, remove).await
}

/// Removes taints where `node` carries any of them.
pub(crate) async fn remove_from(api: &Api<Node>, node: &Node, remove: &[Taint]) -> Result<(), ClientError> {
    if remove.iter().any(|taint| has(node, taint)) { write(api, node.name(), &[], remove).await } else { Ok(()) }
}

async fn write(api: &Api<Node>, name: &str, add: &[Taint], remove: &[Taint]) -> Result<(), ClientError> {
    let mut tries = 0;
    loop {
        let node = api.get(name).await?;
        let Some(new) = changed(taints(&node), add, remove) else { return Ok(()) };
        // The list is replaced as a whole, so the revision guards against taints added meanwhile.
        let new = if new.is_empty() { serde_json::Value::Null } else { json!(new) };
        let patch = json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": new },
        });
        tries += 1;
        match api.patch(name, &Patch::Strategic(patch)).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_conflict() && tries < TRIES => api.client().world().sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_api::taints::{NO_EXECUTE, NOT_READY, UNREACHABLE};

    #[test]
    fn changes() {
        let not_ready = taint(NOT_READY, NO_EXECUTE);
        let unreachable = taint(UNREACHABLE, NO_EXECUTE);
        let present = [not_ready.clone()];
        assert_eq!(changed(&present, &present, &[]), None);
        assert_eq!(changed(&present, std::slice::from_ref(&unreachable), &present), Some(vec![unreachable.clone()]));
        assert_eq!(changed(&present, &[], &[unreachable]), None);
        assert_eq!(changed(&present, &[], &present), Some(Vec::new()));
    }
}
