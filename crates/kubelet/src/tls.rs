//! TLS to whoever answers, for probes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, IpAddr, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, InvalidMessage, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Takes any certificate: a probe asks whether somebody answers, not who.
#[derive(Debug)]
struct AnyCertificate(Vec<SignatureScheme>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// How an answer of HTTP begins.
const HTTP: [u8; 5] = *b"HTTP/";
/// Why there is no TLS with who speaks HTTP (Go's net/http says it like this, and others look for it).
pub(crate) const SPEAKS_HTTP: &str = "http: server gave HTTP response to HTTPS client";

/// A TLS connection whose other end is not verified.
///
/// # Errors
/// The handshake failed: why, for a person.
pub(crate) async fn connect_unverified<S>(stream: S, host: &str) -> Result<TlsStream<Heard<S>>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(schemes)))
        .with_no_client_auth();
    let name = match host.parse::<std::net::IpAddr>() {
        Ok(address) => ServerName::IpAddress(IpAddr::from(address)),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?,
    };
    let heard = Heard { stream, first: Vec::with_capacity(HTTP.len()) };
    let connected = TlsConnector::from(Arc::new(config)).connect(name, heard).into_fallible().await;
    connected.map_err(|(error, heard)| {
        let why = error.get_ref().and_then(|why| why.downcast_ref::<Error>());
        match why {
            _ if heard.first == HTTP => SPEAKS_HTTP.to_owned(),
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                "tls: first record does not look like a TLS handshake".to_owned()
            }
            _ if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            _ => error.to_string(),
        }
    })
}

/// A stream, and what came first from its other end.
pub(crate) struct Heard<S> {
    stream: S,
    first: Vec<u8>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, first } = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(context, buffer))?;
        let missing = HTTP.len() - first.len();
        first.extend(buffer.filled()[before..].iter().take(missing));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn whoever_speaks_something_else_is_told() {
        for (answer, expected) in [
            ("HTTP/1.1 400 Bad Request\r\n\r\n", SPEAKS_HTTP),
            ("SSH-2.0-OpenSSH\r\n", "tls: first record does not look like a TLS handshake"),
            ("", "EOF"),
        ] {
            let told = daruma_sim::run(1, |world| async move {
                let (near, mut far) = tokio::io::duplex(64 * 1024);
                let task = world.spawn("server", async move {
                    far.read_u8().await.expect("somebody speaks");
                    far.write_all(answer.as_bytes()).await.expect("somebody reads");
                });
                let told = connect_unverified(near, "10.0.0.1").await.map(drop);
                task.abort();
                told
            });
            assert_eq!(told, Err(expected.to_owned()));
        }
    }
}
