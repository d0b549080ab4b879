//! Transport and server of this world, against each other.
#![expect(clippy::disallowed_methods, reason = "the real world's own time")]

use std::sync::Arc;
use std::time::Duration;

use daruma_client::{Transport, TransportError, empty_body, full_body};
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use rcgen::{CertificateParams, KeyPair};

use super::{ClientIdentity, Handler, HttpsServer, HttpsTransport, ServerIdentity, TlsTrust};

/// Answers with the client's port, which tells connections apart; `/never` is not answered.
fn handler() -> Handler {
    Arc::new(|request, peer| {
        let (never, port) = (request.uri().path() == "/never", peer.address.port());
        async move {
            if never {
                std::future::pending::<()>().await;
            }
            Response::new(full_body(port.to_string()))
        }
        .boxed()
    })
}

async fn ask(transport: &HttpsTransport, path: &str) -> Result<String, TransportError> {
    let response = transport.call(Request::get(path).body(empty_body()).expect("a request")).await?;
    let body = response.into_body().collect().await.map_err(|error| TransportError(error.to_string()))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

#[tokio::test]
async fn closed_connections_end_what_waits_and_are_not_used_again() {
    let key = KeyPair::generate().expect("a key");
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).and_then(|it| it.self_signed(&key)).expect("one").pem();
    let identity = ServerIdentity { certificate: certificate.clone(), key: key.serialize_pem(), client_ca: None };
    let server = HttpsServer::bind("127.0.0.1:0".parse().expect("an address"), &identity).expect("a free port");
    let port = server.local_addr().expect("bound").port();
    tokio::spawn(server.serve(handler()));
    // HTTP/2 with many calls on a connection, and HTTP/1.1 with one at a time.
    for upgrades in [false, true] {
        let trust = TlsTrust::Ca(certificate.clone());
        let transport =
            HttpsTransport::new("127.0.0.1", port, &trust, &ClientIdentity::Anonymous, upgrades).expect("a transport");
        let first = ask(&transport, "/").await.expect("an answer");
        assert_eq!(ask(&transport, "/").await.expect("an answer"), first, "one connection");
        let waiting = tokio::spawn({
            let transport = transport.clone();
            async move { ask(&transport, "/never").await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        transport.close_connections();
        let ended = tokio::time::timeout(Duration::from_secs(2), waiting).await.expect("at once").expect("no panic");
        assert!(ended.is_err(), "{ended:?}");
        let second = ask(&transport, "/").await.expect("connected anew");
        assert_ne!(second, first);
        assert_eq!(ask(&transport, "/").await.expect("an answer"), second, "and that one is kept");
        // Nothing is open, or all of it is gone already.
        transport.close_connections();
        transport.close_connections();
    }
}
