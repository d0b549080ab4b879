//! User and groups of a client certificate: common name and organizations of its subject.
//!
//! Source: RFC 5280, section 4.1; kubernetes apiserver pkg/authentication/request/x509.

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const EXPLICIT_VERSION: u8 = 0xa0;

/// Reads a verified certificate (DER); `None` where it does not parse or names nobody.
pub(super) fn identity(der: &[u8]) -> Option<(String, Vec<String>)> {
    let (certificate, _) = take(der, SEQUENCE)?;
    let (mut body, _) = take(certificate, SEQUENCE)?;
    if body.first() == Some(&EXPLICIT_VERSION) {
        body = skip(body)?;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        body = skip(body)?;
    }
    let (mut names, _) = take(body, SEQUENCE)?;
    let (mut user, mut groups) = (None, Vec::new());
    while !names.is_empty() {
        let (mut set, rest) = take(names, SET)?;
        names = rest;
        while !set.is_empty() {
            let (pair, rest) = take(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = take(pair, OBJECT_IDENTIFIER)?;
            let (_, text, _) = element(value)?;
            let text = std::str::from_utf8(text).ok()?.to_owned();
            match kind {
                COMMON_NAME => user = Some(text),
                ORGANIZATION => groups.push(text),
                _ => {}
            }
        }
    }
    Some((user.filter(|user| !user.is_empty())?, groups))
}

/// Tag, content and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let bytes = usize::from(first & 0x7f);
        if bytes == 0 || bytes > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(bytes)?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

fn take(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(der)?;
    (tag == wanted).then_some((content, rest))
}

fn skip(der: &[u8]) -> Option<&[u8]> {
    element(der).map(|(_, _, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut out = vec![tag, 0x81, content.len() as u8];
        out.extend(content);
        out
    }

    #[test]
    fn names() {
        let name = |kind: &[u8], text: &str| {
            node(SET, &[&node(SEQUENCE, &[&node(OBJECT_IDENTIFIER, &[kind]), &node(0x0c, &[text.as_bytes()])])])
        };
        let subject = node(SEQUENCE, &[&name(ORGANIZATION, "system:nodes"), &name(COMMON_NAME, "system:node:w")]);
        let filler = node(SEQUENCE, &[]);
        let body = node(SEQUENCE, &[&node(EXPLICIT_VERSION, &[]), &node(2, &[&[1]]), &filler, &filler, &filler, &subject]);
        let certificate = node(SEQUENCE, &[&body]);
        assert_eq!(identity(&certificate), Some(("system:node:w".into(), vec!["system:nodes".into()])));
        assert_eq!(identity(&certificate[..20]), None);
        assert_eq!(identity(&[]), None);
    }
}
