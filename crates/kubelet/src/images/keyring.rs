//! Credentials for registries, from Secrets of type `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`.
//!
//! Source: kubernetes pkg/credentialprovider (keyring.go, config.go, secrets/secrets.go). Of the patterns of Go's
//! filepath.Match, host names may have `*` and `?`.
//!
//! Invariant: pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use daruma_api::core::v1::Secret;
use daruma_world::containers::RegistryAuth;
use serde::Deserialize;

/// The registry that an image without one comes from, as Docker's configuration names it.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// Credentials by where they count: host, maybe port, maybe a path.
#[derive(Debug, Default)]
pub struct Keyring(BTreeMap<String, Vec<RegistryAuth>>);

/// `.dockerconfigjson`.
#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: DockerConfig,
}

/// `.dockercfg`.
type DockerConfig = BTreeMap<String, Entry>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    /// Base64 of `username:password`; counts before the two.
    auth: String,
}

impl Keyring {
    /// The credentials of these Secrets. Those of other types have none.
    ///
    /// # Errors
    /// A Secret that is not what its type says.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Result<Self, String> {
        let mut keyring = Self::default();
        for secret in secrets {
            let data = |key| secret.data.iter().flatten().find(|(name, text)| *name == key && !text.0.is_empty());
            let entries = match secret.type_.as_deref() {
                Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson")
                    .map(|(_, text)| serde_json::from_slice::<DockerConfigJson>(&text.0).map(|config| config.auths)),
                Some("kubernetes.io/dockercfg") => data(".dockercfg").map(|(_, text)| serde_json::from_slice(&text.0)),
                _ => None,
            };
            for (location, entry) in entries.transpose().map_err(|error| error.to_string())?.unwrap_or_default() {
                let auth = entry.auth()?;
                keyring.0.entry(key(&location)).or_default().push(auth);
            }
        }
        Ok(keyring)
    }

    /// What may open the image, the most specific first. Several, so that they can be exchanged one after the other.
    pub fn lookup(&self, image: &str) -> Vec<RegistryAuth> {
        let repository = repository(image);
        let matching = self.0.iter().rev().filter(|(key, _)| matches(key, &repository));
        let found: Vec<RegistryAuth> = matching.flat_map(|(_, auths)| auths.clone()).collect();
        if found.is_empty() && repository.starts_with("docker.io/") {
            return self.0.get(DEFAULT_REGISTRY).cloned().unwrap_or_default();
        }
        found
    }
}

impl Entry {
    fn auth(self) -> Result<RegistryAuth, String> {
        if self.auth.is_empty() {
            return Ok(RegistryAuth { username: self.username, password: self.password });
        }
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let decoded = GeneralPurpose::new(&STANDARD, lenient).decode(self.auth.trim()).map_err(|error| error.to_string())?;
        let decoded = String::from_utf8_lossy(&decoded);
        let (username, password) =
            decoded.split_once(':').ok_or("unable to parse auth field, must be formatted as base64(username:password)")?;
        Ok(RegistryAuth { username: username.to_owned(), password: password.to_owned() })
    }
}

/// A location of the configuration without scheme; `/v1/` and `/v2/` are the host itself.
fn key(location: &str) -> String {
    let bare = ["https://", "http://"].iter().find_map(|scheme| location.strip_prefix(scheme)).unwrap_or(location);
    let (host, path) = bare.find('/').map_or((bare, ""), |at| bare.split_at(at));
    let path = path.strip_prefix("/v1").or(path.strip_prefix("/v2")).filter(|rest| rest.starts_with('/')).unwrap_or(path);
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

/// Registry and path of an image: `docker.io/library/nginx` for `nginx:1`.
fn repository(image: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    match name.split_once('/') {
        Some(("docker.io" | "index.docker.io", rest)) if rest.contains('/') => format!("docker.io/{rest}"),
        Some(("docker.io" | "index.docker.io", rest)) => format!("docker.io/library/{rest}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// Port and number of labels are the same, each label fits, and the path begins alike.
fn matches(key: &str, repository: &str) -> bool {
    let parts = |url: &str| -> (String, String, String) {
        let (authority, path) = url.find('/').map_or((url, ""), |at| url.split_at(at));
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        (host.to_owned(), port.to_owned(), path.to_owned())
    };
    let (pattern, port, prefix) = parts(key);
    let (host, wanted_port, path) = parts(repository);
    port == wanted_port
        && pattern.split('.').count() == host.split('.').count()
        && path.starts_with(&prefix)
        && pattern.split('.').zip(host.split('.')).all(|(pattern, label)| fits(pattern.as_bytes(), label.as_bytes()))
}

fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|from| fits(rest, &text[from..])),
        (Some((b'?', rest)), Some((_, after))) => fits(rest, after),
        (Some((wanted, rest)), Some((byte, after))) => wanted == byte && fits(rest, after),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(kind: &str, key: &str, content: &serde_json::Value) -> Secret {
        let data = base64::engine::general_purpose::STANDARD.encode(content.to_string());
        serde_json::from_value(serde_json::json!({ "type": kind, "data": { key: data } })).expect("a secret")
    }

    /// User names that may open `image` with credentials for these locations, each named by its location.
    fn check(locations: &[&str], image: &str) -> Vec<String> {
        let auths: serde_json::Map<_, _> = locations
            .iter()
            .map(|location| ((*location).to_owned(), serde_json::json!({ "username": location, "password": "p" })))
            .collect();
        let secret = secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &serde_json::json!({ "auths": auths }));
        Keyring::of([&secret]).expect("a keyring").lookup(image).into_iter().map(|auth| auth.username).collect()
    }

    #[test]
    fn locations() {
        for (locations, image, wanted) in [
            (&["r.example"][..], "r.example/a/b:1", &["r.example"][..]),
            (&["r.example"], "r.example:5000/a", &[]),
            (&["https://r.example:5000/v2/"], "r.example:5000/a", &["https://r.example:5000/v2/"]),
            (&["*.example"], "r.example/a", &["*.example"]),
            (&["*.example"], "b.r.example/a", &[]),
            (&["r?.ex*"], "r1.example/a", &["r?.ex*"]),
            (&["r.example", "r.example/team", "r.example/other"], "r.example/team/app", &["r.example/team", "r.example"]),
            (&["https://index.docker.io/v1/"], "nginx", &["https://index.docker.io/v1/"]),
            (&["https://index.docker.io/v1/", "docker.io/team"], "team/app@sha256:1", &["docker.io/team"]),
            (&["https://index.docker.io/v1/"], "r.example/nginx", &[]),
            (&["10.88.0.1:5000"], "10.88.0.1:5000/app:v1", &["10.88.0.1:5000"]),
        ] {
            assert_eq!(check(locations, image), wanted, "{locations:?} {image}");
        }
    }

    #[test]
    fn forms_of_secrets() {
        let auth = |auth: &str| serde_json::json!({ "r.example": { "auth": auth, "username": "not this" } });
        let open = |secret: Secret| {
            let found = Keyring::of([&secret])?.lookup("r.example/a");
            Ok::<_, String>(found.into_iter().map(|auth| format!("{}:{}", auth.username, auth.password)).collect::<Vec<_>>())
        };
        let dockercfg = |content: serde_json::Value| open(secret("kubernetes.io/dockercfg", ".dockercfg", &content));
        // u:p:q, with and without padding.
        for text in ["dTpwOnE=", "dTpwOnE"] {
            assert_eq!(dockercfg(auth(text)).expect("credentials"), ["u:p:q"], "{text}");
        }
        assert!(dockercfg(auth("dQ==")).expect_err("no colon").contains("base64(username:password)"));
        assert!(dockercfg(serde_json::json!([])).is_err());
        assert!(open(secret("Opaque", ".dockercfg", &auth("dTpwOnE="))).expect("none").is_empty());
        assert!(open(secret("kubernetes.io/dockercfg", ".dockerconfigjson", &auth("dTpwOnE="))).expect("none").is_empty());
    }
}
