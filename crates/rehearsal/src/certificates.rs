//! Certificates of a world in which nothing verifies signatures: names in the right places, no keys.
//!
//! The wire of the virtual world delivers a request to the machine that it is for and says truly who sent
//! it, so what TLS proves on a real network holds by itself. A certificate still tells user and groups, and
//! which authority it is of; servers read them with the same code as on real machines. The same names give
//! the same bytes, whatever the seed, because an authority's text lands in objects.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use daruma_cluster::pki::{self, Pair, Pki, PkiError, Request, Sign};

/// Object identifiers of attributes (RFC 5280, appendix A).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_VERSION: u8 = 0xa0;

/// Signs by writing the authority's name.
pub struct Names;

impl Sign for Names {
    fn sign(&self, issuer: &Pair, request: &Request<'_>) -> Result<Pair, PkiError> {
        let issuer = der(&issuer.certificate).and_then(|der| subject(&der).map(<[u8]>::to_vec)).unwrap_or_default();
        let own = name(request.common_name, request.organization);
        Ok(Pair { certificate: pem(&certificate(&issuer, &own)), key: String::new() })
    }
}

/// The authorities of a virtual cluster. Only the key of service-account tokens is a real one: tokens are
/// signed and checked as ever, but never stored.
///
/// # Errors
/// The system gave no randomness for the key.
pub fn authorities() -> Result<Pki, PkiError> {
    let authority = |common_name| {
        let own = name(common_name, None);
        Pair { certificate: pem(&certificate(&own, &own)), key: String::new() }
    };
    Ok(Pki {
        ca: authority("kubernetes"),
        front_proxy_ca: authority("front-proxy-ca"),
        service_account: pki::service_account_keys()?,
    })
}

/// An authority, as certificates name it.
pub struct Authority(Vec<u8>);

impl Authority {
    /// That of a PEM text; `None` where that is none.
    pub fn of(ca: &str) -> Option<Self> {
        der(ca).as_deref().and_then(subject).map(|name| Self(name.to_vec()))
    }

    /// Whether `certificate` (DER) is of this authority.
    pub fn has_signed(&self, certificate: &[u8]) -> bool {
        issuer(certificate) == Some(&self.0)
    }
}

/// The first certificate of a PEM text.
pub fn der(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (text, _) = rest.split_once("-----END CERTIFICATE-----")?;
    STANDARD.decode(text.split_whitespace().collect::<String>()).ok()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// RFC 5280, section 4.1, with empty algorithms, validity, key and signature.
fn certificate(issuer: &[u8], subject: &[u8]) -> Vec<u8> {
    let empty = element(SEQUENCE, &[]);
    let signed = [
        element(EXPLICIT_VERSION, &element(INTEGER, &[2])),
        element(INTEGER, &[1]),
        empty.clone(),
        element(SEQUENCE, issuer),
        empty.clone(),
        element(SEQUENCE, subject),
        empty.clone(),
    ];
    element(SEQUENCE, &[element(SEQUENCE, &signed.concat()), empty, element(BIT_STRING, &[0])].concat())
}

/// The content of a distinguished name.
fn name(common_name: &str, organization: Option<&str>) -> Vec<u8> {
    let attribute = |kind, text: &str| {
        let pair = [element(OBJECT_IDENTIFIER, kind), element(UTF8_STRING, text.as_bytes())];
        element(SET, &element(SEQUENCE, &pair.concat()))
    };
    let organization = organization.map(|text| attribute(ORGANIZATION, text)).unwrap_or_default();
    [organization, attribute(COMMON_NAME, common_name)].concat()
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        out.extend([0x82, (length >> 8) as u8, length as u8]);
    }
    out.extend_from_slice(content);
    out
}

fn subject(der: &[u8]) -> Option<&[u8]> {
    field(der, 5)
}

fn issuer(der: &[u8]) -> Option<&[u8]> {
    field(der, 3)
}

/// The content of one field of a certificate of ours.
fn field(der: &[u8], index: usize) -> Option<&[u8]> {
    let (certificate, _) = take(der)?;
    let (mut signed, _) = take(certificate)?;
    for _ in 0..index {
        (_, signed) = take(signed)?;
    }
    take(signed).map(|(content, _)| content)
}

/// The content of the first element, and what follows it.
fn take(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        length = digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit));
        rest = after;
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_authorities() {
        let pki = authorities().expect("made");
        let again = authorities().expect("made");
        assert_eq!(pki.ca, again.ca);
        let admin = der(&pki.super_admin(&Names).expect("made").certificate).expect("a certificate");
        let proxy = der(&pki.front_proxy_client(&Names).expect("made").certificate).expect("a certificate");
        let of = |pair: &Pair| Authority::of(&pair.certificate).expect("a certificate");
        let (ca, front) = (of(&pki.ca), of(&pki.front_proxy_ca));
        assert!(ca.has_signed(&admin) && !front.has_signed(&admin));
        assert!(front.has_signed(&proxy) && !ca.has_signed(&proxy));
        assert!(!ca.has_signed(b"") && Authority::of("").is_none());
        let user = daruma_apiserver::authentication::certificate::user(&admin).expect("a user");
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("kubernetes-super-admin", &["system:masters".to_owned()][..]));
    }
}
