//! Command-line values in Kubernetes' own forms.

use std::time::Duration;

/// Parses a Go duration such as `50s`, `5m0s`, `1.5s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a duration; write it like 50s, 5m0s or 100ms");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| refused())?;
    Duration::try_from(parsed).map_err(|_| refused())
}

/// `true` or `false`, as Go flags spell it (`--flag=false`).
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Thresholds of eviction, in the kubelet's own form; looked at before a cluster is made with them.
pub fn hard_thresholds(text: &str) -> Result<String, String> {
    daruma_kubelet::parse_thresholds(Some(text), "", "").map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [("50s", 50_000), ("5m0s", 300_000), ("100ms", 100), ("1h", 3_600_000), ("1.5s", 1500)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        assert!(duration("50").is_err());
        assert!(duration("-1s").is_err());
    }
}
