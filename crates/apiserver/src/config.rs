//! What the API server is told at its start.

use std::net::Ipv4Addr;
use std::sync::Arc;

use daruma_client::Transport;

/// Opens a connection to a kubelet by host and port. TLS and the client certificate are the dialer's.
pub type KubeletDialer = Arc<dyn Fn(&str, u16) -> Arc<dyn Transport> + Send + Sync>;

/// Opens a connection to a pod for `pods/proxy` and `services/proxy`, by scheme, address and port.
pub type ProxyDialer = Arc<dyn Fn(&str, &str, u16) -> Arc<dyn Transport> + Send + Sync>;

/// Opens connections to extension API servers. TLS and the proxy client certificate are the dialer's.
pub type ServiceDialer = Arc<dyn Fn(&ServiceTarget) -> Arc<dyn Transport> + Send + Sync>;

/// Where an extension API server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Address of one endpoint.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Name that its certificate must show: `service.namespace.svc`.
    pub server_name: String,
    /// Authorities (PEM) of its certificate; `None` does not verify it.
    pub ca_bundle: Option<String>,
}

/// Addresses from which services get theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceRange {
    /// Network address.
    pub network: Ipv4Addr,
    /// Prefix length.
    pub prefix_length: u8,
}

/// Settings of an API server.
#[derive(Clone)]
pub struct ApiServerConfig {
    /// Kinds that are served; every built-in one by default.
    pub kinds: Vec<&'static dyn daruma_kinds::Kind>,
    /// Address that the `kubernetes` service leads to.
    pub advertise_address: Ipv4Addr,
    /// Port that it leads to.
    pub secure_port: u16,
    /// Addresses of services; the first is the `kubernetes` service's.
    pub service_range: ServiceRange,
    /// Node ports, inclusive.
    pub node_ports: (u16, u16),
    /// Issuer of service-account tokens.
    pub issuer: String,
    /// Audiences of the API itself.
    pub audiences: Vec<String>,
    /// Private key (PKCS #8 PEM, P-256) that signs service-account tokens; without one none are made.
    pub signing_key: Option<String>,
    /// Further public keys (PEM) whose tokens are good.
    pub verification_keys: Vec<String>,
    /// CA certificates (PEM) of clients, as `extension-apiserver-authentication` shows them.
    pub client_ca: Option<String>,
    /// CA certificates (PEM) of the proxy client certificate, shown likewise.
    pub requestheader_client_ca: Option<String>,
    /// Common names of the proxy client certificate, shown likewise.
    pub requestheader_allowed_names: Vec<String>,
    /// Whether requests without credentials may ask for health and version.
    pub anonymous_health: bool,
    /// `tolerationSeconds` for not-ready and unreachable nodes that pods get by default.
    pub default_toleration_seconds: i64,
    /// Reading requests that may run at once.
    pub max_reading: usize,
    /// Changing requests that may run at once.
    pub max_mutating: usize,
    /// Seconds that events live.
    pub event_ttl_seconds: u64,
    /// Reaches kubelets.
    pub kubelet_dialer: Option<KubeletDialer>,
    /// Reaches pods.
    pub proxy_dialer: Option<ProxyDialer>,
    /// Reaches extension API servers.
    pub service_dialer: Option<ServiceDialer>,
}

impl Default for ApiServerConfig {
    /// kubeadm's and kube-apiserver's defaults.
    fn default() -> Self {
        let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
        Self {
            kinds: daruma_kinds::ALL.to_vec(),
            advertise_address: Ipv4Addr::LOCALHOST,
            secure_port: 6443,
            service_range: ServiceRange { network: Ipv4Addr::new(10, 96, 0, 0), prefix_length: 12 },
            node_ports: (30000, 32767),
            audiences: vec![issuer.clone()],
            issuer,
            signing_key: None,
            verification_keys: Vec::new(),
            client_ca: None,
            requestheader_client_ca: None,
            requestheader_allowed_names: vec!["front-proxy-client".into()],
            anonymous_health: true,
            default_toleration_seconds: 300,
            max_reading: 400,
            max_mutating: 200,
            event_ttl_seconds: 3600,
            kubelet_dialer: None,
            proxy_dialer: None,
            service_dialer: None,
        }
    }
}
