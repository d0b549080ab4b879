//! Times and sizes as a person writes them: `1m30s`, `64Mi`.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Units of time with their nanoseconds, longer names first.
const TIMES: [(&str, f64); 6] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
/// Units of size with their bytes, longer names first.
const SIZES: [(&str, u64); 9] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("", 1),
];

/// Reads a time such as `250ms`, `10s`, `1m30s`.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (mut rest, mut nanos) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let (unit, scale) = TIMES.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        nanos += number * scale;
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty() && nanos < u64::MAX as f64).then(|| Duration::from_nanos(nanos.round() as u64))
}

/// Reads a size such as `64Mi`, `1G`, `4096`.
pub fn parse_size(text: &str) -> Option<u64> {
    let (unit, scale) = SIZES.iter().find(|(unit, _)| text.ends_with(unit))?;
    text[..text.len() - unit.len()].parse::<u64>().ok()?.checked_mul(*scale)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

/// A time in a file; a bare number is refused, as it has no unit.
pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_time(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no time, such as 250ms, 10s, 1m30s")))
}

/// A size in a file.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Written::deserialize(deserializer)? {
        Written::Number(bytes) => Ok(bytes),
        Written::Text(text) => {
            parse_size(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no size, such as 4096, 64Mi, 1G")))
        }
    }
}

/// A size in a file that may be missing.
pub(super) fn optional_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        for (text, millis) in
            [("250ms", Some(250)), ("1m30s", Some(90_000)), ("1.5s", Some(1500)), ("0s", Some(0)), ("2h", Some(7_200_000))]
        {
            assert_eq!(parse_time(text).map(|time| time.as_millis()), millis, "{text}");
        }
        for text in ["", "5", "s", "1x", "-1s"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        for (text, bytes) in
            [("4096", Some(4096)), ("64Mi", Some(64 << 20)), ("1G", Some(1_000_000_000)), ("Mi", None), ("1Zi", None)]
        {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
