//! What `kubectl get services` shows.
//!
//! Source: kubernetes pkg/printers/internalversion/printers.go (`printService`).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::access::{at, get, list, number, text};
use crate::printing::{age, labels, name};

/// Cells of one service, one a column.
pub(super) fn cells(service: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let spec = get(service, "spec");
    let cluster = list(spec, "clusterIPs").first().and_then(Value::as_str).unwrap_or("<none>");
    vec![
        name(service),
        text(spec, "type").into(),
        cluster.into(),
        external(service).into(),
        ports(list(spec, "ports")).into(),
        age(service, now),
        labels(spec, "selector").into(),
    ]
}

fn external(service: &Value) -> String {
    let spec = get(service, "spec");
    let own: Vec<&str> = list(spec, "externalIPs").iter().filter_map(Value::as_str).collect();
    match text(spec, "type") {
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => own.join(","),
        "LoadBalancer" => {
            let ingress: BTreeSet<&str> = list(at(service, &["status", "loadBalancer"]), "ingress")
                .iter()
                .map(|one| if text(one, "ip").is_empty() { text(one, "hostname") } else { text(one, "ip") })
                .filter(|address| !address.is_empty())
                .collect();
            let all: Vec<&str> = ingress.into_iter().chain(own).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => text(spec, "externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(ports: &[Value]) -> String {
    if ports.is_empty() {
        return "<none>".to_owned();
    }
    let pieces: Vec<String> = ports
        .iter()
        .map(|port| match (number(port, "port"), number(port, "nodePort"), text(port, "protocol")) {
            (own, 0, protocol) => format!("{own}/{protocol}"),
            (own, node, protocol) => format!("{own}:{node}/{protocol}"),
        })
        .collect();
    pieces.join(",")
}
