//! Extension API servers: what `APIService` objects with a service say.
//!
//! Facts: kubernetes kube-aggregator pkg/apiserver/{handler_proxy,apiservice_handler}.go and
//! pkg/controllers/status/remote/remote_available_controller.go.

mod availability;
mod resolve;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use daruma_api::status::ApiError;
use daruma_client::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::call::Call;
use crate::discovery::model::{Group, Resource, Version};
use crate::http::answer;
use crate::subresources::forward::forward;

pub use availability::follow;

/// An extension server's group version.
#[derive(Debug, Clone, PartialEq)]
pub struct Remote {
    /// Name of the APIService, `v1beta1.metrics.k8s.io`.
    pub name: String,
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Namespace of its service.
    pub service_namespace: String,
    /// Name of its service.
    pub service_name: String,
    /// Port of its service.
    pub service_port: u16,
    /// Its authorities (PEM); `None` does not verify.
    pub ca_bundle: Option<String>,
    /// Place of the group in lists.
    pub priority: i64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    remotes: BTreeMap<String, Remote>,
    available: BTreeMap<String, bool>,
    resources: BTreeMap<String, Vec<Resource>>,
}

/// What is known of extension servers.
#[derive(Debug, Default)]
pub struct Aggregation {
    known: Mutex<Known>,
    version: AtomicU64,
}

impl Aggregation {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while held")
    }

    /// Changes whenever something else is known.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Changes what is known; the version only where that makes a difference.
    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        let before = known.clone();
        change(&mut known);
        if *known != before {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The extension server of a group version.
    pub fn remote(&self, group: &str, version: &str) -> Option<Remote> {
        let known = self.known();
        let is_it = |name: &str| name.strip_prefix(version).is_some_and(|rest| rest.strip_prefix('.') == Some(group));
        known.remotes.iter().find(|(name, _)| is_it(name)).map(|(_, remote)| remote.clone())
    }

    /// Adds their groups to discovery.
    pub fn add_groups(&self, groups: &mut Vec<Group>) {
        let known = self.known();
        for (name, remote) in &known.remotes {
            let available = known.available.get(name).copied().unwrap_or(false);
            let resources = known.resources.get(name).cloned().unwrap_or_default();
            let version = Version { name: remote.version.clone(), stale: !available, resources };
            match groups.iter_mut().find(|group| group.name == remote.group) {
                Some(group) => group.versions.push(version),
                None => groups.push(Group { name: remote.group.clone(), priority: remote.priority, versions: vec![version] }),
            }
        }
    }

    /// Paths of their OpenAPI documents with something that changes when the server does.
    pub fn openapi_paths(&self) -> Vec<(String, String)> {
        let known = self.known();
        let available = known.remotes.values().filter(|remote| known.available.get(&remote.name) == Some(&true));
        available.map(|remote| (format!("apis/{}/{}", remote.group, remote.version), "0".to_owned())).collect()
    }
}

/// Passes a request on to an extension server, as the user who asks.
///
/// # Errors
/// None: what fails is answered as the real server does.
pub async fn proxy(call: &Call, remote: &Remote, content: Body) -> Result<Response<Body>, ApiError> {
    let unavailable = || answer::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n");
    if call.server.aggregation.known().available.get(&remote.name) != Some(&true) {
        return Ok(unavailable());
    }
    let Ok(transport) = call.server.dial_remote(remote).await else { return Ok(unavailable()) };
    let mut path = call.raw_path.clone();
    if !call.raw_query.is_empty() {
        path = format!("{path}?{}", call.raw_query);
    }
    forward(call, &*transport, &path, content, user_headers(call)).await
}

fn user_headers(call: &Call) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &call.user.name);
    if !call.user.uid.is_empty() {
        add("x-remote-uid", &call.user.uid);
    }
    for group in &call.user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &call.user.extra {
        let key = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC).to_string().to_lowercase();
        for value in values {
            add(&format!("x-remote-extra-{key}"), value);
        }
    }
    headers
}

/// The server that a remote's next request goes to.
pub(crate) type Connection = Arc<dyn daruma_client::Transport>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_tells_of_changes_only() {
        let aggregation = Aggregation::default();
        let before = aggregation.version();
        aggregation.change(|known| _ = known.available.insert("v1.a".into(), true));
        let after = aggregation.version();
        assert_ne!(before, after);
        aggregation.change(|known| _ = known.available.insert("v1.a".into(), true));
        assert_eq!(aggregation.version(), after);
    }

    #[test]
    fn remotes_are_found_by_group_and_version() {
        let remote = Remote {
            name: "v1.a.b".into(),
            group: "a.b".into(),
            version: "v1".into(),
            service_namespace: String::new(),
            service_name: String::new(),
            service_port: 443,
            ca_bundle: None,
            priority: 0,
        };
        let aggregation = Aggregation::default();
        aggregation.change(|known| _ = known.remotes.insert(remote.name.clone(), remote.clone()));
        assert_eq!(aggregation.remote("a.b", "v1"), Some(remote));
        assert_eq!(aggregation.remote("b", "v1"), None);
        assert_eq!(aggregation.remote("a.b", "v2"), None);
    }
}
