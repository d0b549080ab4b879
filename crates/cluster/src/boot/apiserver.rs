//! `kube-apiserver`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use daruma_apiserver::ApiServer;
use daruma_apiserver::authentication::PeerCertificate;
use daruma_apiserver::config::{ApiServerConfig, KubeletDialer, ProxyDialer, ServiceDialer, ServiceRange};
use daruma_client::connection::{ClientIdentity, ServerIdentity, TlsTrust};
use daruma_client::{Body, Transport, TransportError};
use daruma_store::embedded::{EmbeddedStore, Options};
use futures::future::BoxFuture;
use http::{Request, Response};

use super::{BootError, connection};
use crate::platform::{ClientTls, Platform, Serving, Target};

/// Flags of kube-apiserver, named as the real one names them; `--data-dir` is our own.
#[derive(Debug, Args)]
pub struct Flags {
    /// Address that the kubernetes service leads to.
    #[arg(long)]
    advertise_address: Ipv4Addr,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Port to listen on.
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// Directory of the embedded store.
    #[arg(long)]
    data_dir: PathBuf,
    /// Memory for the recent history that watches can go on from, in bytes.
    #[arg(long, default_value_t = 32 << 20)]
    history_bytes: usize,
    /// Authorities of client certificates.
    #[arg(long)]
    client_ca_file: PathBuf,
    /// Serving certificate.
    #[arg(long)]
    tls_cert_file: PathBuf,
    /// Its key.
    #[arg(long)]
    tls_private_key_file: PathBuf,
    /// Authorities of kubelets' certificates.
    #[arg(long)]
    kubelet_certificate_authority: Option<PathBuf>,
    /// Certificate shown to kubelets.
    #[arg(long)]
    kubelet_client_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    kubelet_client_key: Option<PathBuf>,
    /// Authorities of the front proxy's certificate.
    #[arg(long)]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Certificate shown to extension API servers.
    #[arg(long)]
    proxy_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    proxy_client_key_file: Option<PathBuf>,
    /// Issuer of service-account tokens.
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    service_account_issuer: String,
    /// Public keys of service-account tokens.
    #[arg(long)]
    service_account_key_file: Vec<PathBuf>,
    /// Private key of service-account tokens.
    #[arg(long)]
    service_account_signing_key_file: Option<PathBuf>,
    /// Addresses of services.
    #[arg(long, default_value = "10.96.0.0/12", value_parser = service_range)]
    service_cluster_ip_range: ServiceRange,
    /// Ports of services on nodes.
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    service_node_port_range: (u16, u16),
    /// How long pods tolerate a node that is not ready, in seconds.
    #[arg(long, default_value_t = 300)]
    default_not_ready_toleration_seconds: i64,
    /// How long pods tolerate a node that is unreachable, in seconds.
    #[arg(long, default_value_t = 300)]
    default_unreachable_toleration_seconds: i64,
    /// Reading requests at once.
    #[arg(long, default_value_t = 400)]
    max_requests_inflight: usize,
    /// Changing requests at once.
    #[arg(long, default_value_t = 200)]
    max_mutating_requests_inflight: usize,
}

/// Runs until the process ends.
pub(super) async fn run(platform: Arc<dyn Platform>, flags: Flags) -> Result<(), BootError> {
    if flags.default_not_ready_toleration_seconds != flags.default_unreachable_toleration_seconds {
        let both = "--default-not-ready-toleration-seconds and --default-unreachable-toleration-seconds must be the same";
        return Err(BootError::Flag(both.into()));
    }
    let world = platform.world();
    let read = |path: &Path| connection::read(&*platform, path);
    let identity = ServerIdentity {
        certificate: read(&flags.tls_cert_file)?,
        key: read(&flags.tls_private_key_file)?,
        client_ca: Some(read(&flags.client_ca_file)?),
    };
    let server = platform.bind(SocketAddr::new(flags.bind_address, flags.secure_port), &Serving::Given(identity))?;
    let backend = platform.store_backend(&flags.data_dir)?;
    let options = Options { history_bytes: flags.history_bytes, ..Options::default() };
    let store = EmbeddedStore::open(&world, backend, options).await.map_err(BootError::Store)?;
    let api_server = ApiServer::new(&world, store, config(&platform, &flags)?);
    let handler = api_server.clone();
    server
        .serve(Arc::new(move |mut request, peer| {
            if let Some(certificate) = &peer.certificate {
                request.extensions_mut().insert(PeerCertificate(certificate.clone()));
            }
            handler.handle(request)
        }))
        .await;
    Ok(())
}

fn config(platform: &Arc<dyn Platform>, flags: &Flags) -> Result<ApiServerConfig, BootError> {
    let read = |path: &Path| connection::read(&**platform, path);
    let optional = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
    let pair = |certificate: &Option<PathBuf>, key: &Option<PathBuf>| -> Result<ClientIdentity, BootError> {
        Ok(match (optional(certificate)?, optional(key)?) {
            (Some(certificate), Some(key)) => ClientIdentity::Certificate { certificate, key },
            _ => ClientIdentity::Anonymous,
        })
    };
    let kubelet = pair(&flags.kubelet_client_certificate, &flags.kubelet_client_key)?;
    let proxy = pair(&flags.proxy_client_cert_file, &flags.proxy_client_key_file)?;
    let kubelet_ca = optional(&flags.kubelet_certificate_authority)?;
    Ok(ApiServerConfig {
        advertise_address: flags.advertise_address,
        secure_port: flags.secure_port,
        service_range: flags.service_cluster_ip_range,
        node_ports: flags.service_node_port_range,
        issuer: flags.service_account_issuer.clone(),
        audiences: vec![flags.service_account_issuer.clone()],
        signing_key: optional(&flags.service_account_signing_key_file)?,
        verification_keys: flags.service_account_key_file.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
        client_ca: Some(read(&flags.client_ca_file)?),
        requestheader_client_ca: optional(&flags.requestheader_client_ca_file)?,
        default_toleration_seconds: flags.default_not_ready_toleration_seconds,
        max_reading: flags.max_requests_inflight,
        max_mutating: flags.max_mutating_requests_inflight,
        kubelet_dialer: Some(kubelet_dialer(platform.clone(), kubelet, kubelet_ca)),
        proxy_dialer: Some(proxy_dialer(platform.clone())),
        service_dialer: Some(service_dialer(platform.clone(), proxy)),
        ..ApiServerConfig::default()
    })
}

/// Kubelets are called over HTTP/1.1, because exec and its like are upgrades.
fn kubelet_dialer(platform: Arc<dyn Platform>, identity: ClientIdentity, ca: Option<String>) -> KubeletDialer {
    let trust = ca.map_or(TlsTrust::Anyone, TlsTrust::Ca);
    let tls = ClientTls { server_name: None, trust, identity };
    Arc::new(move |host, port| dial(&*platform, host, port, Some(tls.clone()), true))
}

fn proxy_dialer(platform: Arc<dyn Platform>) -> ProxyDialer {
    Arc::new(move |scheme, host, port| {
        let anyone = || ClientTls { server_name: None, trust: TlsTrust::Anyone, identity: ClientIdentity::Anonymous };
        let tls = (scheme == "https").then(anyone);
        dial(&*platform, host, port, tls, true)
    })
}

fn service_dialer(platform: Arc<dyn Platform>, identity: ClientIdentity) -> ServiceDialer {
    Arc::new(move |target| {
        let trust = target.ca_bundle.clone().map_or(TlsTrust::Anyone, TlsTrust::Ca);
        let tls = ClientTls { server_name: Some(target.server_name.clone()), trust, identity: identity.clone() };
        dial(&*platform, &target.host, target.port, Some(tls), false)
    })
}

fn dial(platform: &dyn Platform, host: &str, port: u16, tls: Option<ClientTls>, upgrades: bool) -> Arc<dyn Transport> {
    match platform.transport(&Target { host: host.to_owned(), port, tls, upgrades }) {
        Ok(transport) => transport,
        Err(error) => Arc::new(Refused(error.to_string())),
    }
}

/// A transport that could not be made; every call tells why.
struct Refused(String);

impl Transport for Refused {
    fn call(&self, _: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let why = self.0.clone();
        Box::pin(async move { Err(TransportError(why)) })
    }
}

fn service_range(text: &str) -> Result<ServiceRange, String> {
    let refused = || format!("{text:?} is not a range such as 10.96.0.0/12");
    let (network, length) = text.split_once('/').ok_or_else(refused)?;
    let prefix_length = length.parse().ok().filter(|length| (8..=28).contains(length)).ok_or_else(refused)?;
    Ok(ServiceRange { network: network.parse().map_err(|_| refused())?, prefix_length })
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let refused = || format!("{text:?} is not a range such as 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(refused)?;
    let (first, last) = (first.parse().map_err(|_| refused())?, last.parse().map_err(|_| refused())?);
    if first < last { Ok((first, last)) } else { Err(refused()) }
}
