//! Texts in the forms that Kubernetes prints.

use std::time::Duration;

use daruma_api::core::v1::Pod;
use daruma_api::meta::ObjectExt;

/// `name_namespace(uid)` (kubernetes pkg/kubelet/util/format/pod.go).
pub fn pod_text(pod: &Pod) -> String {
    format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid())
}

/// A duration as Go prints it: `1m20s`, `812ms`, `1.5s`.
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        let nanos = duration.subsec_nanos();
        return match nanos {
            0 => "0s".into(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}µs", decimal(f64::from(nanos) / 1e3)),
            _ => format!("{}ms", decimal(f64::from(nanos) / 1e6)),
        };
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = decimal((seconds % 60) as f64 + f64::from(duration.subsec_nanos()) / 1e9);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

fn decimal(value: f64) -> String {
    let text = format!("{value:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A list as Go prints it: `[a b]`.
pub fn go_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (millis, expected) in
            [(0, "0s"), (812, "812ms"), (1_500, "1.5s"), (10_000, "10s"), (80_000, "1m20s"), (300_000, "5m0s")]
        {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
    }
}
