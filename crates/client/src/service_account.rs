//! Calls as a service account, with a token that is asked for and renewed on the way.
//!
//! Source: kubernetes staging/src/k8s.io/controller-manager/pkg/clientbuilder/client_builder_dynamic.go
//! (`--use-service-account-credentials`).

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::ServiceAccount;
use daruma_api::metav1::ObjectMeta;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{Body, Client, ClientError, Transport, TransportError};

/// Lifetime that is asked for, in seconds.
const LIFETIME_SECONDS: u64 = 3600;
/// Part of its lifetime after which a token is renewed.
const RENEW_AFTER: f64 = 0.8;
/// Pause between two tries to get a token, and how many there are before a call fails.
const RETRY: (Duration, u32) = (Duration::from_millis(200), 50);

/// Sends requests with the token of one service account. The account is made where it is missing.
pub struct ServiceAccountTransport {
    inner: Arc<Inner>,
}

struct Inner {
    /// May create service accounts and their tokens.
    root: Client,
    /// Carries requests without credentials of its own.
    transport: Arc<dyn Transport>,
    namespace: String,
    name: String,
    /// The token and when it is to be renewed (monotonic).
    token: Mutex<Option<(HeaderValue, Duration)>>,
}

impl ServiceAccountTransport {
    /// Calls as `namespace`/`name`; `root` gets the tokens, `transport` carries the calls.
    pub fn new(root: &Client, transport: Arc<dyn Transport>, namespace: &str, name: &str) -> Self {
        let inner =
            Inner { root: root.clone(), transport, namespace: namespace.into(), name: name.into(), token: Mutex::new(None) };
        Self { inner: Arc::new(inner) }
    }
}

impl Transport for ServiceAccountTransport {
    fn call(&self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let inner = self.inner.clone();
        async move {
            let token = inner.token().await.map_err(|error| TransportError(format!("no token for {}: {error}", inner.name)))?;
            request.headers_mut().insert(header::AUTHORIZATION, token);
            let response = inner.transport.call(request).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                // The account was made anew, say: the next call asks for another token.
                *inner.token.lock().await = None;
            }
            Ok(response)
        }
        .boxed()
    }

    fn close_connections(&self) {
        self.inner.transport.close_connections();
    }
}

impl Inner {
    async fn token(&self) -> Result<HeaderValue, ClientError> {
        let world = self.root.world();
        let mut token = self.token.lock().await;
        if let Some((value, renew)) = &*token
            && world.monotonic() < *renew
        {
            return Ok(value.clone());
        }
        let mut tries = 0;
        loop {
            match self.ask().await {
                Ok(value) => {
                    let renew = world.monotonic() + Duration::from_secs(LIFETIME_SECONDS).mul_f64(RENEW_AFTER);
                    *token = Some((value.clone(), renew));
                    return Ok(value);
                }
                Err(error) if tries >= RETRY.1 => return Err(error),
                Err(error) => tracing::debug!(account = self.name, %error, "waiting for a token"),
            }
            tries += 1;
            world.sleep(RETRY.0).await;
        }
    }

    async fn ask(&self) -> Result<HeaderValue, ClientError> {
        let accounts = self.root.namespaced::<ServiceAccount>(&self.namespace);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": LIFETIME_SECONDS},
        });
        let mut answer: Result<Value, ClientError> = accounts.create_subresource(&self.name, "token", &request).await;
        if answer.as_ref().is_err_and(ClientError::is_not_found) {
            let metadata =
                ObjectMeta { name: Some(self.name.clone()), namespace: Some(self.namespace.clone()), ..ObjectMeta::default() };
            match accounts.create(&ServiceAccount { metadata, ..ServiceAccount::default() }).await {
                Ok(_) => {}
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
            answer = accounts.create_subresource(&self.name, "token", &request).await;
        }
        let answer = answer?;
        let token = answer["status"]["token"].as_str().unwrap_or_default();
        HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| TransportError("the server's token is no header value".into()).into())
    }
}
