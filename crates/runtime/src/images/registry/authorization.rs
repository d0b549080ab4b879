//! Answers to a registry's challenge: Basic with the credentials, Bearer with a token that they, or nobody, fetch.
//!
//! Source: distribution's docs/content/spec/auth/token.md; the texts are containerd's (core/remotes/docker/authorizer.go).

use std::collections::BTreeMap;

use base64::Engine as _;
use daruma_world::containers::RegistryAuth;
use http::{HeaderMap, header};

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token.
    Bearer {
        /// Where it is fetched.
        realm: String,
        /// For which service.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
        /// What was wrong with the token that was shown: `insufficient_scope`.
        error: Option<String>,
    },
}

impl Challenge {
    /// The challenge that is answered: Bearer before Basic; `None` where neither is offered.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let offered = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| Self::parse(value.to_str().ok()?));
        offered.max_by_key(|challenge| matches!(challenge, Self::Bearer { .. }))
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, parameters) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        let mut parameters = parse_parameters(parameters);
        let realm = parameters.remove("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
        let mut take = |name| parameters.remove(name);
        Some(Self::Bearer { realm, service: take("service"), scope: take("scope"), error: take("error") })
    }
}

/// The `Authorization` header of a name and a password; `None` for nobody.
pub fn basic(auth: Option<&RegistryAuth>) -> Option<String> {
    let auth = auth.filter(|auth| !auth.username.is_empty() && !auth.password.is_empty())?;
    let pair = format!("{}:{}", auth.username, auth.password);
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// Where a token is fetched.
pub fn token_url(realm: &str, service: Option<&str>, scope: &str) -> String {
    let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let joint = if realm.contains('?') { '&' } else { '?' };
    let service = service.map(|service| format!("&service={}", encode(service))).unwrap_or_default();
    format!("{realm}{joint}scope={}{service}", encode(scope))
}

/// The token of a token server's answer.
pub fn token(answer: &[u8]) -> Result<String, String> {
    let answer: serde_json::Value =
        serde_json::from_slice(answer).map_err(|error| format!("unable to decode token response: {error}"))?;
    let named = |name| answer.get(name).and_then(serde_json::Value::as_str).filter(|token| !token.is_empty());
    let token = named("token").or_else(|| named("access_token"));
    token.map(str::to_owned).ok_or_else(|| "authorization server did not include a token in the response".to_owned())
}

/// `a="b",c="d"`, where commas may stand inside quotes.
fn parse_parameters(text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        parameters.insert(name.trim_matches([' ', ',']).to_ascii_lowercase(), value.to_owned());
        rest = after.trim_start_matches([',', ' ']);
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let mut headers = HeaderMap::new();
        assert_eq!(Challenge::of(&headers), None);
        headers.append(header::WWW_AUTHENTICATE, "Negotiate".parse().expect("a header"));
        assert_eq!(Challenge::of(&headers), None);
        headers.append(header::WWW_AUTHENTICATE, "Basic realm=\"x\"".parse().expect("a header"));
        assert_eq!(Challenge::of(&headers), Some(Challenge::Basic));
        let bearer = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push",error="x""#;
        headers.append(header::WWW_AUTHENTICATE, bearer.parse().expect("a header"));
        let text = |text: &str| Some(text.to_owned());
        let wanted = Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: text("registry"),
            scope: text("repository:a/b:pull,push"),
            error: text("x"),
        };
        assert_eq!(Challenge::of(&headers), Some(wanted));
    }

    #[test]
    fn tokens() {
        assert_eq!(
            token_url("https://a/token?x=1", Some("r s"), "repository:a/b:pull"),
            "https://a/token?x=1&scope=repository%3Aa%2Fb%3Apull&service=r%20s"
        );
        assert_eq!(token(br#"{"token":"","access_token":"t"}"#), Ok("t".to_owned()));
        assert!(token(b"{}").is_err() && token(b"<html>").is_err());
    }
}
