//! Service account tokens, renewed before they run out.
//!
//! Source: kubernetes pkg/kubelet/token/token_manager.go (at 80 % of the life, or after 24 h).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use daruma_api::k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use daruma_api::meta::ObjectExt;
use jiff::Timestamp;

use crate::backoff::between;
use crate::cell::PodCell;
use crate::shared::Shared;

/// A token is renewed after this time at the latest.
const OLDEST: Duration = Duration::from_secs(24 * 3600);
/// Life that is asked for where none is given.
const DEFAULT_SECONDS: i64 = 3600;

/// Tokens by pod and purpose.
#[derive(Default)]
pub struct Tokens(Mutex<BTreeMap<(String, String), Token>>);

#[derive(Clone)]
struct Token {
    text: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

impl Token {
    /// Time until it is renewed.
    fn fresh_for(&self, now: Timestamp) -> Duration {
        let (life, age) = (between(self.issued_at, self.expires_at), between(self.issued_at, now));
        life.mul_f64(0.8).min(OLDEST).saturating_sub(age)
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        !self.fresh_for(now).is_zero()
    }
}

/// A renewal that failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(60);

impl Tokens {
    /// Time until one of the pod's tokens has to be renewed; `None` where it has none.
    pub fn next_renewal(&self, uid: &str, now: Timestamp) -> Option<Duration> {
        let tokens = self.0.lock().expect("no panic while held");
        let own = tokens.range((uid.to_owned(), String::new())..).take_while(|((owner, _), _)| owner == uid);
        let least = own.map(|(_, token)| token.fresh_for(now)).min()?;
        // One that should have been renewed just now could not be.
        Some(if least.is_zero() { RETRY } else { least })
    }

    /// Forgets a pod's tokens.
    pub fn forget(&self, uid: &str) {
        self.0.lock().expect("no panic while held").retain(|(owner, _), _| owner != uid);
    }
}

/// A token for the pod's service account that is good for a while.
pub(super) async fn token(
    shared: &Arc<Shared>,
    cell: &PodCell,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
) -> Result<String, String> {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let audience = projection.audience.clone().unwrap_or_default();
    let seconds = projection.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
    let key = (cell.uid.clone(), format!("{account}/{audience}/{seconds}"));
    let tokens = &shared.tokens.0;
    let known = tokens.lock().expect("no panic while held").get(&key).cloned();
    let now = shared.now();
    if let Some(token) = known.as_ref().filter(|token| token.is_fresh(now)) {
        return Ok(token.text.clone());
    }
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: if audience.is_empty() { None } else { Some(vec![audience]) },
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: Some(pod.name().into()),
                uid: Some(pod.uid().into()),
            }),
        }),
        ..TokenRequest::default()
    };
    let api = shared.client.namespaced::<ServiceAccount>(pod.namespace());
    let answer: Result<TokenRequest, _> = api.create_subresource(account, "token", &request).await;
    let status = match answer {
        Ok(answer) => answer.status,
        Err(error) => {
            // An old token is better than none while it lasts.
            return match known.filter(|token| token.expires_at > now) {
                Some(token) => Ok(token.text),
                None => Err(format!("failed to fetch token: {error}")),
            };
        }
    };
    let issued = status.and_then(|status| Some((status.token?, status.expiration_timestamp?.0)));
    let Some((text, expires_at)) = issued else { return Err("failed to fetch token: the answer holds none".into()) };
    let token = Token { text: text.clone(), issued_at: now, expires_at };
    tokens.lock().expect("no panic while held").insert(key, token);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn freshness() {
        let token = Token { text: String::new(), issued_at: at(0), expires_at: at(3600) };
        assert!(token.is_fresh(at(2879)));
        assert!(!token.is_fresh(at(2881)));
        let long = Token { text: String::new(), issued_at: at(0), expires_at: at(365 * 86400) };
        assert!(!long.is_fresh(at(86400 + 1)));
    }
}
