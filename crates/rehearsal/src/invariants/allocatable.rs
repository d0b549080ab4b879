//! No pod is put on a node whose allocatable it exceeds.

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;
use daruma_api::quantity::Quantity;
use daruma_api::resources::{self, ResourceList};

use super::seen::has_ended;
use super::{Invariant, Seen, Stored, Verdict};

pub(super) struct Allocatable;

impl Invariant for Allocatable {
    fn name(&self) -> &'static str {
        "pods-fit-their-nodes"
    }

    fn stored(&mut self, seen: &Seen, event: &Stored<'_>) -> Verdict {
        let Some(pod) = event.new.and_then(|new| new.pod()) else { return Ok(()) };
        let Some(node) = node_of(pod) else { return Ok(()) };
        let was_there = event.old.and_then(|old| old.pod()).is_some_and(|old| node_of(old).is_some());
        // Static pods are shown, not placed.
        if was_there || pod.annotation("kubernetes.io/config.mirror").is_some() {
            return Ok(());
        }
        let Some(found) = seen.nodes.get(node) else { return Ok(()) };
        let allocatable = found.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let allocatable = resources::parse_list(allocatable);
        let mut asked = ResourceList::new();
        let mut count = 0;
        for other in seen.pods.values().filter(|other| node_of(other) == Some(node) && !has_ended(other)) {
            resources::add(&mut asked, &other.spec.as_ref().map(resources::pod_requests).unwrap_or_default());
            count += 1;
        }
        let over = asked.iter().find(|(name, asked)| **asked > allocatable.get(*name).copied().unwrap_or_default());
        if let Some((name, asked)) = over {
            let there = allocatable.get(name).copied().unwrap_or_default();
            return Err(format!("{} was put on {node}: {name} asked {asked}, allocatable {there}", pod.key()));
        }
        let most = allocatable.get("pods").copied().map_or(i64::MAX, Quantity::value);
        if count > most {
            return Err(format!("{} was put on {node}: it has {count} pods of at most {most}", pod.key()));
        }
        Ok(())
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    const NODE: &str = r#"{"metadata":{"name":"w"},"status":{"allocatable":{"cpu":"1","memory":"1Gi","pods":"3"}}}"#;
    const HALF: &str = r#"{"metadata":{"namespace":"d","name":"a"},"spec":{"nodeName":"w","containers":[{"name":"c",
        "resources":{"requests":{"cpu":"500m"}}}]}}"#;
    const PENDING: &str = r#"{"metadata":{"namespace":"d","name":"a"},"spec":{"containers":[{"name":"c",
        "resources":{"requests":{"cpu":"500m"}}}]}}"#;

    #[test]
    fn fires() {
        let two = vec![("put", "core/nodes/w", 1, NODE), ("put", "core/pods/d/a", 2, HALF), ("put", "core/pods/d/b", 3, HALF)];
        check(&two, &[]);
        // A scheduler that does not count.
        let three = [two, vec![("put", "core/pods/d/c", 4, PENDING), ("put", "core/pods/d/c", 5, HALF)]].concat();
        check(&three, &["pods-fit-their-nodes"]);
    }
}
