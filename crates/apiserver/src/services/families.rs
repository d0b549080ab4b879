//! Address families of services, and what an update carries over from the service before.

use serde_json::{Value, json};

use crate::document::{self, list, number, text};

/// Fills `clusterIPs`, `ipFamilies`, `ipFamilyPolicy` for a cluster of IPv4 alone.
pub fn normalize(service: &mut Value, old: Option<&Value>) {
    let kind = text(service, "/spec/type").to_owned();
    if let Some(old) = old {
        carry_over(service, old);
    }
    if kind == "ExternalName" {
        let spec = document::child(service, "spec");
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(key);
        }
        return;
    }
    let first = document::texts(service, "/spec/clusterIPs").first().map(|first| (*first).to_owned());
    let single = text(service, "/spec/clusterIP").to_owned();
    let headless = single == "None" || (single.is_empty() && first.as_deref() == Some("None"));
    let selectorless = service.pointer("/spec/selector").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty);
    let spec = document::child(service, "spec");
    match (single.is_empty(), first) {
        (true, Some(first)) => {
            spec.insert("clusterIP".into(), first.into());
        }
        (false, None) => {
            spec.insert("clusterIPs".into(), json!([single]));
        }
        _ => {}
    }
    let missing = |spec: &serde_json::Map<String, Value>, key: &str| spec.get(key).is_none_or(Value::is_null);
    if missing(spec, "ipFamilyPolicy") {
        let before = old.and_then(|old| old.pointer("/spec/ipFamilyPolicy")).cloned();
        let default = if headless && selectorless { "RequireDualStack" } else { "SingleStack" };
        spec.insert("ipFamilyPolicy".into(), before.unwrap_or_else(|| default.into()));
    }
    let single_stack = spec.get("ipFamilyPolicy").and_then(Value::as_str) == Some("SingleStack");
    let families = document::elements(spec, "ipFamilies");
    if families.is_empty() {
        families.push("IPv4".into());
    }
    if headless && selectorless && !single_stack && families.len() < 2 {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.into());
    }
}

/// An update that leaves out what was allocated keeps it (`patchAllocatedValues`).
fn carry_over(service: &mut Value, old: &Value) {
    let (kind, old_kind) = (text(service, "/spec/type").to_owned(), text(old, "/spec/type"));
    if kind != "ExternalName" && old_kind != "ExternalName" {
        let spec = document::child(service, "spec");
        for key in ["clusterIP", "clusterIPs", "ipFamilies"] {
            let empty =
                spec.get(key).is_none_or(|value| value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty));
            if let Some(value) = old.pointer(&format!("/spec/{key}")).filter(|_| empty) {
                spec.insert(key.into(), value.clone());
            }
        }
    }
    let with_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if !with_ports(&kind) || !with_ports(old_kind) {
        return;
    }
    let before: Vec<(String, i64, i64)> = list(old, "/spec/ports")
        .iter()
        .filter_map(|port| Some((text(port, "/protocol").to_owned(), number(port, "/port")?, number(port, "/nodePort")?)))
        .collect();
    let used: Vec<i64> = list(service, "/spec/ports").iter().filter_map(|port| number(port, "/nodePort")).collect();
    for port in service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if number(port, "/nodePort").unwrap_or(0) != 0 {
            continue;
        }
        let same = before.iter().find(|(protocol, number_before, node_port)| {
            *protocol == text(port, "/protocol") && Some(*number_before) == number(port, "/port") && !used.contains(node_port)
        });
        if let (Some((_, _, node_port)), Some(fields)) = (same, port.as_object_mut()) {
            fields.insert("nodePort".into(), (*node_port).into());
        }
    }
    if kind == "LoadBalancer"
        && number(service, "/spec/healthCheckNodePort").unwrap_or(0) == 0
        && let Some(port) = old.pointer("/spec/healthCheckNodePort")
    {
        document::child(service, "spec").insert("healthCheckNodePort".into(), port.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spec: Value, old: Option<Value>, pointer: &str, expected: &Value) {
        let mut service = json!({"spec": spec});
        let old = old.map(|spec| json!({"spec": spec}));
        normalize(&mut service, old.as_ref());
        assert_eq!(service.pointer(pointer).unwrap_or(&Value::Null), expected, "{service}");
    }

    #[test]
    fn families() {
        check(json!({"type": "ClusterIP", "selector": {"a": "b"}}), None, "/spec/ipFamilies", &json!(["IPv4"]));
        check(json!({"type": "ClusterIP", "clusterIP": "None"}), None, "/spec/ipFamilyPolicy", &json!("RequireDualStack"));
        check(
            json!({"type": "ClusterIP", "clusterIP": "None", "selector": {"a": "b"}}),
            None,
            "/spec/clusterIPs",
            &json!(["None"]),
        );
        check(json!({"type": "ExternalName", "clusterIP": ""}), None, "/spec/ipFamilies", &Value::Null);
    }

    #[test]
    fn updates() {
        let old = json!({"type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
            "ports": [{"protocol": "TCP", "port": 80, "nodePort": 30001}]});
        let new = json!({"type": "NodePort", "ports": [{"protocol": "TCP", "port": 80}]});
        check(new.clone(), Some(old.clone()), "/spec/ports/0/nodePort", &json!(30001));
        check(new, Some(old), "/spec/clusterIP", &json!("10.96.0.7"));
    }
}
