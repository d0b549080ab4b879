//! Reads a kubelet's `/metrics/resource`.

use std::borrow::Cow;
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
    for line in text.lines() {
        let Some(name_end) = line.bytes().position(|byte| matches!(byte, b'{' | b' ')) else { continue };
        let Some(set) = setter(&line[..name_end]) else { continue };
        let Some((labels, value, at_ms)) = parse_rest(&line[name_end..]) else { continue };
        let point = match set {
            Setter::Node(_) => &mut sample.node,
            Setter::Container(_) => {
                let label = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_string());
                let [namespace, pod, container] = ["namespace", "pod", "container"].map(|key| label(key).unwrap_or_default());
                sample.containers.entry((namespace, pod, container)).or_default()
            }
        };
        let (Setter::Node(set) | Setter::Container(set)) = set;
        set(point, value, at_ms.unwrap_or(now_ms));
    }
    sample
}

/// Whose point a line is about, and what it sets there.
enum Setter {
    Node(fn(&mut Point, f64, i64)),
    Container(fn(&mut Point, f64, i64)),
}

fn setter(name: &str) -> Option<Setter> {
    Some(match name {
        "node_cpu_usage_seconds_total" => Setter::Node(Point::set_cpu),
        "node_memory_working_set_bytes" => Setter::Node(Point::set_memory),
        "container_cpu_usage_seconds_total" => Setter::Container(Point::set_cpu),
        "container_memory_working_set_bytes" => Setter::Container(Point::set_memory),
        "container_start_time_seconds" => Setter::Container(|point, value, _| point.start_seconds = Some(value)),
        _ => return None,
    })
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// What follows a name: `{label="value",…} value [milliseconds]`
fn parse_rest(rest: &str) -> Option<(Labels<'_>, f64, Option<i64>)> {
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    Some((labels, value, words.next().and_then(|word| word.parse().ok())))
}

/// The labels, and what follows their closing brace.
fn parse_labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.strip_prefix(',').unwrap_or(rest);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, text) = rest.split_once("=\"")?;
        let (value, after) = parse_value(text)?;
        labels.push((name, value));
        rest = after;
    }
}

/// A value up to its closing quote, and what follows that.
fn parse_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.bytes().position(|byte| matches!(byte, b'"' | b'\\'))?;
    if text.as_bytes()[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = text[..end].to_owned();
    let mut characters = text[end..].chars();
    loop {
        match characters.next()? {
            '"' => return Some((Cow::Owned(value), characters.as_str())),
            '\\' => value.push(match characters.next()? {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
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
