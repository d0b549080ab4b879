//! `metrics-server`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use daruma_api::core::v1::ConfigMap;
use daruma_client::{Client, RateLimit, Transport};
use daruma_host::https::{ClientIdentity, HttpsServer, HttpsTransport, ServerIdentity, TlsTrust};
use daruma_metrics::{MetricsServer, MetricsServerConfig};

use super::{connection, flags};

/// Flags of metrics-server, named as the real one names them.
#[derive(Debug, Args)]
pub struct Flags {
    /// How to reach the API server.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Port of the API.
    #[arg(long, default_value_t = 10250)]
    secure_port: u16,
    /// Time between two scrapes.
    #[arg(long, default_value = "15s", value_parser = flags::duration)]
    metric_resolution: Duration,
}

/// Runs until the process ends.
pub async fn run(flags: Flags) -> Result<()> {
    let world = daruma_host::world::real();
    let config = connection::load(&flags.kubeconfig)?;
    let client =
        Client::new(&world, connection::transport(&config, false)?, "metrics-server", RateLimit { qps: 50.0, burst: 100 });
    let identity = connection::identity(&config.user)?;
    let dial = dialer(identity);
    let server = MetricsServer::new(&client, dial, MetricsServerConfig { resolution: flags.metric_resolution });
    world.spawn("scrape", server.clone().run());
    // The API server's front proxy is the only caller that is believed.
    let front_proxy_ca = front_proxy_ca(&client).await;
    let address = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let pair = daruma_cluster::pki::self_signed(&world, "metrics-server", &[address])?;
    let identity = ServerIdentity { certificate: pair.certificate, key: pair.key, client_ca: Some(front_proxy_ca) };
    let listening = HttpsServer::bind(SocketAddr::new(address, flags.secure_port), &identity).context("serving metrics")?;
    listening.serve(Arc::new(move |request, peer| server.handle(&request, peer.certificate.is_some()))).await;
    Ok(())
}

fn dialer(identity: ClientIdentity) -> daruma_metrics::Dial {
    Arc::new(move |host, port| {
        // As `--kubelet-insecure-tls`: kubelets' certificates are made by the cluster's CA, but for
        // addresses that may change with the node.
        match HttpsTransport::new(host, port, &TlsTrust::Anyone, &identity, false) {
            Ok(transport) => Some(Arc::new(transport) as Arc<dyn Transport>),
            Err(error) => {
                tracing::warn!(host, %error, "cannot connect to the kubelet");
                None
            }
        }
    })
}

/// Waits until the API server has published whom its front proxy is signed by.
async fn front_proxy_ca(client: &Client) -> String {
    let config_maps = client.namespaced::<ConfigMap>("kube-system");
    loop {
        match config_maps.get("extension-apiserver-authentication").await {
            Ok(map) => {
                if let Some(ca) = map.data.and_then(|mut data| data.remove("requestheader-client-ca-file")) {
                    return ca;
                }
                tracing::warn!("extension-apiserver-authentication has no requestheader-client-ca-file yet");
            }
            Err(error) => tracing::debug!(%error, "waiting for the API server"),
        }
        client.world().sleep(Duration::from_millis(200)).await;
    }
}
