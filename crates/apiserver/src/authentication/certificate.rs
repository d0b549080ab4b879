//! The user of a client certificate: common name and organizations of its subject.
//!
//! Facts: kubernetes apiserver pkg/authentication/request/x509 (`CommonNameUserConversion`).

use crate::user::User;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const EXPLICIT_VERSION: u8 = 0xa0;

/// The user, or `None` for a certificate that does not parse or has no common name.
pub fn user(der: &[u8]) -> Option<User> {
    let (mut name, mut groups) = (None, Vec::new());
    let mut subject = subject(der)?;
    while let Some((SET, mut set)) = element(&mut subject) {
        while let Some((SEQUENCE, mut pair)) = element(&mut set) {
            let (OBJECT_IDENTIFIER, attribute) = element(&mut pair)? else { return None };
            let (_, value) = element(&mut pair)?;
            let value = std::str::from_utf8(value).ok()?.to_owned();
            match attribute {
                COMMON_NAME => name = Some(value),
                ORGANIZATION => groups.push(value),
                _ => {}
            }
        }
    }
    let name = name.filter(|name| !name.is_empty())?;
    let mut user = User::new(name, groups);
    user.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![format!("X509SHA256={}", fingerprint(der))]);
    Some(user)
}

fn fingerprint(der: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let digits = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The content of the subject: the sixth field of the certificate's signed part, the version counted.
fn subject(mut der: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, mut certificate) = element(&mut der)? else { return None };
    let (SEQUENCE, mut signed) = element(&mut certificate)? else { return None };
    let (tag, _) = element(&mut signed)?;
    let skip = if tag == EXPLICIT_VERSION { 4 } else { 3 };
    for _ in 0..skip {
        element(&mut signed)?;
    }
    match element(&mut signed)? {
        (SEQUENCE, subject) => Some(subject),
        _ => None,
    }
}

/// Takes one DER element: its tag and content.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, tail) = rest.split_at_checked(count)?;
        length = digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit));
        rest = tail;
    }
    let (content, tail) = rest.split_at_checked(length)?;
    *input = tail;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        if content.len() < 128 {
            out.push(content.len() as u8);
        } else {
            out.extend([0x82, (content.len() >> 8) as u8, content.len() as u8]);
        }
        out.extend_from_slice(content);
        out
    }

    fn certificate(pairs: &[(&[u8], &str)]) -> Vec<u8> {
        let mut subject = Vec::new();
        for (attribute, value) in pairs {
            let pair = [tlv(OBJECT_IDENTIFIER, attribute), tlv(0x0c, value.as_bytes())].concat();
            subject.extend(tlv(SET, &tlv(SEQUENCE, &pair)));
        }
        let signed = [
            tlv(EXPLICIT_VERSION, &[2, 1, 2]),
            tlv(2, &[1]),
            tlv(SEQUENCE, &[]),
            tlv(SEQUENCE, &[]),
            tlv(SEQUENCE, &[0; 200]),
            tlv(SEQUENCE, &subject),
        ]
        .concat();
        tlv(SEQUENCE, &tlv(SEQUENCE, &signed))
    }

    #[test]
    fn subjects() {
        let der = certificate(&[(ORGANIZATION, "system:nodes"), (COMMON_NAME, "system:node:a")]);
        let user = user(&der).expect("parses");
        assert_eq!((user.name.as_str(), user.node_name()), ("system:node:a", Some("a")));
        // As `printf a | sha256sum` prints it.
        assert_eq!(fingerprint(b"a"), "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
        assert!(super::user(&certificate(&[(ORGANIZATION, "x")])).is_none());
        assert!(super::user(&der[..40]).is_none());
        assert!(super::user(b"").is_none());
    }
}
