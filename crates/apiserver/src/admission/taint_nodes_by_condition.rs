//! TaintNodesByCondition: a new node takes no pods before it has said that it is ready.
//!
//! Facts: kubernetes plugin/pkg/admission/nodetaint/admission.go.

use std::sync::Arc;

use daruma_api::status::ApiError;
use futures::future::BoxFuture;
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::document::{self, text};
use crate::server::ApiServer;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "nodes", "")
    }

    fn mutate<'a>(&'a self, _server: &'a Arc<ApiServer>, attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        let has = document::list(&attributes.object, "/spec/taints")
            .iter()
            .any(|taint| text(taint, "/key") == NOT_READY && text(taint, "/effect") == "NoSchedule");
        if !has {
            let spec = document::child(&mut attributes.object, "spec");
            document::elements(spec, "taints").push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        }
        Box::pin(async { Ok(()) })
    }
}
