//! Where a registry is asked, and whom it is believed: containerd's `certs.d` directory.
//!
//! Source: containerd core/remotes/docker/config/hosts.go and docs/hosts.md. Of `hosts.toml` the keys `server`, `host`,
//! `capabilities`, `ca`, `client`, `skip_verify` and `override_path` are read; `header` and `dial_timeout` are not.
//! A file that cannot be read is an error here; containerd logs it and goes on without.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where containerd's packages look for the settings of registries (`config_path`).
pub const CERTS_DIR: &str = "/etc/containerd/certs.d";

/// Whom a server is believed, beside the authorities of the system, and what it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// PEM files of further authorities, or of a server's own certificate.
    pub authorities: Vec<PathBuf>,
    /// PEM files of client certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Believes any server.
    pub skip_verify: bool,
}

/// One server that may have a registry's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Root of its API: `https://registry-1.docker.io/v2`.
    pub base: String,
    /// Knows which content a tag names.
    pub resolves: bool,
    /// Has content.
    pub pulls: bool,
    /// Its certificates.
    pub trust: Trust,
}

/// `hosts.toml`.
#[derive(Debug, Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(flatten)]
    settings: Settings,
    #[serde(default)]
    host: toml::Table,
}

/// What can be said of each server.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    capabilities: Vec<String>,
    ca: Files,
    client: Pairs,
    skip_verify: bool,
    override_path: bool,
}

/// One file or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Files {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

impl Default for Files {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// One file with certificate and key, or several, or pairs of files.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Pairs {
    One(PathBuf),
    Joint(Vec<PathBuf>),
    Apart(Vec<(PathBuf, PathBuf)>),
}

impl Default for Pairs {
    fn default() -> Self {
        Self::Joint(Vec::new())
    }
}

/// The servers to be asked for images of `registry` (`docker.io`, `registry.example:5000`), in this order.
///
/// # Errors
/// What is below `certs_dir` cannot be read or understood; the error names the file.
pub fn endpoints(certs_dir: &Path, registry: &str) -> io::Result<Vec<Endpoint>> {
    let Some(directory) = directory(certs_dir, registry) else {
        return Ok(vec![Endpoint::of(registry, Trust::default())]);
    };
    let file = directory.join("hosts.toml");
    match fs::read_to_string(&file) {
        Ok(text) if !text.trim().is_empty() => {
            let parsed = parse(&directory, registry, &text);
            parsed.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", file.display())))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("{}: {error}", file.display())))
        }
        _ => Ok(vec![Endpoint::of(registry, certificate_files(&directory)?)]),
    }
}

impl Endpoint {
    /// The registry itself. On loopback it speaks plain HTTP, as containerd has it when the port is no usual one.
    fn of(registry: &str, trust: Trust) -> Self {
        let base = match registry {
            "docker.io" => "https://registry-1.docker.io/v2".to_owned(),
            _ if is_plain(registry) => format!("http://{registry}/v2"),
            _ => format!("https://{registry}/v2"),
        };
        Self { base, resolves: true, pulls: true, trust }
    }
}

fn is_plain(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (registry, "443"),
    };
    let host = host.trim_matches(['[', ']']);
    port != "443" && (host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()))
}

/// The directory of a registry: with its port as `_5000_`, as it is, or that for all others.
fn directory(certs_dir: &Path, registry: &str) -> Option<PathBuf> {
    let with_port = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = with_port.into_iter().chain([registry.to_owned(), "_default".to_owned()]);
    names.map(|name| certs_dir.join(name)).find(|directory| directory.is_dir())
}

/// Docker's layout: `*.crt` are authorities, `NAME.cert` and `NAME.key` are what the server is shown.
fn certificate_files(directory: &Path) -> io::Result<Trust> {
    let paths: BTreeSet<PathBuf> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    let mut trust = Trust::default();
    for path in &paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => trust.authorities.push(path.clone()),
            Some("cert") if paths.contains(&path.with_extension("key")) => {
                trust.client = Some((path.clone(), path.with_extension("key")));
            }
            Some("cert") => {
                return Err(io::Error::other(format!("{} has no key beside it", path.display())));
            }
            _ => {}
        }
    }
    Ok(trust)
}

fn parse(directory: &Path, registry: &str, text: &str) -> Result<Vec<Endpoint>, String> {
    let file: HostsFile = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for (server, value) in file.host {
        let settings: Settings = value.try_into().map_err(|error| format!("host {server:?}: {error}"))?;
        found.push(endpoint(directory, &server, settings)?);
    }
    // The registry itself comes last.
    let last = match &file.server {
        Some(server) => endpoint(directory, server, file.settings)?,
        None => Endpoint { base: Endpoint::of(registry, Trust::default()).base, ..endpoint(directory, registry, file.settings)? },
    };
    found.push(last);
    Ok(found)
}

fn endpoint(directory: &Path, server: &str, settings: Settings) -> Result<Endpoint, String> {
    let url = if server.starts_with("http") { server.to_owned() } else { format!("https://{server}") };
    let parsed: http::Uri = url.parse().map_err(|error| format!("unable to parse server {server}: {error}"))?;
    let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
        return Err(format!("unable to parse server {server}: no host"));
    };
    let path = parsed.path().trim_end_matches('/');
    let path = if settings.override_path || path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
    if let Some(unknown) = settings.capabilities.iter().find(|name| !["pull", "resolve", "push"].contains(&name.as_str())) {
        return Err(format!("unknown capability {unknown}"));
    }
    let can = |name: &str| settings.capabilities.is_empty() || settings.capabilities.iter().any(|one| one == name);
    let (resolves, pulls) = (can("resolve"), can("pull"));
    let within = |path: PathBuf| directory.join(path);
    let authorities = match settings.ca {
        Files::One(path) => vec![path],
        Files::Many(paths) => paths,
    };
    let client = match settings.client {
        Pairs::One(path) => Some((path.clone(), path)),
        Pairs::Joint(paths) => paths.into_iter().next().map(|path| (path.clone(), path)),
        Pairs::Apart(pairs) => pairs.into_iter().next(),
    };
    let trust = Trust {
        authorities: authorities.into_iter().map(within).collect(),
        client: client.map(|(certificate, key)| (within(certificate), within(key))),
        skip_verify: settings.skip_verify,
    };
    Ok(Endpoint { base: format!("{scheme}://{authority}{path}"), resolves, pulls, trust })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints of `registry` where `certs.d` has these files.
    fn check(files: &[(&str, &str)], registry: &str) -> Result<Vec<String>, String> {
        let place = tempfile::tempdir().expect("a directory");
        for (path, content) in files {
            let path = place.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, content).expect("a file");
        }
        let here = format!("{}/", place.path().display());
        let show = |one: Endpoint| {
            let mut text = one.base;
            for (set, word) in [(!one.resolves, " no-resolve"), (!one.pulls, " no-pull"), (one.trust.skip_verify, " any")] {
                text.push_str(if set { word } else { "" });
            }
            for path in one.trust.authorities {
                text.push_str(&format!(" ca={}", path.display()));
            }
            if let Some((certificate, key)) = one.trust.client {
                text.push_str(&format!(" client={},{}", certificate.display(), key.display()));
            }
            text.replace(&here, "")
        };
        let found = endpoints(place.path(), registry).map_err(|error| error.to_string().replace(&here, ""))?;
        Ok(found.into_iter().map(show).collect())
    }

    #[test]
    fn without_files() {
        for (registry, base) in [
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("ghcr.io", "https://ghcr.io/v2"),
            ("localhost:5000", "http://localhost:5000/v2"),
            ("127.0.0.1:1", "http://127.0.0.1:1/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
            // As containerd: HTTPS where the port says so or is not given.
            ("localhost", "https://localhost/v2"),
            ("127.0.0.1:443", "https://127.0.0.1:443/v2"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
        ] {
            assert_eq!(check(&[], registry).expect("endpoints"), [base], "{registry}");
        }
    }

    #[test]
    fn hosts_files() {
        let mirrors = "
            server = 'https://registry-1.docker.io'
            ca = ['own.crt']
            [host.'https://mirror.example:5000/proxy']
            capabilities = ['pull', 'resolve']
            ca = '/etc/mirror.crt'
            client = [['c.cert', 'c.key']]
            [host.'http://10.0.0.1']
            capabilities = ['pull']
            skip_verify = true
            [host.'https://odd.example/api']
            override_path = true
            client = 'both.pem'";
        let found = check(&[("docker.io/hosts.toml", mirrors)], "docker.io").expect("endpoints");
        assert_eq!(
            found,
            [
                "https://mirror.example:5000/proxy/v2 ca=/etc/mirror.crt client=docker.io/c.cert,docker.io/c.key",
                "http://10.0.0.1/v2 no-resolve any",
                "https://odd.example/api client=docker.io/both.pem,docker.io/both.pem",
                "https://registry-1.docker.io/v2 ca=docker.io/own.crt",
            ]
        );
        let plain = [("10.0.0.1_5000_/hosts.toml", "server = 'http://10.0.0.1:5000'"), ("_default/hosts.toml", "ca = 'x'")];
        assert_eq!(check(&plain, "10.0.0.1:5000").expect("endpoints"), ["http://10.0.0.1:5000/v2"]);
        assert_eq!(check(&plain, "10.0.0.2:5000").expect("endpoints"), ["https://10.0.0.2:5000/v2 ca=_default/x"]);
    }

    #[test]
    fn certificate_files_only() {
        let files = [("r.example:5000/ca.crt", ""), ("r.example:5000/me.cert", ""), ("r.example:5000/me.key", "")];
        let wanted = "https://r.example:5000/v2 ca=r.example:5000/ca.crt client=r.example:5000/me.cert,r.example:5000/me.key";
        assert_eq!(check(&files, "r.example:5000").expect("endpoints"), [wanted]);
        assert!(check(&files[..2], "r.example:5000").expect_err("no key").contains("me.cert has no key beside it"));
    }

    #[test]
    fn errors_name_the_file() {
        for (text, wanted) in
            [("server = ", "r/hosts.toml: TOML parse error"), ("capabilities = ['fly']", "r/hosts.toml: unknown capability fly")]
        {
            let error = check(&[("r/hosts.toml", text)], "r").expect_err(text);
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
