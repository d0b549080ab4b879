//! Lengths of time as people write them in a drill: `50s`, `1m30s`, `250ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written as a number and a unit (`ms`, `s`, `m`, `h`), or several of them (`1m30s`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(Duration);

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Whole milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.0.as_millis() as u64
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

/// Milliseconds as a person reads them: `45.6 s`, `5 min 45.6 s`, `2 h 5 min`.
pub fn length(ms: u64) -> String {
    // Tenths are rounded first, so that 59.96 s is a minute and not `60.0 s`.
    let tenths = (ms + 50) / 100;
    let (hours, minutes, seconds) = (tenths / 36_000, tenths / 600 % 60, tenths % 600);
    let seconds = format!("{}.{} s", seconds / 10, seconds % 10);
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes} min {seconds}"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// Why a text is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time; write for example 50s, 1m30s or 250ms")]
pub struct NotASpan(String);

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let wrong = || NotASpan(text.to_owned());
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let seconds = match &rest[..letters] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
            rest = rest[letters..].trim_start();
            total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        }
        // A tenth of a second is not a number a float can hold: what is meant is the nearest microsecond.
        Ok(Self(Duration::from_micros((total.as_nanos() as u64).saturating_add(500) / 1000)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let ms = self.as_ms();
        let (hours, minutes, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms % 60_000);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match (rest / 1000, rest % 1000) {
            (0, 0) => Ok(()),
            (0, ms) => write!(f, "{ms}ms"),
            (s, 0) => write!(f, "{s}s"),
            (s, ms) => write!(f, "{s}s{ms}ms"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A length of time: a number and a unit (ms, s, m, h), or several, e.g. 50s, 1m30s.",
            "pattern": r"^(0|([0-9.]+(ms|s|m|h) ?)+)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, ms, again) in [
            ("50s", 50_000, "50s"),
            ("1m30s", 90_000, "1m30s"),
            ("250ms", 250, "250ms"),
            ("1.5s", 1500, "1s500ms"),
            ("0.1s", 100, "100ms"),
            ("2h 5m", 7_500_000, "2h5m"),
            ("0", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.as_ms(), span.to_string().as_str()), (ms, again), "{text}");
        }
        assert_eq!(length(45_649), "45.6 s");
        assert_eq!(length(59_960), "1 min 0.0 s");
        assert_eq!(length(345_600), "5 min 45.6 s");
        assert_eq!(length(7_530_000), "2 h 5 min");
        for text in ["", "50", "s", "-5s", "5 parsecs", "1m-3s", "..s", "99999999999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
