//! `kubectl top`: use as the metrics API gives it.
//!
//! Source: kubectl pkg/metricsutil/metrics_printer.go.

use std::collections::BTreeMap;

use daruma_api::quantity::Quantity;
use daruma_client::{Client, ClientError};
use http::Method;
use serde_json::Value;

use super::{Command, lay_out};

/// `kubectl top node`.
pub(super) async fn nodes(client: &Client) -> Result<String, ClientError> {
    let used = list(client, "/apis/metrics.k8s.io/v1beta1/nodes").await?;
    let nodes = list(client, "/api/v1/nodes").await?;
    let used: BTreeMap<&str, &Value> = used.iter().map(|one| (name(one), one)).collect();
    let mut lines = vec![heading(&["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"])];
    for node in &nodes {
        let allocatable = |resource: &str| quantity(node.pointer(&format!("/status/allocatable/{resource}")));
        let Some(metrics) = used.get(name(node)) else {
            lines.push([name(node), "<unknown>", "<unknown>", "<unknown>", "<unknown>"].map(str::to_owned).to_vec());
            continue;
        };
        let (cpu, memory) = (quantity(metrics.pointer("/usage/cpu")), quantity(metrics.pointer("/usage/memory")));
        let percent = |part: i64, whole: i64| if whole > 0 { format!("{}%", part * 100 / whole) } else { "<unknown>".to_owned() };
        let (cpu_millis, all_millis) = (cpu.milli_value(), allocatable("cpu").milli_value());
        let (bytes, all_bytes) = (memory.value(), allocatable("memory").value());
        lines.push(vec![
            name(node).to_owned(),
            format!("{cpu_millis}m"),
            percent(cpu_millis, all_millis),
            mebibytes(bytes),
            percent(bytes, all_bytes),
        ]);
    }
    Ok(lay_out(&lines))
}

/// `kubectl top pod`.
pub(super) async fn pods(client: &Client, command: &Command) -> Result<String, ClientError> {
    let pods = list(client, &command.path()).await?;
    let with_namespace = command.namespace.is_none();
    let first = if with_namespace { vec!["NAMESPACE"] } else { Vec::new() };
    let mut lines = vec![heading(&[first, vec!["NAME", "CPU(cores)", "MEMORY(bytes)"]].concat())];
    for pod in &pods {
        let containers = pod["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let sum = |resource: &'static str| containers.iter().map(move |one| quantity(one.pointer(&format!("/usage/{resource}"))));
        let (cpu, memory) = (sum("cpu").map(Quantity::milli_value).sum::<i64>(), sum("memory").map(Quantity::value).sum::<i64>());
        let namespace = pod.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        let mut line = if with_namespace { vec![namespace.to_owned()] } else { Vec::new() };
        line.extend([name(pod).to_owned(), format!("{cpu}m"), mebibytes(memory)]);
        lines.push(line);
    }
    Ok(lay_out(&lines))
}

async fn list(client: &Client, path: &str) -> Result<Vec<Value>, ClientError> {
    let content = client.json(Method::GET, path, "", None).await?;
    let mut list: Value = serde_json::from_slice(&content)
        .map_err(|source| ClientError::Decode { what: path.to_owned(), source: std::sync::Arc::new(source) })?;
    Ok(match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

fn heading(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

fn quantity(value: Option<&Value>) -> Quantity {
    let text = value.and_then(Value::as_str).unwrap_or("0");
    text.parse().unwrap_or_else(|_| "0".parse().expect("zero is a quantity"))
}

fn mebibytes(bytes: i64) -> String {
    format!("{}Mi", bytes / (1 << 20))
}
