//! Acting as somebody else, by headers.
//!
//! Facts: kubernetes apiserver pkg/endpoints/filters/impersonation.

use std::sync::Arc;

use daruma_api::status::ApiError;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::authorization::Question;
use crate::server::ApiServer;
use crate::user::User;

const PREFIX: &str = "impersonate-";
const EXTRA_PREFIX: &str = "impersonate-extra-";

impl ApiServer {
    /// The user that the headers ask for, if `user` may act as them; else `user`.
    ///
    /// # Errors
    /// 403; 400 for groups or extras without a user.
    pub async fn impersonate(self: &Arc<Self>, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, ApiError> {
        if !headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
            return Ok(user);
        }
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let groups: Vec<String> =
            headers.get_all("impersonate-group").iter().filter_map(|value| value.to_str().ok()).map(Into::into).collect();
        let extras: Vec<(String, String)> = headers
            .iter()
            .filter_map(|(name, value)| {
                let key = name.as_str().strip_prefix(EXTRA_PREFIX)?;
                Some((percent_decode_str(key).decode_utf8_lossy().into_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect();
        let (name, uid) = (value("impersonate-user"), value("impersonate-uid"));
        if name.is_empty() {
            if groups.is_empty() && extras.is_empty() && uid.is_empty() {
                return Ok(user);
            }
            return Err(ApiError::internal("requested impersonation without impersonating a user"));
        }
        let mut target = User { name: name.clone(), uid, groups, ..User::default() };
        let mut ask: Vec<(&str, &str, String, String, String)> = Vec::new();
        ask.extend(target.groups.iter().map(|group| ("", "groups", String::new(), String::new(), group.clone())));
        if let Some((namespace, account)) = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
            ask.push(("", "serviceaccounts", String::new(), namespace.into(), account.into()));
            if target.groups.is_empty() {
                target.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
            }
        } else {
            ask.push(("", "users", String::new(), String::new(), name.clone()));
        }
        if !target.uid.is_empty() {
            ask.push(("authentication.k8s.io", "uids", String::new(), String::new(), target.uid.clone()));
        }
        for (key, value) in extras {
            ask.push(("authentication.k8s.io", "userextras", key.clone(), String::new(), value.clone()));
            target.extra.entry(key).or_default().push(value);
        }
        for (group, resource, subresource, namespace, name) in ask {
            let question = Question {
                verb: "impersonate",
                is_resource: true,
                group,
                version: if group.is_empty() { "v1" } else { "" },
                resource,
                subresource: &subresource,
                namespace: &namespace,
                name: &name,
                ..Question::default()
            };
            self.authorization.demand(self, &user, &question).await?;
        }
        Ok(Arc::new(target.authenticated()))
    }
}
