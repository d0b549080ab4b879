//! The cluster's certificates and keys, as kubeadm lays them out. EC P-256 throughout.

use std::net::IpAddr;

use daruma_world::World;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};

use crate::shape::{CLUSTER_DOMAIN, KUBERNETES_SERVICE_IP, Machine, Shape};

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the certificate of {name}: {source}")]
pub struct PkiError {
    name: String,
    source: rcgen::Error,
}

/// A certificate and its private key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key (PKCS #8).
    pub key: String,
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// The user, for clients.
    pub common_name: &'a str,
    /// The user's group.
    pub organization: Option<&'a str>,
    /// Host names.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Shown by servers.
    pub server: bool,
    /// Shown by clients.
    pub client: bool,
}

impl<'a> Request<'a> {
    fn client(common_name: &'a str, organization: Option<&'a str>) -> Self {
        Self { common_name, organization, names: vec![], addresses: vec![], server: false, client: true }
    }
}

/// Makes certificates. A [`World`] makes real ones, with its clock and chance; where nothing verifies
/// signatures, something simpler will do.
pub trait Sign {
    /// A certificate of `issuer`'s authority.
    ///
    /// # Errors
    /// The authority's files are damaged, or a name cannot stand in a certificate.
    fn sign(&self, issuer: &Pair, request: &Request<'_>) -> Result<Pair, PkiError>;
}

/// All that the machines of a cluster are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pki {
    /// Signs everything but what the front proxy uses.
    pub ca: Pair,
    /// Signs the API server's certificate towards extension servers.
    pub front_proxy_ca: Pair,
    /// Signs service-account tokens; the certificate part is the public key.
    pub service_account: Pair,
}

/// Ten years of validity, as kubeadm gives its authorities; leaves get one year there, but a
/// cluster of this kind may be brought back after that.
const VALID_DAYS: i64 = 3650;

impl Pki {
    /// Makes new authorities.
    pub fn create(world: &World) -> Result<Self, PkiError> {
        Ok(Self {
            ca: authority(world, "kubernetes")?,
            front_proxy_ca: authority(world, "front-proxy-ca")?,
            service_account: service_account_keys()?,
        })
    }

    /// The API server's serving certificate.
    pub fn api_server(&self, signer: &dyn Sign, shape: &Shape) -> Result<Pair, PkiError> {
        let mut names: Vec<String> =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned).to_vec();
        names.push(format!("kubernetes.default.svc.{CLUSTER_DOMAIN}"));
        let mut addresses = vec![IpAddr::from([127, 0, 0, 1])];
        addresses.extend(KUBERNETES_SERVICE_IP.parse::<IpAddr>());
        for machine in &shape.machines {
            if machine.role == crate::shape::Role::Controller {
                names.push(machine.name.clone());
                addresses.push(machine.address.into());
            }
        }
        let request =
            Request { common_name: "kube-apiserver", organization: None, names, addresses, server: true, client: false };
        signer.sign(&self.ca, &request)
    }

    /// How the API server shows itself to kubelets.
    pub fn api_server_kubelet_client(&self, signer: &dyn Sign) -> Result<Pair, PkiError> {
        signer.sign(&self.ca, &Request::client("kube-apiserver-kubelet-client", Some("kubeadm:cluster-admins")))
    }

    /// How the API server shows itself to extension servers.
    pub fn front_proxy_client(&self, signer: &dyn Sign) -> Result<Pair, PkiError> {
        signer.sign(&self.front_proxy_ca, &Request::client("front-proxy-client", None))
    }

    /// The administrator.
    pub fn admin(&self, signer: &dyn Sign) -> Result<Pair, PkiError> {
        signer.sign(&self.ca, &Request::client("kubernetes-admin", Some("kubeadm:cluster-admins")))
    }

    /// The administrator who needs no role binding; `daruma up` sets the cluster up with it.
    pub fn super_admin(&self, signer: &dyn Sign) -> Result<Pair, PkiError> {
        signer.sign(&self.ca, &Request::client("kubernetes-super-admin", Some("system:masters")))
    }

    /// A control-plane component, e.g. `system:kube-scheduler`.
    pub fn component(&self, signer: &dyn Sign, user: &str) -> Result<Pair, PkiError> {
        signer.sign(&self.ca, &Request::client(user, None))
    }

    /// A kubelet: it is a client of the API server and a server to it.
    pub fn kubelet(&self, signer: &dyn Sign, machine: &Machine) -> Result<Pair, PkiError> {
        let user = format!("system:node:{}", machine.name);
        let request = Request {
            common_name: &user,
            organization: Some("system:nodes"),
            names: vec![machine.name.clone()],
            addresses: vec![machine.address.into()],
            server: true,
            client: true,
        };
        signer.sign(&self.ca, &request)
    }
}

impl Sign for World {
    fn sign(&self, issuer: &Pair, request: &Request<'_>) -> Result<Pair, PkiError> {
        let fail = |source| PkiError { name: request.common_name.into(), source };
        let issuer_key = KeyPair::from_pem(&issuer.key).map_err(fail)?;
        let issuer = Issuer::from_ca_cert_pem(&issuer.certificate, issuer_key).map_err(fail)?;
        let mut params = parameters(self, request.common_name);
        if let Some(organization) = request.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        if request.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if request.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        for name in &request.names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(fail)?));
        }
        params.subject_alt_names.extend(request.addresses.iter().copied().map(SanType::IpAddress));
        params.use_authority_key_identifier_extension = true;
        let own = key(request.common_name)?;
        let certificate = params.signed_by(&own, &issuer).map_err(fail)?;
        Ok(Pair { certificate: certificate.pem(), key: own.serialize_pem() })
    }
}

/// New keys of service-account tokens; the certificate part is the public key.
pub fn service_account_keys() -> Result<Pair, PkiError> {
    let own = key("sa")?;
    Ok(Pair { certificate: own.public_key_pem(), key: own.serialize_pem() })
}

/// A self-signed serving certificate for a component's own health port, as the real ones make at start.
pub fn self_signed(world: &World, host: &str, addresses: &[IpAddr]) -> Result<Pair, PkiError> {
    let fail = |source| PkiError { name: host.into(), source };
    let mut params = parameters(world, host);
    params.subject_alt_names.push(SanType::DnsName(host.try_into().map_err(fail)?));
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own = key(host)?;
    let certificate = params.self_signed(&own).map_err(fail)?;
    Ok(Pair { certificate: certificate.pem(), key: own.serialize_pem() })
}

fn authority(world: &World, name: &str) -> Result<Pair, PkiError> {
    let mut params = parameters(world, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let own = key(name)?;
    let certificate = params.self_signed(&own).map_err(|source| PkiError { name: name.into(), source })?;
    Ok(Pair { certificate: certificate.pem(), key: own.serialize_pem() })
}

fn key(name: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|source| PkiError { name: name.into(), source })
}

fn parameters(world: &World, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = world.now();
    // A day of slack for clocks that are behind.
    let (from, to) = (date(now, -1), date(now, VALID_DAYS));
    params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
    params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
    let mut serial = [0u8; 16];
    world.random.fill(&mut serial);
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

/// Year, month and day (UTC) `days` after `now`.
fn date(now: jiff::Timestamp, days: i64) -> (i32, u8, u8) {
    let then = jiff::Timestamp::from_second(now.as_second() + days * 86_400).unwrap_or(now);
    let date = jiff::tz::TimeZone::UTC.to_datetime(then).date();
    (date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
}
