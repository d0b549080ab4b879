//! No pod is put on a node whose allocatable it exceeds.

use daruma_api::quantity::Quantity;
use daruma_api::resources::{self, ResourceList};

use super::{Invariant, Seen, Stored, Verdict};

pub(super) struct Allocatable;

impl Invariant for Allocatable {
    fn name(&self) -> &'static str {
        "pods-fit-their-nodes"
    }

    fn stored(&mut self, seen: &Seen, event: &Stored<'_>) -> Verdict {
        let Some(pod) = event.new.and_then(|new| new.pod()) else { return Ok(()) };
        let Some(node) = pod.node.as_deref() else { return Ok(()) };
        let was_there = event.old.and_then(|old| old.pod()).is_some_and(|old| old.node.is_some());
        // Static pods are shown, not placed.
        if was_there || pod.is_mirror {
            return Ok(());
        }
        let Some(allocatable) = seen.nodes.get(node).map(|node| &node.allocatable) else { return Ok(()) };
        let mut asked = ResourceList::new();
        let mut count = 0;
        for one in seen.asked_of(node) {
            resources::add(&mut asked, one);
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
