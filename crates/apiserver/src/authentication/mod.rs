//! Who asks: loopback, client certificate, service-account token, or nobody.

pub mod certificate;
pub mod impersonation;
pub mod token;

use std::sync::{Arc, Mutex};

use daruma_api::status::ApiError;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::config::ApiServerConfig;
use crate::recent::Recent;
use crate::server::ApiServer;
use crate::user::User;

/// The client certificate (DER) of a request's connection, verified by TLS against the cluster's CA.
/// Whoever owns the socket puts it into the request's extensions.
#[derive(Debug, Clone)]
pub struct PeerCertificate(pub Vec<u8>);

/// The identity of an in-process caller.
#[derive(Debug, Clone)]
pub(crate) struct LoopbackIdentity(pub Arc<User>);

/// Bytes of certificates whose users are remembered, at most twice.
const CERTIFICATE_BYTES: usize = 128 << 10;
/// Paths that nobody in particular may ask for.
const OPEN_PATHS: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// Finds out who asks.
pub struct Authenticator {
    anonymous_health: bool,
    anonymous: Arc<User>,
    /// Users by certificate.
    certified: Mutex<Recent<Arc<User>>>,
    /// Service-account tokens.
    pub tokens: token::Tokens,
}

impl Authenticator {
    /// From the settings.
    pub fn new(config: &ApiServerConfig) -> Self {
        Self {
            anonymous_health: config.anonymous_health,
            anonymous: Arc::new(User::anonymous()),
            certified: Mutex::new(Recent::new(CERTIFICATE_BYTES)),
            tokens: token::Tokens::new(config),
        }
    }

    /// The user of a request.
    ///
    /// # Errors
    /// 401.
    pub async fn authenticate(&self, server: &Arc<ApiServer>, request: &Parts) -> Result<Arc<User>, ApiError> {
        if let Some(identity) = request.extensions.get::<LoopbackIdentity>() {
            return Ok(identity.0.clone());
        }
        if let Some(PeerCertificate(der)) = request.extensions.get::<PeerCertificate>()
            && let Some(user) = self.certified(der)
        {
            return Ok(user);
        }
        if let Some(header) = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok())
            && let Some((scheme, token)) = header.split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
        {
            let accepted = self.tokens.check(server, token.trim(), &server.config.audiences).await;
            return match accepted {
                Ok(accepted) => Ok(accepted.user),
                Err(why) => {
                    tracing::debug!(%why, "a token was refused");
                    Err(ApiError::unauthorized())
                }
            };
        }
        let path = request.uri.path();
        let open =
            OPEN_PATHS.iter().any(|open| path.strip_prefix(open).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        if self.anonymous_health && open { Ok(self.anonymous.clone()) } else { Err(ApiError::unauthorized()) }
    }

    /// The user of a certificate; `None` where it names none.
    fn certified(&self, der: &[u8]) -> Option<Arc<User>> {
        let recent = || self.certified.lock().expect("no panic while held");
        if let Some(known) = recent().get(der) {
            return Some(known);
        }
        let user = Arc::new(certificate::user(der)?.authenticated());
        recent().insert(der, user.clone(), der.len());
        Some(user)
    }
}
