//! Reads a kubelet's `/metrics/resource`.

use std::collections::BTreeMap;

use crate::window::Point;

/// A container: namespace, pod, container.
pub type ContainerKey = (String, String, String);

/// What one scrape of a node gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The node itself.
    pub node: Point,
    /// Its containers.
    pub containers: BTreeMap<ContainerKey, Point>,
}

/// Parses the Prometheus text. Lines that are not understood are skipped: newer kubelets say more.
/// `now_ms` stands in for a sample without a time of its own (milliseconds since 1970).
pub fn parse(text: &str, now_ms: i64) -> Sample {
    let mut sample = Sample::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels, value, at_ms)) = parse_line(line) else { continue };
        let at_ms = at_ms.unwrap_or(now_ms);
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        match name {
            "node_cpu_usage_seconds_total" => sample.node.set_cpu(value, at_ms),
            "node_memory_working_set_bytes" => sample.node.set_memory(value, at_ms),
            "container_cpu_usage_seconds_total" | "container_memory_working_set_bytes" | "container_start_time_seconds" => {
                let point = sample.containers.entry((label("namespace"), label("pod"), label("container"))).or_default();
                match name {
                    "container_cpu_usage_seconds_total" => point.set_cpu(value, at_ms),
                    "container_memory_working_set_bytes" => point.set_memory(value, at_ms),
                    _ => point.start_seconds = Some(value),
                }
            }
            _ => {}
        }
    }
    sample
}

/// `name{label="value",…} value [milliseconds]`
fn parse_line(line: &str) -> Option<(&str, BTreeMap<&str, String>, f64, Option<i64>)> {
    let name_end = line.find(['{', ' '])?;
    let name = &line[..name_end];
    let (labels, rest) = if line[name_end..].starts_with('{') {
        let (labels, length) = parse_labels(&line[name_end + 1..])?;
        (labels, &line[name_end + 1 + length..])
    } else {
        (BTreeMap::new(), &line[name_end..])
    };
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    Some((name, labels, value, words.next().and_then(|word| word.parse().ok())))
}

/// The labels and the length of their text with the closing brace.
fn parse_labels(text: &str) -> Option<(BTreeMap<&str, String>, usize)> {
    let mut labels = BTreeMap::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with('}') {
            return Some((labels, at + 1));
        }
        if rest.starts_with(',') {
            at += 1;
            continue;
        }
        let equals = rest.find("=\"")?;
        let mut value = String::new();
        let mut escaped = false;
        let mut length = None;
        for (index, character) in rest[equals + 2..].char_indices() {
            match (escaped, character) {
                (true, 'n') => value.push('\n'),
                (false, '\\') => {}
                (false, '"') => {
                    length = Some(index);
                    break;
                }
                (_, other) => value.push(other),
            }
            escaped = !escaped && character == '\\';
        }
        labels.insert(&rest[..equals], value);
        at += equals + 2 + length? + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_kubelet() {
        let text = "# HELP x y\nnode_cpu_usage_seconds_total 12.5 2000\nnode_memory_working_set_bytes 1e6 2000\n\
            container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\\\"q\"} 0.25 1500\n\
            container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\\\"q\"} 4096\nbroken{\n";
        let sample = parse(text, 9000);
        assert_eq!(sample.node, Point { cpu_seconds: 12.5, memory_bytes: 1e6, at_ms: 2000, start_seconds: None });
        let container = &sample.containers[&("n".to_owned(), "p\"q".to_owned(), "c".to_owned())];
        assert_eq!((container.cpu_seconds, container.memory_bytes, container.at_ms), (0.25, 4096.0, 9000));
    }
}
