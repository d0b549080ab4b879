//! `metrics-server`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use daruma_api::core::v1::ConfigMap;
use daruma_client::connection::{ClientIdentity, TlsTrust};
use daruma_client::{Client, RateLimit};
use daruma_metrics::{MetricsServer, MetricsServerConfig};

use super::{BootError, connection, flags};
use crate::platform::{ClientTls, Platform, Serving, Target};

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
pub(super) async fn run(platform: Arc<dyn Platform>, flags: Flags) -> Result<(), BootError> {
    let world = platform.world();
    let config = connection::load(&*platform, &flags.kubeconfig)?;
    let limit = RateLimit { qps: 50.0, burst: 100 };
    let client = Client::new(&world, connection::transport(&platform, &config, false)?, "metrics-server", limit);
    let dial = dialer(platform.clone(), connection::identity(&platform, &config.user)?);
    let server = MetricsServer::new(&client, dial, MetricsServerConfig { resolution: flags.metric_resolution });
    world.spawn("scrape", server.clone().run());
    // The API server's front proxy is the only caller that is believed.
    let front_proxy_ca = front_proxy_ca(&client).await;
    let address = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let serving =
        Serving::SelfSigned { name: "metrics-server".into(), addresses: vec![address], client_ca: Some(front_proxy_ca) };
    let listening = platform.bind(SocketAddr::new(address, flags.secure_port), &serving)?;
    listening.serve(Arc::new(move |request, peer| server.handle(&request, peer.certificate.is_some()))).await;
    Ok(())
}

fn dialer(platform: Arc<dyn Platform>, identity: ClientIdentity) -> daruma_metrics::Dial {
    Arc::new(move |host, port| {
        // As `--kubelet-insecure-tls`: kubelets' certificates are made by the cluster's CA, but for
        // addresses that may change with the node.
        let tls = Some(ClientTls { server_name: None, trust: TlsTrust::Anyone, identity: identity.clone() });
        match platform.transport(&Target { host: host.to_owned(), port, tls, upgrades: false }) {
            Ok(transport) => Some(transport),
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
