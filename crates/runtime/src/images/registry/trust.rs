//! Whether a registry's certificate is believed, and what is said where it is not: in the words of Go's crypto/x509, as
//! containerd reports them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, RootCertStore, SignatureScheme};

use super::hosts::Trust;

/// Where certificate authorities are kept on the usual distributions.
pub const CA_FILES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// TLS to a server of this trust. Reads files, so it blocks.
///
/// The authorities of the system are those of `ca_file`, else of [`system_file`].
///
/// # Errors
/// A file of `trust` is missing or has no certificate; the error names it.
pub fn configuration(trust: &Trust, ca_file: Option<&Path>) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| io::Error::other(format!("TLS: {error}")))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::new(trust, ca_file, provider)?));
    let Some((certificate, key)) = &trust.client else { return Ok(builder.with_no_client_auth()) };
    let bad = |why: String| io::Error::other(format!("failed to load X509 key pair: {}: {why}", certificate.display()));
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(error.to_string()))?;
    builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|error| bad(error.to_string()))
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let unreadable =
        |why: &dyn std::fmt::Display| io::Error::other(format!("unable to read CA cert {:?}: {why}", file.display()));
    let found: Vec<_> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|error| unreadable(&error))?;
    if found.is_empty() { Err(io::Error::other(format!("unable to load CA cert {:?}", file.display()))) } else { Ok(found) }
}

/// The file of the system's authorities: what `SSL_CERT_FILE` says, else the first of [`CA_FILES`] that is there.
pub fn system_file() -> Option<PathBuf> {
    let usual = || CA_FILES.iter().map(PathBuf::from).find(|path| path.exists());
    std::env::var_os("SSL_CERT_FILE").map(PathBuf::from).or_else(usual)
}

fn system_authorities(ca_file: Option<&Path>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca_file.map(Path::to_owned).or_else(system_file) {
        // One that cannot be read does not spoil the others.
        roots.add_parsable_certificates(CertificateDer::pem_file_iter(file).into_iter().flatten().flatten());
    }
    roots
}

/// Believes what an authority signed, and a certificate that was itself given as trusted: a self-signed one, which webpki
/// refuses as a server's because it is an authority's, but Go takes.
#[derive(Debug)]
struct Verifier {
    /// `None` where any server is believed, or no authority is known.
    chains: Option<Arc<WebPkiServerVerifier>>,
    given: Vec<CertificateDer<'static>>,
    any: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(trust: &Trust, ca_file: Option<&Path>, provider: Arc<CryptoProvider>) -> io::Result<Self> {
        let mut roots = system_authorities(ca_file);
        let mut given = Vec::new();
        for file in &trust.authorities {
            given.extend(certificates(file)?);
        }
        for certificate in &given {
            roots.add(certificate.clone()).map_err(|error| io::Error::other(format!("unable to load CA cert: {error}")))?;
        }
        let chains = if roots.is_empty() || trust.skip_verify {
            None
        } else {
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            Some(built.map_err(|error| io::Error::other(format!("TLS: {error}")))?)
        };
        Ok(Self { chains, given, any: trust.skip_verify, provider })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.any {
            return Ok(ServerCertVerified::assertion());
        }
        if self.given.iter().any(|given| given == certificate) {
            rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.chains {
            Some(chains) => chains.verify_server_cert(certificate, intermediates, name, stapled, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A failed handshake in Go's words.
pub fn describe(error: io::Error) -> io::Error {
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else { return error };
    let text = match cause {
        rustls::Error::InvalidCertificate(problem) => {
            format!("tls: failed to verify certificate: x509: {}", certificate_problem(problem))
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
        other => format!("tls: {other}"),
    };
    io::Error::new(error.kind(), text)
}

fn certificate_problem(problem: &CertificateError) -> String {
    match problem {
        // The second: an authority of the same name, but with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "certificate has expired or is not yet valid".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            // webpki writes `DnsName("a.example")`, `IpAddress(10.0.0.1)`.
            let bare = |name: &String| {
                let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
                inner.trim_matches('"').to_owned()
            };
            let presented: Vec<String> = presented.iter().map(bare).collect();
            if presented.is_empty() {
                return format!("certificate is not valid for any names, but wanted to match {}", expected.to_str());
            }
            format!("certificate is valid for {}, not {}", presented.join(", "), expected.to_str())
        }
        other => other.to_string(),
    }
}
