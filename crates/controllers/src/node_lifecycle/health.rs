//! Whether a node still gives signs of life, and what its conditions become when not.
//!
//! Source: kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go `tryUpdateNodeHealth`.

use std::time::Duration;

use daruma_api::coordination::v1::Lease;
use daruma_api::core::v1::{Node, NodeCondition};
use jiff::Timestamp;

use crate::pods::{since, wire_time};

/// Conditions that the kubelet keeps; NetworkUnavailable is not its own.
const KUBELET_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What was last seen of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeHealth {
    /// When a sign of life was last seen, by our own clock.
    pub probed: Timestamp,
    /// The Ready condition then.
    pub ready: Option<NodeCondition>,
    /// The newest renewal of the node's lease.
    pub renewed: Option<Timestamp>,
}

impl NodeHealth {
    /// Notes a renewal and says whether that is all there is to do: the node is Ready, as it was when it was seen last, and not silent
    /// for longer than `limit`. Where it is not, nothing is changed, and [`look`] has to say more.
    pub fn stays_calm(&mut self, node: &Node, lease: Option<&Lease>, limit: Duration, now: Timestamp) -> bool {
        let (Some(current), Some(saved)) = (condition(node, "Ready"), &self.ready) else { return false };
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|time| time.0);
        let news = renewed > self.renewed;
        let probed = if news { now } else { self.probed };
        if current.status != "True" || current != saved || renewed.is_none() || since(probed, now) > limit {
            return false;
        }
        if news {
            (self.renewed, self.probed) = (renewed, now);
        }
        true
    }
}

/// The periods that count.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// For a node whose kubelet has posted a status.
    pub monitor: Duration,
    /// For one whose kubelet never has.
    pub startup: Duration,
}

/// What one look at a node gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// To be remembered.
    pub health: NodeHealth,
    /// `status` of Ready before: `Unknown` where there is none.
    pub before: String,
    /// The Ready condition now; after `write`, where that is given.
    pub ready: Option<NodeCondition>,
    /// Conditions to write.
    pub write: Option<Vec<NodeCondition>>,
}

/// One condition of a node.
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Whether the node is ready.
pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Looks at a node. `now` is our own clock, which must not go back; `wall` goes into conditions.
pub fn look(
    saved: Option<&NodeHealth>,
    node: &Node,
    lease: Option<&Lease>,
    grace: Grace,
    now: Timestamp,
    wall: Timestamp,
) -> Look {
    let current = condition(node, "Ready").cloned();
    let created = node.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let (limit, before) = match &current {
        Some(current) => (grace.monitor, current.status.clone()),
        None => (grace.startup, "Unknown".to_owned()),
    };
    let mut health = match saved {
        // A node without a status has its whole life as grace, from its creation on.
        None => {
            NodeHealth { probed: if current.is_some() { now } else { created.min(now) }, ready: current.clone(), renewed: None }
        }
        Some(saved) => {
            let mut health = saved.clone();
            let heard = match (&saved.ready, &current) {
                (None, None) => false,
                (Some(saved), Some(current)) => saved.last_heartbeat_time != current.last_heartbeat_time,
                _ => true,
            };
            if heard {
                health.probed = now;
            }
            if heard || current.is_none() {
                health.ready.clone_from(&current);
            }
            health
        }
    };
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|time| time.0);
    if lease.is_some() && (health.renewed.is_none() || renewed > health.renewed) {
        health.renewed = renewed.or(Some(Timestamp::UNIX_EPOCH));
        health.probed = now;
    }
    let silent = now > health.probed && since(health.probed, now) > limit;
    if !silent {
        return Look { health, before, ready: current, write: None };
    }
    let conditions = unknown(node, wall);
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").cloned();
    let write = (ready != current).then_some(conditions);
    Look { health, before, ready, write }
}

/// The node's conditions with those of its kubelet Unknown.
fn unknown(node: &Node, wall: Timestamp) -> Vec<NodeCondition> {
    let mut conditions: Vec<NodeCondition> =
        node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    for kind in KUBELET_CONDITIONS {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(wire_time(wall)),
            }),
            Some(condition) if condition.status != "Unknown" => {
                "Unknown".clone_into(&mut condition.status);
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(wire_time(wall));
            }
            Some(_) => {}
        }
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::at;
    use daruma_api::coordination::v1::LeaseSpec;
    use daruma_api::core::v1::NodeStatus;
    use daruma_api::metav1::{MicroTime, ObjectMeta};

    const GRACE: Grace = Grace { monitor: Duration::from_secs(50), startup: Duration::from_secs(60) };

    fn node(heartbeat: Option<i64>) -> Node {
        let ready = heartbeat.map(|second| NodeCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            last_heartbeat_time: Some(wire_time(at(second))),
            ..NodeCondition::default()
        });
        Node {
            metadata: ObjectMeta { creation_timestamp: Some(wire_time(at(100))), ..ObjectMeta::default() },
            spec: None,
            status: Some(NodeStatus { conditions: ready.map(|ready| vec![ready]), ..NodeStatus::default() }),
        }
    }

    fn lease(renewed: i64) -> Lease {
        Lease { spec: Some(LeaseSpec { renew_time: Some(MicroTime(at(renewed))), ..LeaseSpec::default() }), ..Lease::default() }
    }

    fn see(saved: Option<&NodeHealth>, node: &Node, lease: Option<&Lease>, second: i64) -> Look {
        look(saved, node, lease, GRACE, at(second), at(second))
    }

    #[test]
    fn silence_longer_than_the_grace_is_unknown() {
        let first = see(None, &node(Some(195)), Some(&lease(199)), 200);
        assert_eq!(first.write, None);
        // The lease is what keeps it alive between statuses.
        let second = see(Some(&first.health), &node(Some(195)), Some(&lease(209)), 210);
        let on_the_edge = see(Some(&second.health), &node(Some(195)), Some(&lease(209)), 260);
        assert_eq!(on_the_edge.write, None);
        let late = see(Some(&on_the_edge.health), &node(Some(195)), Some(&lease(209)), 261);
        let written = late.write.expect("written");
        assert_eq!(late.before, "True");
        assert_eq!(written.len(), 4);
        assert!(written.iter().all(|condition| condition.status == "Unknown"));
        assert_eq!(written[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(written[0].last_heartbeat_time, Some(wire_time(at(195))));
        assert_eq!(written[0].last_transition_time, Some(wire_time(at(261))));
        assert_eq!(written[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
    }

    #[test]
    fn a_new_heartbeat_is_a_sign_of_life() {
        let first = see(None, &node(Some(195)), None, 200);
        let second = see(Some(&first.health), &node(Some(245)), None, 251);
        assert_eq!((second.write, second.health.probed), (None, at(251)));
    }

    #[test]
    fn a_node_that_never_spoke_has_the_startup_grace() {
        let first = see(None, &node(None), None, 110);
        assert_eq!(first.health.probed, at(100));
        assert_eq!(see(Some(&first.health), &node(None), None, 160).write, None);
        let late = see(Some(&first.health), &node(None), None, 161);
        assert_eq!(late.ready.expect("given").reason.as_deref(), Some("NodeStatusNeverUpdated"));
        assert_eq!(late.before, "Unknown");
    }

    #[test]
    fn a_calm_look_says_what_a_whole_one_says() {
        let saved = see(None, &node(Some(200)), Some(&lease(200)), 200).health;
        let unready = |mut node: Node| {
            let conditions = node.status.as_mut().and_then(|status| status.conditions.as_mut()).expect("built");
            "False".clone_into(&mut conditions[0].status);
            node
        };
        let cases = [
            (node(Some(200)), Some(lease(200)), 240, true),
            (node(Some(200)), Some(lease(210)), 240, true),
            (node(Some(200)), Some(lease(210)), 300, true),
            // Silent, another heartbeat, another state, no lease, no status: more is to be said.
            (node(Some(200)), Some(lease(200)), 251, false),
            (node(Some(210)), Some(lease(200)), 240, false),
            (unready(node(Some(200))), Some(lease(210)), 240, false),
            (node(Some(200)), None, 240, false),
            (node(None), Some(lease(210)), 240, false),
        ];
        for (node, lease, now, calm) in cases {
            let mut health = saved.clone();
            let limit = GRACE.monitor;
            assert_eq!(health.stays_calm(&node, lease.as_ref(), limit, at(now)), calm, "{node:?} {lease:?} at {now}");
            if calm {
                let whole = see(Some(&saved), &node, lease.as_ref(), now);
                assert_eq!((whole.health, whole.write), (health, None));
            } else {
                assert_eq!(health, saved);
            }
        }
    }

    #[test]
    fn unknown_is_written_once() {
        let first = see(None, &node(Some(195)), None, 200);
        let late = see(Some(&first.health), &node(Some(195)), None, 300);
        let mut gone = node(Some(195));
        gone.status.as_mut().expect("built").conditions = late.write;
        let again = see(Some(&late.health), &gone, None, 305);
        assert_eq!((again.write, again.before.as_str()), (None, "Unknown"));
    }
}
