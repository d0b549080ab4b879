//! Admission: what the cluster adds to and demands of objects on their way in. One file a plugin,
//! named in [`ALL`]; all change first, then all judge.

pub mod default_toleration_seconds;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod priority;
pub mod service_account;
pub mod taint_nodes_by_condition;

use std::sync::Arc;

use daruma_api::status::ApiError;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::registry::Resource;
use crate::server::ApiServer;
use crate::user::User;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed one.
    Update,
    /// One that goes.
    Delete,
}

/// A write that is to be admitted.
pub struct Attributes {
    /// What is being done.
    pub operation: Operation,
    /// To which resource.
    pub resource: Arc<Resource>,
    /// Which subresource; empty for the main one.
    pub subresource: String,
    /// Namespace; empty in cluster scope.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Who writes.
    pub user: Arc<User>,
    /// Whether nothing will be written.
    pub dry_run: bool,
    /// The object; null for a deletion.
    pub object: Value,
    /// The object before.
    pub old: Option<Arc<Value>>,
    /// For the client.
    pub warnings: Vec<String>,
}

impl Attributes {
    /// The object, and what it was before; null where there was nothing.
    pub fn new_and_old(&mut self) -> (&mut Value, &Value) {
        static NOTHING: Value = Value::Null;
        (&mut self.object, self.old.as_deref().unwrap_or(&NOTHING))
    }

    /// Whether the main resource or the named subresource of `group`'s `plural` is written.
    pub fn is(&self, group: &str, plural: &str, subresource: &str) -> bool {
        self.resource.is(group, plural) && self.subresource == subresource
    }

    /// A new pod, main resource.
    pub fn is_new_pod(&self) -> bool {
        self.operation == Operation::Create && self.is("", "pods", "")
    }

    /// 403 about this object.
    pub fn forbidden(&self, why: &str) -> ApiError {
        ApiError::forbidden(self.resource.group(), self.resource.plural(), &self.name, why)
    }
}

/// An admission plugin.
pub trait Plugin: Sync {
    /// Its name in flags and errors.
    fn name(&self) -> &'static str;

    /// Whether it has anything to say.
    fn handles(&self, attributes: &Attributes) -> bool;

    /// Changes the object.
    fn mutate<'a>(&'a self, _server: &'a Arc<ApiServer>, _attributes: &'a mut Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async { Ok(()) })
    }

    /// Judges the object.
    fn validate<'a>(&'a self, _server: &'a Arc<ApiServer>, _attributes: &'a Attributes) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Every plugin, in order (kubernetes pkg/kubeapiserver/options/plugins.go).
pub static ALL: &[&dyn Plugin] = &[
    &namespace_lifecycle::NamespaceLifecycle,
    &service_account::ServiceAccount,
    &node_restriction::NodeRestriction,
    &taint_nodes_by_condition::TaintNodesByCondition,
    &priority::Priority,
    &default_toleration_seconds::DefaultTolerationSeconds,
];

/// Lets every plugin change the object.
///
/// # Errors
/// The first refusal.
pub async fn mutate(server: &Arc<ApiServer>, attributes: &mut Attributes) -> Result<(), ApiError> {
    for plugin in ALL {
        if plugin.handles(attributes) {
            plugin.mutate(server, attributes).await?;
        }
    }
    Ok(())
}

/// Lets every plugin judge the object.
///
/// # Errors
/// The first refusal.
pub async fn validate(server: &Arc<ApiServer>, attributes: &Attributes) -> Result<(), ApiError> {
    for plugin in ALL {
        if plugin.handles(attributes) {
            plugin.validate(server, attributes).await?;
        }
    }
    Ok(())
}
