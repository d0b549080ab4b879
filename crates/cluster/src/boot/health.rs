//! Health and metrics ports of components.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use daruma_client::connection::Handler;
use daruma_client::{Body, full_body};
use futures::FutureExt;
use http::{Request, Response, StatusCode, header};

use super::BootError;
use crate::platform::{Platform, Serving};

/// Gives the text of `/metrics`.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Answers `/healthz`, `/livez`, `/readyz` and `/metrics`.
pub fn handler(metrics: MetricsText) -> Handler {
    Arc::new(move |request: Request<Body>, _| {
        let response = match request.uri().path() {
            "/healthz" | "/livez" | "/readyz" => plain(StatusCode::OK, "ok".into()),
            "/metrics" => plain(StatusCode::OK, metrics()),
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n".into()),
        };
        async move { response }.boxed()
    })
}

/// Serves `handler` over HTTPS with a certificate made on the spot, as the real components do.
pub fn serve(platform: &dyn Platform, address: IpAddr, port: u16, name: &str, handler: Handler) -> Result<(), BootError> {
    let addresses = vec![address, IpAddr::from([127, 0, 0, 1])];
    let serving = Serving::SelfSigned { name: name.to_owned(), addresses, client_ca: None };
    let server = platform.bind(SocketAddr::new(address, port), &serving)?;
    platform.world().spawn("health", server.serve(handler));
    Ok(())
}

/// Serves plain HTTP until the process ends; a port that cannot be had is logged, as the component's work goes on
/// without it.
pub fn serve_plain(platform: &dyn Platform, address: SocketAddr, handler: Handler) {
    let serving = platform.serve_plain(address, handler);
    platform.world().spawn("health", async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "no health port");
        }
    });
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(full_body(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
