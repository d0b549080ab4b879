//! DefaultTolerationSeconds: pods stay a while on nodes that are not ready or not reachable.
//!
//! Facts: kubernetes plugin/pkg/admission/defaulttolerationseconds/admission.go.

use std::sync::Arc;

use daruma_api::status::ApiError;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use crate::document::{self, text};
use crate::server::ApiServer;

/// The plugin.
pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation != Operation::Delete && attributes.is("", "pods", "")
    }

    fn mutate<'a>(&'a self, server: &'a Arc<ApiServer>, attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        add(&mut attributes.object, server.config.default_toleration_seconds);
        Box::pin(async { Ok(()) })
    }
}

fn add(pod: &mut Value, seconds: i64) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = document::list(pod, "/spec/tolerations").iter().any(|toleration| {
            let (its_key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
            (its_key == key || its_key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !tolerated {
            let toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
            document::elements(document::child(pod, "spec"), "tolerations").push(toleration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tolerations: Value, added: usize) {
        let before = tolerations.as_array().map_or(0, Vec::len);
        let mut pod = json!({"spec": {"tolerations": tolerations}});
        add(&mut pod, 300);
        assert_eq!(document::list(&pod, "/spec/tolerations").len() - before, added, "{pod}");
    }

    #[test]
    fn tolerations() {
        check(json!([]), 2);
        check(json!([{"operator": "Exists"}]), 0);
        check(json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]), 1);
        check(json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]), 2);
    }
}
