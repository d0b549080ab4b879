//! kubeconfig files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::pki::Pair;

/// A kubeconfig with one cluster, one user and one context, all data inline. JSON is valid YAML, but
/// people read these files, so it is written as YAML.
pub fn with_certificate(cluster: &str, server: &str, ca: &str, user: &str, pair: &Pair) -> String {
    let user_fields = json!({
        "client-certificate-data": STANDARD.encode(&pair.certificate),
        "client-key-data": STANDARD.encode(&pair.key),
    });
    render(cluster, server, json!({"certificate-authority-data": STANDARD.encode(ca)}), user, user_fields)
}

/// The kubeconfig that pods of the system use: the token and authority of their service account.
pub fn with_service_account(server: &str) -> String {
    const DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let authority = json!({"certificate-authority": format!("{DIRECTORY}/ca.crt")});
    render("default", server, authority, "default", json!({"tokenFile": format!("{DIRECTORY}/token")}))
}

fn render(cluster: &str, server: &str, mut authority: serde_json::Value, user: &str, user_fields: serde_json::Value) -> String {
    authority["server"] = server.into();
    let context = if user == cluster { cluster.to_owned() } else { format!("{user}@{cluster}") };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": authority}],
        "users": [{"name": user, "user": user_fields}],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
        "current-context": context,
        "preferences": {},
    });
    serde_yaml_ng::to_string(&config).expect("a JSON value is always valid YAML")
}

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// It is not YAML of the right form.
    #[error("cannot parse the kubeconfig: {0}")]
    Parse(#[from] serde_yaml_ng::Error),
    /// Something that it must say is missing.
    #[error("the kubeconfig has no {0}")]
    Missing(&'static str),
    /// Data that is not base64 of text.
    #[error("{0} is not base64 of a PEM text")]
    Data(&'static str),
    /// A server that is not `https://HOST:PORT`.
    #[error("cannot use the server {0:?}: it must be https://HOST:PORT")]
    Server(String),
}

/// A value that stands in the file itself or in another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The text itself.
    Inline(String),
    /// Path of a file that holds it.
    File(String),
}

/// Who the current context's user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// Nobody in particular.
    Anonymous,
    /// Shows a certificate.
    Certificate {
        /// Certificate chain in PEM.
        certificate: Source,
        /// Private key in PEM.
        key: Source,
    },
    /// Shows a bearer token; one in a file is read anew for every request.
    Token(Source),
}

/// What the current context of a kubeconfig says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Host of the server.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// Authority that signs the server's certificate.
    pub authority: Source,
    /// Who is calling.
    pub user: User,
}

/// Reads the current context of a kubeconfig.
///
/// # Errors
/// See [`KubeconfigError`].
pub fn parse(text: &str) -> Result<Kubeconfig, KubeconfigError> {
    let config: serde_json::Value = serde_yaml_ng::from_str(text)?;
    let current = config["current-context"].as_str().ok_or(KubeconfigError::Missing("current-context"))?;
    let named = |list: &str, name: &str| -> Option<serde_json::Value> {
        config[list].as_array()?.iter().find(|entry| entry["name"] == name).cloned()
    };
    let context = named("contexts", current).ok_or(KubeconfigError::Missing("context of that name"))?;
    let name = |field: &str| context["context"][field].as_str().unwrap_or_default().to_owned();
    let cluster = named("clusters", &name("cluster")).ok_or(KubeconfigError::Missing("cluster of that name"))?;
    let user = named("users", &name("user")).map(|user| user["user"].clone()).unwrap_or_default();
    let cluster = &cluster["cluster"];
    let server = cluster["server"].as_str().ok_or(KubeconfigError::Missing("server"))?;
    let (host, port) = split_server(server).ok_or_else(|| KubeconfigError::Server(server.into()))?;
    let authority = source(cluster, "certificate-authority")?.ok_or(KubeconfigError::Missing("certificate-authority"))?;
    let user = match (source(&user, "client-certificate")?, source(&user, "client-key")?) {
        (Some(certificate), Some(key)) => User::Certificate { certificate, key },
        _ => match (user["token"].as_str(), user["tokenFile"].as_str()) {
            (Some(token), _) => User::Token(Source::Inline(token.into())),
            (None, Some(path)) => User::Token(Source::File(path.into())),
            (None, None) => User::Anonymous,
        },
    };
    Ok(Kubeconfig { host, port, authority, user })
}

fn source(fields: &serde_json::Value, name: &'static str) -> Result<Option<Source>, KubeconfigError> {
    if let Some(data) = fields[format!("{name}-data")].as_str() {
        let bytes = STANDARD.decode(data).map_err(|_| KubeconfigError::Data(name))?;
        return Ok(Some(Source::Inline(String::from_utf8(bytes).map_err(|_| KubeconfigError::Data(name))?)));
    }
    Ok(fields[name].as_str().map(|path| Source::File(path.into())))
}

fn split_server(server: &str) -> Option<(String, u16)> {
    let authority = server.strip_prefix("https://")?.trim_end_matches('/');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, 443),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty() && !host.contains('/')).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let pair = Pair { certificate: "cert".into(), key: "key".into() };
        let text = with_certificate("c", "https://10.0.0.1:6443", "ca", "u", &pair);
        let config = parse(&text).expect("parses");
        assert_eq!((config.host.as_str(), config.port), ("10.0.0.1", 6443));
        assert_eq!(config.authority, Source::Inline("ca".into()));
        assert_eq!(
            config.user,
            User::Certificate { certificate: Source::Inline("cert".into()), key: Source::Inline("key".into()) }
        );
        let config = parse(&with_service_account("https://10.0.0.1:6443")).expect("parses");
        assert_eq!(config.user, User::Token(Source::File("/var/run/secrets/kubernetes.io/serviceaccount/token".into())));
    }

    #[test]
    fn refusals() {
        assert!(matches!(parse("a: ["), Err(KubeconfigError::Parse(_))));
        assert!(matches!(parse("{}"), Err(KubeconfigError::Missing("current-context"))));
        assert_eq!(split_server("http://a:1"), None);
    }
}
