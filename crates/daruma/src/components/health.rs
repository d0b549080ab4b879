//! Health and metrics ports of components.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use daruma_client::{Body, full_body};
use daruma_host::https::{Handler, HttpsServer, ServerIdentity};
use daruma_world::World;
use futures::FutureExt;
use http::{Request, Response, StatusCode, header};

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
pub fn serve(world: &World, address: IpAddr, port: u16, name: &str, handler: Handler) -> Result<()> {
    let pair = daruma_cluster::pki::self_signed(world, name, &[address, IpAddr::from([127, 0, 0, 1])])?;
    let identity = ServerIdentity { certificate: pair.certificate, key: pair.key, client_ca: None };
    let server = HttpsServer::bind(SocketAddr::new(address, port), &identity)?;
    world.spawn("health", server.serve(handler));
    Ok(())
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(full_body(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
