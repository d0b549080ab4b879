//! Whether somebody may do something: masters, the node authorizer, then RBAC.

mod binding;
pub mod escalation;
pub mod node;
pub mod rbac;

use std::sync::Arc;

use daruma_api::selector::Selector;
use daruma_api::status::ApiError;

use crate::http::{Query, RequestInfo};
use crate::registry::Registry;
use crate::server::ApiServer;
use crate::user::{MASTERS, User};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question<'a> {
    /// Verb.
    pub verb: &'a str,
    /// Whether it is about a resource.
    pub is_resource: bool,
    /// API group.
    pub group: &'a str,
    /// Version; any where empty.
    pub version: &'a str,
    /// Plural.
    pub resource: &'a str,
    /// Subresource.
    pub subresource: &'a str,
    /// Namespace; empty for cluster scope and all namespaces.
    pub namespace: &'a str,
    /// Object name.
    pub name: &'a str,
    /// Path of other requests.
    pub path: &'a str,
    /// The field selector of a list or watch.
    pub fields: Option<&'a Selector>,
}

impl<'a> Question<'a> {
    /// What a request asks for, all fields taken.
    pub fn of(info: &'a RequestInfo) -> Self {
        Self {
            verb: &info.verb,
            is_resource: info.is_resource,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            fields: None,
        }
    }
}

/// An authorizer's answer.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Yes, by this.
    Allow(Grant),
    /// Not from here; somebody else may know better.
    NoOpinion(String),
}

/// Why something is allowed: the binding that says so, and its subject. What is allowed without one needs no reason.
#[derive(Debug, Clone, Default)]
pub struct Grant(Option<(Arc<binding::Binding>, usize)>);

impl Grant {
    /// The reason in words; empty where there is none.
    pub fn reason(&self) -> String {
        self.0.as_ref().map(|(binding, subject)| binding.reason(*subject)).unwrap_or_default()
    }
}

/// Answers questions.
pub struct Authorizer {
    rbac: rbac::Rbac,
}

impl Authorizer {
    /// An authorizer that has not looked at any role yet.
    pub fn new(registry: &Registry) -> Self {
        Self { rbac: rbac::Rbac::new(registry) }
    }

    /// Whether `user` may.
    ///
    /// # Errors
    /// 500 where roles cannot be read.
    pub async fn decide(&self, server: &Arc<ApiServer>, user: &User, question: &Question<'_>) -> Result<Decision, ApiError> {
        if user.is_in(MASTERS) {
            return Ok(Decision::Allow(Grant::default()));
        }
        if let Some(node) = user.node_name()
            && node::allows(server, node, question).await?
        {
            return Ok(Decision::Allow(Grant::default()));
        }
        let index = self.rbac.index(server).await?;
        Ok(index.decide(user, question))
    }

    /// The rules that apply to `user` in `namespace`.
    ///
    /// # Errors
    /// 500 where roles cannot be read.
    pub async fn rules(&self, server: &Arc<ApiServer>, user: &User, namespace: &str) -> Result<Vec<rbac::Rule>, ApiError> {
        let index = self.rbac.index(server).await?;
        Ok(index.rules_of(user, namespace).into_iter().cloned().collect())
    }

    /// The rules of a role (`resource` is `roles` or `clusterroles`); `None` where there is no such role.
    ///
    /// # Errors
    /// 500 where roles cannot be read.
    pub async fn rules_of_role(
        &self,
        server: &Arc<ApiServer>,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Vec<rbac::Rule>>, ApiError> {
        Ok(self.rbac.index(server).await?.rules_of_role(resource, namespace, name).cloned())
    }

    /// Refuses what `user` may not.
    ///
    /// # Errors
    /// 403 in the words of the real server (apiserver pkg/endpoints/handlers/responsewriters/errors.go).
    pub async fn demand(&self, server: &Arc<ApiServer>, user: &User, question: &Question<'_>) -> Result<(), ApiError> {
        match self.decide(server, user, question).await? {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(forbidden(user, question, &reason)),
        }
    }

    /// Refuses a request that `user` may not make. Health and version need no permission.
    ///
    /// # Errors
    /// 403.
    pub async fn check(&self, server: &Arc<ApiServer>, user: &User, info: &RequestInfo, query: &Query) -> Result<(), ApiError> {
        let open = ["/healthz", "/livez", "/readyz", "/version"];
        if !info.is_resource && open.iter().any(|path| info.path.starts_with(path)) {
            return Ok(());
        }
        let fields = match info.verb.as_str() {
            "list" | "watch" | "deletecollection" => {
                query.text("fieldSelector").and_then(|text| Selector::parse_fields(text).ok())
            }
            _ => None,
        };
        self.demand(server, user, &Question { fields: fields.as_ref(), ..Question::of(info) }).await
    }
}

fn forbidden(user: &User, question: &Question<'_>, reason: &str) -> ApiError {
    let mut why = message(user, question);
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    if question.is_resource {
        return ApiError::forbidden(question.group, question.resource, question.name, &why);
    }
    let mut error = ApiError::new(403, "Forbidden", format!("forbidden: {why}"));
    error.details = Some(Box::default());
    error
}

fn message(user: &User, question: &Question<'_>) -> String {
    let (name, verb) = (&user.name, question.verb);
    if !question.is_resource {
        return format!("User {name:?} cannot {verb} path {:?}", question.path);
    }
    let resource = if question.subresource.is_empty() {
        question.resource.to_owned()
    } else {
        format!("{}/{}", question.resource, question.subresource)
    };
    let begin = format!("User {name:?} cannot {verb} resource {resource:?} in API group {:?}", question.group);
    if question.namespace.is_empty() {
        format!("{begin} at the cluster scope")
    } else {
        format!("{begin} in the namespace {:?}", question.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let user = User::new("x", ["g"]);
        let mut question =
            Question { verb: "list", is_resource: true, resource: "pods", namespace: "default", ..Question::default() };
        assert_eq!(
            forbidden(&user, &question, "").message,
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#
        );
        question = Question {
            verb: "get",
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            name: "d",
            namespace: "",
            ..question
        };
        assert_eq!(
            forbidden(&user, &question, "").message,
            r#"deployments.apps "d" is forbidden: User "x" cannot get resource "deployments/scale" in API group "apps" at the cluster scope"#
        );
        question = Question { verb: "get", path: "/metrics", ..Question::default() };
        assert_eq!(forbidden(&user, &question, "").message, r#"forbidden: User "x" cannot get path "/metrics""#);
    }
}
