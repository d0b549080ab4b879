//! Who asks: loopback, client certificate, service-account token, or nobody.

pub mod certificate;
pub mod impersonation;
pub mod token;

use std::sync::Arc;

use daruma_api::status::ApiError;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::config::ApiServerConfig;
use crate::server::ApiServer;
use crate::user::User;

/// The client certificate (DER) of a request's connection, verified by TLS against the cluster's CA.
/// Whoever owns the socket puts it into the request's extensions.
#[derive(Debug, Clone)]
pub struct PeerCertificate(pub Vec<u8>);

/// The identity of an in-process caller.
#[derive(Debug, Clone)]
pub(crate) struct LoopbackIdentity(pub User);

/// Paths that nobody in particular may ask for.
const OPEN_PATHS: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// Finds out who asks.
pub struct Authenticator {
    anonymous_health: bool,
    /// Service-account tokens.
    pub tokens: token::Tokens,
}

impl Authenticator {
    /// From the settings.
    pub fn new(config: &ApiServerConfig) -> Self {
        Self { anonymous_health: config.anonymous_health, tokens: token::Tokens::new(config) }
    }

    /// The user of a request.
    ///
    /// # Errors
    /// 401.
    pub async fn authenticate(&self, server: &Arc<ApiServer>, request: &Parts) -> Result<User, ApiError> {
        if let Some(identity) = request.extensions.get::<LoopbackIdentity>() {
            return Ok(identity.0.clone());
        }
        if let Some(PeerCertificate(der)) = request.extensions.get::<PeerCertificate>()
            && let Some(user) = certificate::user(der)
        {
            return Ok(user.authenticated());
        }
        if let Some(header) = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok())
            && let Some((scheme, token)) = header.split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
        {
            let accepted = self.tokens.check(server, token.trim(), &server.config.audiences).await;
            return match accepted {
                Ok(accepted) => Ok(accepted.user.authenticated()),
                Err(why) => {
                    tracing::debug!(%why, "a token was refused");
                    Err(ApiError::unauthorized())
                }
            };
        }
        let path = request.uri.path();
        let open =
            OPEN_PATHS.iter().any(|open| path.strip_prefix(open).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        if self.anonymous_health && open { Ok(User::anonymous()) } else { Err(ApiError::unauthorized()) }
    }
}
