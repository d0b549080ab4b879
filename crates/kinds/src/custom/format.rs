//! Formats of texts and numbers that schemas may ask for. Others are passed over.
//!
//! Source: apiextensions-apiserver pkg/apiserver/validation/formats.go (which there are), kube-openapi pkg/validation/strfmt and
//! asaskevich/govalidator (what they mean).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

/// A format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    /// As written.
    pub name: &'static str,
    checks: Checks,
}

#[derive(Debug, Clone, Copy)]
enum Checks {
    /// Whether a text has the format.
    Text(fn(&str) -> bool),
    /// The number must fit.
    Number,
}

/// By their names without dashes, as the real server looks them up.
static TEXTS: &[(&str, fn(&str) -> bool)] = &[
    ("bsonobjectid", |text| text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit())),
    ("byte", is_base64),
    ("cidr", is_cidr),
    ("creditcard", is_credit_card),
    ("date", is_date),
    ("datetime", is_date_time),
    ("duration", is_duration),
    ("email", is_email),
    ("hexcolor", |text| {
        let digits = text.strip_prefix('#').unwrap_or(text);
        matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    }),
    ("hostname", is_host_name),
    ("ipv4", |text| text.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |text| text.parse::<Ipv6Addr>().is_ok()),
    ("isbn", |text| is_isbn10(text) || is_isbn13(text)),
    ("isbn10", is_isbn10),
    ("isbn13", is_isbn13),
    ("k8slongname", |text| crate::names::dns_subdomain(text).is_empty()),
    ("k8sshortname", |text| crate::names::dns_label(text).is_empty()),
    ("mac", is_mac),
    ("password", |_| true),
    ("rgbcolor", is_rgb_color),
    ("ssn", is_ssn),
    ("uri", is_request_uri),
    ("uuid", |text| is_uuid(text, None)),
    ("uuid3", |text| is_uuid(text, Some(b'3'))),
    ("uuid4", |text| is_uuid(text, Some(b'4'))),
    ("uuid5", |text| is_uuid(text, Some(b'5'))),
];

/// Formats that are written with dashes.
static DASHED: &[(&str, &str)] =
    &[("date-time", "datetime"), ("k8s-short-name", "k8sshortname"), ("k8s-long-name", "k8slongname")];

impl Format {
    /// The format that is checked for a type and its `format`; `None` where nothing is.
    pub(crate) fn of(kind: &str, format: &str) -> Option<Self> {
        let number = |names: &[&'static str]| {
            let name = names.iter().find(|name| **name == format)?;
            Some(Self { name, checks: Checks::Number })
        };
        match kind {
            "" | "string" => {
                let plain = DASHED.iter().find(|(dashed, _)| *dashed == format).map_or(format, |(_, plain)| plain);
                let (name, check) = TEXTS.iter().find(|(name, _)| *name == plain)?;
                let name = DASHED.iter().find(|(dashed, _)| *dashed == format).map_or(*name, |(dashed, _)| dashed);
                Some(Self { name, checks: Checks::Text(*check) })
            }
            "integer" => number(&["int32", "int64"]),
            "number" => number(&["float", "double"]),
            _ => None,
        }
    }

    /// Whether it is a format of texts.
    pub(crate) fn is_of_texts(self) -> bool {
        matches!(self.checks, Checks::Text(_))
    }

    /// Whether a text has the format. Texts have every format of numbers.
    pub(crate) fn accepts(self, text: &str) -> bool {
        match self.checks {
            Checks::Text(check) => check(text),
            Checks::Number => true,
        }
    }
}

/// Whether values of a type are asked for a format.
pub(crate) fn is_known_format(kind: &str, format: &str) -> bool {
    Format::of(kind, format).is_some()
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| {
        let most = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.bytes().all(|byte| byte.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    })
}

fn is_credit_card(text: &str) -> bool {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$",
        )
    });
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !SHAPE.is_match(&digits) {
        return false;
    }
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(index, byte)| match (u32::from(byte - b'0'), index % 2) {
            (digit, 0) => digit,
            (digit, _) if digit > 4 => digit * 2 - 9,
            (digit, _) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    static TIME: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"));
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    is_date(date) && TIME.captures(time).is_some_and(|found| &found[1] <= "23" && &found[2] <= "59" && &found[3] <= "59")
}

/// A duration of Go (`1h30m`), or numbers with units in words (`2 hours`).
fn is_duration(text: &str) -> bool {
    static GO: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[+-]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$"));
    static WORDS: LazyLock<Regex> = LazyLock::new(|| pattern(r"[0-9]+\s*([A-Za-zµ]+)"));
    static UNITS: &[&str] = &["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk"];
    static BEGINNINGS: &[&str] = &["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    GO.is_match(text)
        || WORDS.captures_iter(text).any(|found| {
            let unit = found[1].to_lowercase();
            UNITS.contains(&unit.as_str()) || BEGINNINGS.iter().any(|beginning| unit.starts_with(beginning))
        })
}

fn is_email(text: &str) -> bool {
    let address = match text.trim().strip_suffix('>') {
        Some(named) => named.rsplit_once('<').map_or("", |(_, address)| address),
        None => text.trim(),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte) || byte >= 0x80;
    let is_atoms = |text: &str| text.split('.').all(|atom| !atom.is_empty()) && text.bytes().all(fits);
    address.rsplit_once('@').is_some_and(|(local, domain)| {
        let quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
        let literal = domain.starts_with('[') && domain.ends_with(']');
        (quoted || is_atoms(local)) && (literal || is_atoms(domain))
    })
}

fn is_host_name(text: &str) -> bool {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$",
        )
    });
    text.len() <= 255 && text.split('.').all(|label| label.len() <= 63) && SHAPE.is_match(text)
}

fn is_isbn10(text: &str) -> bool {
    let plain: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b' ' | b'-')).collect();
    let digits_fit = plain.len() == 10 && plain[..9].iter().all(u8::is_ascii_digit);
    digits_fit && (plain[9].is_ascii_digit() || plain[9] == b'X') && {
        let value = |byte: u8| if byte == b'X' { 10 } else { u32::from(byte - b'0') };
        let sum: u32 = plain.iter().zip(1..).map(|(byte, weight)| value(*byte) * weight).sum();
        sum.is_multiple_of(11)
    }
}

fn is_isbn13(text: &str) -> bool {
    let plain: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b' ' | b'-')).collect();
    plain.len() == 13 && plain.iter().all(u8::is_ascii_digit) && {
        let sum: u32 =
            plain.iter().enumerate().map(|(index, byte)| u32::from(byte - b'0') * if index % 2 == 0 { 1 } else { 3 }).sum();
        sum.is_multiple_of(10)
    }
}

/// 6, 8 or 20 bytes: pairs with colons or dashes, or groups of four with dots.
fn is_mac(text: &str) -> bool {
    let hex = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let groups = |separator: char, length: usize, counts: [usize; 3]| {
        counts.contains(&text.split(separator).count()) && text.split(separator).all(|group| hex(group, length))
    };
    groups(':', 2, [6, 8, 20]) || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn is_rgb_color(text: &str) -> bool {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^rgb\(\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*(,\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*){2}\)$",
        )
    });
    SHAPE.is_match(text)
}

fn is_ssn(text: &str) -> bool {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| pattern("^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"));
    text.len() == 11 && SHAPE.is_match(text)
}

/// An absolute URI or an absolute path.
fn is_request_uri(text: &str) -> bool {
    let clean = !text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ');
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        let mut letters = scheme.bytes();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !rest.is_empty()
    });
    clean && (text.starts_with('/') || scheme)
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let bytes = text.as_bytes();
    let mut digits = Vec::with_capacity(32);
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            // Dashes may be left out one by one, but stand nowhere else.
            b'-' if matches!(digits.len(), 8 | 12 | 16 | 20) && bytes.get(index.wrapping_sub(1)) != Some(&b'-') => {}
            digit if digit.is_ascii_hexdigit() => digits.push(digit.to_ascii_lowercase()),
            _ => return false,
        }
    }
    let variant = version.is_none_or(|version| version == b'3' || b"89ab".contains(digits.get(16).unwrap_or(&b' ')));
    digits.len() == 32 && version.is_none_or(|version| digits[12] == version) && variant
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("patterns of the program compile; a test uses each")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_formats() {
        for (format, good, bad) in [
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77"),
            ("byte", "aGVsbG8=", "a"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/40"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("date", "2026-01-31", "2026-02-31"),
            ("date-time", "2026-01-31T12:00:00Z", "2026-01-31 12:00:00"),
            ("datetime", "2026-01-31t12:00:00.5+01:00", "2026-01-31T24:00:00Z"),
            ("duration", "1h30m", "1 fortnight"),
            ("duration", "2 hours", "hours"),
            ("email", "Jo <jo@example.com>", "jo.example.com"),
            ("hexcolor", "#ffF", "#ff"),
            ("hostname", "worker-0.example.com", "-worker"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fd00::1", "10.0.0.1"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("k8s-short-name", "my-name", "my.name"),
            ("k8s-long-name", "my.name", "My.name"),
            ("mac", "02:42:ac:11:00:02", "02:42:ac:11:00"),
            ("rgbcolor", "rgb(1, 20,255)", "rgb(1,2)"),
            ("ssn", "123-45-6789", "123-45-678"),
            ("uri", "https://example.com/a", "example.com"),
            ("uuid", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "f81d4fae-7dec"),
            ("uuid4", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ] {
            let format = Format::of("string", format).expect(format);
            assert!(format.accepts(good), "{} {good}", format.name);
            assert!(!format.accepts(bad), "{} {bad}", format.name);
        }
        assert!(Format::of("string", "int32").is_none());
        assert!(Format::of("object", "uri").is_none());
        assert_eq!(Format::of("integer", "int32").expect("a format").name, "int32");
    }
}
