//! The HTTP side: which protocol a client asks for, and the 101 answer.
//!
//! Source: RFC 6455 for WebSocket; kubernetes apimachinery pkg/util/httpstream for SPDY.

use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Where a WebSocket client names what it speaks.
pub const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
/// Where a SPDY client names what it speaks.
pub const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What carries the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `Upgrade: websocket`.
    WebSocket,
    /// `Upgrade: SPDY/3.1`.
    Spdy,
}

/// An agreed upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// What carries the channels.
    pub carrier: Carrier,
    /// The protocol chosen from those offered.
    pub protocol: String,
    key: Option<HeaderValue>,
}

/// Why a request cannot be upgraded. The text is fit for an answer with status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// No upgrade was asked for.
    #[error(
        "you must specify at least 1 of stdin, stdout, stderr by an upgrade: unable to upgrade: missing upgrade headers in request"
    )]
    NotAsked,
    /// None of the offered protocols is spoken here.
    #[error("unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {supported:?}")]
    NoCommonProtocol {
        /// What the client speaks.
        offered: Vec<String>,
        /// What is spoken here.
        supported: Vec<String>,
    },
    /// The connection below cannot be taken over.
    #[error("unable to upgrade: the connection does not support it")]
    Unsupported,
}

/// Whether the request asks for an upgrade at all.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    carrier(headers).is_some()
}

/// Chooses the first of `supported` (best first) that the client offers.
///
/// # Errors
/// No upgrade asked for, or nothing in common.
pub fn negotiate(headers: &HeaderMap, supported: &[&str]) -> Result<Agreement, UpgradeError> {
    let carrier = carrier(headers).ok_or(UpgradeError::NotAsked)?;
    let name = if carrier == Carrier::WebSocket { WEBSOCKET_PROTOCOL } else { STREAM_PROTOCOL };
    let offered: Vec<String> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
        .collect();
    let Some(protocol) = supported.iter().find(|one| offered.iter().any(|offer| offer == *one)) else {
        let supported = supported.iter().map(|one| (*one).to_owned()).collect();
        return Err(UpgradeError::NoCommonProtocol { offered, supported });
    };
    Ok(Agreement { carrier, protocol: (*protocol).to_owned(), key: headers.get(WEBSOCKET_KEY).cloned() })
}

impl Agreement {
    /// The 101 answer with an empty body of any type.
    pub fn response<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        self.write_head(&mut response);
        response
    }

    /// Turns `response` into the 101 answer.
    pub fn write_head<B>(&self, response: &mut Response<B>) {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let protocol = HeaderValue::from_str(&self.protocol).ok();
        match self.carrier {
            Carrier::WebSocket => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                let accept = derive_accept_key(self.key.as_ref().map(HeaderValue::as_bytes).unwrap_or_default());
                if let Ok(accept) = HeaderValue::from_str(&accept) {
                    headers.insert(WEBSOCKET_ACCEPT, accept);
                }
                if let Some(protocol) = protocol {
                    headers.insert(WEBSOCKET_PROTOCOL, protocol);
                }
            }
            Carrier::Spdy => {
                headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
                if let Some(protocol) = protocol {
                    headers.insert(STREAM_PROTOCOL, protocol);
                }
            }
        }
    }
}

fn carrier(headers: &HeaderMap) -> Option<Carrier> {
    let value = headers.get(UPGRADE)?.to_str().ok()?;
    if value.eq_ignore_ascii_case("websocket") {
        Some(Carrier::WebSocket)
    } else if value.eq_ignore_ascii_case("SPDY/3.1") {
        Some(Carrier::Spdy)
    } else {
        None
    }
}

/// Waits for the upgrade (which comes after the 101 answer was sent) and gives the byte stream.
///
/// # Errors
/// The connection ended first.
pub async fn upgraded(on_upgrade: OnUpgrade) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, hyper::Error> {
    Ok(TokioIo::new(on_upgrade.await?))
}

/// The server's end of a WebSocket whose handshake was answered already.
pub async fn websocket<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    WebSocketStream::from_raw_socket(stream, Role::Server, None).await
}

/// Passes bytes between two upgraded connections until both ends are closed (a proxy's work).
pub async fn tunnel<A, B>(mut a: A, mut b: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    // An error is the end of one side; there is nobody left to tell.
    let _ = tokio::io::copy_bidirectional(&mut a, &mut b).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("plain text")))
            .collect()
    }

    #[test]
    fn chooses_the_best_common_protocol() {
        let asked = headers(&[
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v4.channel.k8s.io, v5.channel.k8s.io"),
        ]);
        let agreement = negotiate(&asked, &["v5.channel.k8s.io", "v4.channel.k8s.io"]).expect("common");
        assert_eq!(agreement.protocol, "v5.channel.k8s.io");
        let response: Response<()> = agreement.response();
        // The sample of RFC 6455, section 1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(negotiate(&asked, &["v9"]).is_err());
        assert_eq!(negotiate(&HeaderMap::new(), &["v9"]), Err(UpgradeError::NotAsked));
    }

    #[test]
    fn spdy_names_its_protocol_elsewhere() {
        let asked = headers(&[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v4.channel.k8s.io")]);
        let agreement = negotiate(&asked, &["v4.channel.k8s.io"]).expect("common");
        assert_eq!(agreement.carrier, Carrier::Spdy);
    }
}
