//! Service-account tokens: JWTs signed with ES256.
//!
//! Facts: kubernetes pkg/serviceaccount/{jwt,claims}.go.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use daruma_api::json;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::config::ApiServerConfig;
use crate::document::text;
use crate::recent::Recent;
use crate::server::ApiServer;
use crate::user::User;

/// DER before the 65 bytes of a P-256 public key (RFC 5480).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Bytes of tokens remembered as good, at most twice.
const REMEMBERED_BYTES: usize = 256 << 10;

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no JWT of ours.
    #[error("malformed token: {0}")]
    Malformed(&'static str),
    /// No key verifies it.
    #[error("invalid signature")]
    Signature,
    /// It is not meant for this server.
    #[error("token audiences {0:?} is invalid for the target audiences")]
    Audience(Vec<String>),
    /// Its time is over or has not come.
    #[error("token has expired or is not yet valid")]
    Time,
    /// What it is bound to has gone.
    #[error("{0}")]
    Bound(String),
    /// It cannot be made.
    #[error("cannot sign tokens: {0}")]
    NoKey(String),
}

/// A reference in a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// The private claims under `kubernetes.io`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Private {
    /// Namespace of the account.
    pub namespace: String,
    /// Node of the pod, or bound node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// Bound pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// Bound secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The account.
    pub serviceaccount: Option<Reference>,
    /// When clients should have renewed it, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// All claims.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claims {
    /// Audiences.
    pub aud: Vec<String>,
    /// Expiry, seconds since 1970.
    pub exp: i64,
    /// Issue time.
    pub iat: i64,
    /// Issuer.
    pub iss: String,
    /// Token id.
    #[serde(default)]
    pub jti: String,
    /// Kubernetes' own.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Private,
    /// Not valid before.
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub sub: String,
}

/// A good token.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Whose; authenticated.
    pub user: Arc<User>,
    /// For which of the asked audiences.
    pub audiences: Vec<String>,
}

/// What a token with a good signature says.
struct Verified {
    claims: Claims,
    /// Whose it is, if what it is bound to still exists.
    user: Arc<User>,
}

/// Makes and checks tokens.
pub struct Tokens {
    issuer: String,
    signer: Result<EcdsaKeyPair, String>,
    key_id: String,
    keys: Vec<Vec<u8>>,
    random: SystemRandom,
    verified: Mutex<Recent<Arc<Verified>>>,
}

impl Tokens {
    /// From the settings. A key that does not parse is logged and left out.
    pub fn new(config: &ApiServerConfig) -> Self {
        let random = SystemRandom::new();
        let signer = match &config.signing_key {
            None => Err("no signing key is configured".to_owned()),
            Some(pem) => decode_pem(pem).and_then(|der| {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random)
                    .map_err(|error| format!("signing key: {error}"))
            }),
        };
        let mut keys: Vec<Vec<u8>> = signer.iter().map(|pair| pair.public_key().as_ref().to_vec()).collect();
        for pem in &config.verification_keys {
            match public_key(pem) {
                Ok(key) => keys.push(key),
                Err(why) => tracing::warn!(why, "leaving out a token verification key"),
            }
        }
        if let (Err(why), true) = (&signer, config.signing_key.is_some()) {
            tracing::error!(why, "no service-account tokens can be made");
        }
        let key_id = keys.first().map(|key| key_id(key)).unwrap_or_default();
        Self { issuer: config.issuer.clone(), signer, key_id, keys, random, verified: Mutex::new(Recent::new(REMEMBERED_BYTES)) }
    }

    /// Signs claims; the issuer is filled in. The token is known to be good when it comes back.
    ///
    /// # Errors
    /// [`TokenError::NoKey`].
    pub fn sign(&self, mut claims: Claims) -> Result<String, TokenError> {
        let signer = self.signer.as_ref().map_err(|why| TokenError::NoKey(why.clone()))?;
        claims.iss.clone_from(&self.issuer);
        let header = format!("{{\"alg\":\"ES256\",\"kid\":\"{}\"}}", self.key_id);
        let payload = serde_json::to_vec(&claims).map_err(|error| TokenError::NoKey(error.to_string()))?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = signer.sign(&self.random, signed.as_bytes()).map_err(|error| TokenError::NoKey(error.to_string()))?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        self.remember(&token, claims);
        Ok(token)
    }

    /// Checks signature, issuer, audience, time and what the token is bound to.
    ///
    /// # Errors
    /// Why it is no good.
    pub async fn check(&self, server: &Arc<ApiServer>, token: &str, audiences: &[String]) -> Result<Accepted, TokenError> {
        let verified = self.verify(token)?;
        let claims = &verified.claims;
        if claims.iss != self.issuer {
            return Err(TokenError::Malformed("another issuer"));
        }
        let good: Vec<String> = audiences.iter().filter(|one| claims.aud.contains(one)).cloned().collect();
        if good.is_empty() {
            return Err(TokenError::Audience(claims.aud.clone()));
        }
        let now = server.world.now().as_second();
        if now >= claims.exp || now < claims.nbf {
            return Err(TokenError::Time);
        }
        check_bound(server, claims).await?;
        Ok(Accepted { user: verified.user.clone(), audiences: good })
    }

    fn verify(&self, token: &str) -> Result<Arc<Verified>, TokenError> {
        if let Some(known) = self.verified.lock().expect("no panic while held").get(token.as_bytes()) {
            return Ok(known);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("three parts expected"))?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed("three parts expected"))?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed("base64"));
        let header: serde_json::Value = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed("header"))?;
        if text(&header, "/alg") != "ES256" {
            return Err(TokenError::Malformed("another algorithm than ES256"));
        }
        let signature = decode(signature)?;
        let good = self
            .keys
            .iter()
            .any(|key| UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed.as_bytes(), &signature).is_ok());
        if !good {
            return Err(TokenError::Signature);
        }
        let claims = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed("claims"))?;
        Ok(self.remember(token, claims))
    }

    fn remember(&self, token: &str, claims: Claims) -> Arc<Verified> {
        let verified = Arc::new(Verified { user: Arc::new(user(&claims).authenticated()), claims });
        self.verified.lock().expect("no panic while held").insert(token.as_bytes(), verified.clone(), token.len());
        verified
    }
}

/// The user of claims.
fn user(claims: &Claims) -> User {
    let private = &claims.kubernetes;
    let namespace = private.namespace.as_str();
    let account = private.serviceaccount.as_ref();
    let mut user = User::new(
        format!("system:serviceaccount:{namespace}:{}", account.map(|account| account.name.as_str()).unwrap_or_default()),
        ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
    );
    user.uid = account.map(|account| account.uid.clone()).unwrap_or_default();
    let mut extra = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    for (kind, reference) in [("pod", &private.pod), ("node", &private.node)] {
        if let Some(reference) = reference {
            extra(&format!("{kind}-name"), &reference.name);
            extra(&format!("{kind}-uid"), &reference.uid);
        }
    }
    user
}

/// Whether account, pod, secret and node of a token still exist.
async fn check_bound(server: &Arc<ApiServer>, claims: &Claims) -> Result<(), TokenError> {
    let private = &claims.kubernetes;
    let namespace = private.namespace.as_str();
    let Some(account) = &private.serviceaccount else { return Err(TokenError::Malformed("no service account")) };
    exists(server, "serviceaccounts", namespace, account).await?;
    if let Some(pod) = &private.pod {
        exists(server, "pods", namespace, pod).await?;
    }
    if let Some(secret) = &private.secret {
        exists(server, "secrets", namespace, secret).await?;
    }
    // A pod's token outlives its node's object; one bound to a node does not.
    if let Some(node) = private.node.as_ref().filter(|_| private.pod.is_none()) {
        exists(server, "nodes", "", node).await?;
    }
    Ok(())
}

async fn exists(server: &Arc<ApiServer>, plural: &str, namespace: &str, reference: &Reference) -> Result<(), TokenError> {
    let gone = |why: &str| TokenError::Bound(format!("{plural} {:?} {why}", reference.name));
    let Some(resource) = server.registry.built_in("", "v1", plural) else { return Err(gone("is not served here")) };
    let found = server.fetch(resource, namespace, &reference.name).await.map_err(|error| gone(&error.message))?;
    let uid = json::text_at(&found.value, &["metadata", "uid"]);
    if uid.as_deref().unwrap_or_default() == reference.uid { Ok(()) } else { Err(gone("has another UID")) }
}

fn decode_pem(pem: &str) -> Result<Vec<u8>, String> {
    let body: String = pem
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with("-----BEGIN"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    if pem.contains("BEGIN EC PRIVATE KEY") {
        return Err("a SEC 1 key; PKCS #8 is wanted (BEGIN PRIVATE KEY)".into());
    }
    if body.is_empty() {
        return Err("no PEM block".into());
    }
    STANDARD.decode(body).map_err(|error| error.to_string())
}

fn public_key(pem: &str) -> Result<Vec<u8>, String> {
    let der = decode_pem(pem)?;
    match der.strip_prefix(P256_PREFIX.as_slice()) {
        Some(point) if point.len() == 65 => Ok(point.to_vec()),
        _ => Err("not a P-256 public key".into()),
    }
}

/// The key's id: the SHA-256 of its DER form, as the real server makes it.
fn key_id(point: &[u8]) -> String {
    let der = [P256_PREFIX.as_slice(), point].concat();
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &der))
}
