//! Who asks, and whether they may.
//!
//! Source: kubernetes pkg/kubelet/server/auth.go, cmd/kubelet/app/auth.go (webhook: allowed 5 min, denied 30 s, tokens 2 min).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use daruma_api::k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use daruma_api::k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use daruma_client::Body;
use http::{Method, Request, Response, StatusCode, header};

use super::certificate::identity;
use super::{PeerCertificate, text};
use crate::shared::Shared;

const ALLOWED_FOR: Duration = Duration::from_secs(300);
const DENIED_FOR: Duration = Duration::from_secs(30);
const TOKEN_FOR: Duration = Duration::from_secs(120);
/// Answers remembered at once.
const REMEMBERED: usize = 4096;

/// Answers that the API gave.
#[derive(Default)]
pub struct Access {
    decisions: Mutex<BTreeMap<String, (bool, Duration)>>,
    tokens: Mutex<BTreeMap<String, (User, Duration)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    name: String,
    groups: Vec<String>,
}

/// What of a request decides.
pub(super) struct Asked {
    certificate: Option<PeerCertificate>,
    authorization: String,
    verb: &'static str,
    subresources: Vec<&'static str>,
}

impl Asked {
    /// Reads a request's head.
    pub fn of(request: &Request<Body>) -> Self {
        let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        Self {
            certificate: request.extensions().get::<PeerCertificate>().cloned(),
            authorization: header.unwrap_or_default().to_owned(),
            verb: verb(request.method()),
            subresources: subresources(request.uri().path()),
        }
    }
}

impl Access {
    /// Lets the request through or gives the answer that refuses it.
    pub(super) async fn check(&self, shared: &Shared, asked: Asked) -> Result<(), Box<Response<Body>>> {
        let refuse = |status, content: &str| Err(Box::new(text(status, content)));
        let user = match self.user(shared, &asked).await {
            Ok(Some(user)) => user,
            Ok(None) => return refuse(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Err(error) => {
                tracing::debug!(error, "cannot review a token");
                return refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
            }
        };
        if !shared.config.authorize {
            return Ok(());
        }
        let verb = asked.verb;
        let node = &shared.config.node_name;
        let resources = &asked.subresources;
        for subresource in resources {
            match self.allowed(shared, &user, verb, subresource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let message = format!(
                        "Authorization error (user={}, verb={verb}, resource=nodes, subresource(s)={resources:?}): {error}",
                        user.name
                    );
                    tracing::warn!(message);
                    return refuse(StatusCode::INTERNAL_SERVER_ERROR, &message);
                }
            }
        }
        let message =
            format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])", user.name, resources.join(" "));
        tracing::debug!(node, message);
        refuse(StatusCode::FORBIDDEN, &message)
    }

    async fn user(&self, shared: &Shared, asked: &Asked) -> Result<Option<User>, String> {
        if let Some(certificate) = &asked.certificate {
            return Ok(identity(&certificate.0).map(|(name, groups)| User { name, groups: authenticated(groups) }));
        }
        let Some(token) = asked.authorization.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty()) else {
            return Ok(None);
        };
        let now = shared.world.monotonic();
        if let Some((user, until)) = self.tokens.lock().expect("no panic while held").get(token)
            && *until > now
        {
            return Ok(Some(user.clone()));
        }
        let review = TokenReview { spec: TokenReviewSpec { token: token.to_owned(), audiences: None }, ..TokenReview::default() };
        let answer = shared.client.cluster::<TokenReview>().create(&review).await.map_err(|error| error.to_string())?;
        let status = answer.status.clone().unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        let info = status.user.unwrap_or_default();
        let user = User { name: info.username.unwrap_or_default(), groups: info.groups.unwrap_or_default() };
        let mut tokens = self.tokens.lock().expect("no panic while held");
        if tokens.len() >= REMEMBERED {
            tokens.clear();
        }
        tokens.insert(token.to_owned(), (user.clone(), now + TOKEN_FOR));
        Ok(Some(user))
    }

    async fn allowed(&self, shared: &Shared, user: &User, verb: &str, subresource: &str) -> Result<bool, String> {
        let key = format!("{}\n{}\n{verb}\n{subresource}", user.name, user.groups.join(","));
        let now = shared.world.monotonic();
        if let Some((allowed, until)) = self.decisions.lock().expect("no panic while held").get(&key)
            && *until > now
        {
            return Ok(*allowed);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    name: Some(shared.config.node_name.clone()),
                    subresource: Some(subresource.to_owned()),
                    verb: Some(verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = shared.client.cluster::<SubjectAccessReview>().create(&review).await.map_err(|error| error.to_string())?;
        let allowed = answer.status.as_ref().is_some_and(|status| status.allowed);
        let mut decisions = self.decisions.lock().expect("no panic while held");
        if decisions.len() >= REMEMBERED {
            decisions.clear();
        }
        decisions.insert(key, (allowed, now + if allowed { ALLOWED_FOR } else { DENIED_FOR }));
        Ok(allowed)
    }
}

fn authenticated(mut groups: Vec<String>) -> Vec<String> {
    groups.push("system:authenticated".into());
    groups
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Subresources of the node that a path stands for, the finest first.
fn subresources(path: &str) -> Vec<&'static str> {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => vec!["stats"],
        "metrics" => vec!["metrics"],
        "logs" => vec!["log"],
        "checkpoint" => vec!["checkpoint"],
        "pods" | "runningpods" => vec!["pods", "proxy"],
        "healthz" => vec!["healthz", "proxy"],
        "configz" => vec!["configz", "proxy"],
        _ => vec!["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes() {
        for (path, expected) in [
            ("/stats/summary", "stats"),
            ("/metrics/resource", "metrics"),
            ("/exec/a/b/c", "proxy"),
            ("/containerLogs/a/b/c", "proxy"),
            ("/pods", "pods proxy"),
            ("/logs/x", "log"),
        ] {
            assert_eq!(subresources(path).join(" "), expected, "{path}");
        }
    }
}
