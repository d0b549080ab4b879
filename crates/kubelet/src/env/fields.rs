//! A pod's own facts: `fieldRef` and `resourceFieldRef`.
//!
//! Source: kubernetes pkg/fieldpath/fieldpath.go, pkg/kubelet/kubelet_pods.go (podFieldSelectorRuntimeValue),
//! pkg/api/v1/resource/helpers.go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use daruma_api::core::v1::{Container as Spec, Pod, ResourceFieldSelector};
use daruma_api::meta::ObjectExt;
use daruma_api::quantity::Quantity;

/// What a pod's specification does not say itself.
#[derive(Debug, Clone, Default)]
pub struct FieldContext {
    /// The pod's addresses.
    pub pod_ips: Vec<String>,
    /// The node's addresses.
    pub host_ips: Vec<IpAddr>,
    /// What the node can give: thousandths of cores.
    pub cpu_millis: i64,
    /// What the node can give: bytes of memory.
    pub memory_bytes: i64,
    /// What the node can give: bytes of disk.
    pub ephemeral_bytes: i64,
}

/// The value of a field path.
///
/// # Errors
/// A path that is not supported.
pub fn field(pod: &Pod, path: &str, context: &FieldContext) -> Result<String, String> {
    let join = |ips: Vec<String>| ips.join(",");
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => format_map(pod.metadata.labels.as_ref()),
        "metadata.annotations" => format_map(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => context.host_ips.first().map(ToString::to_string).unwrap_or_default(),
        "status.hostIPs" => join(context.host_ips.iter().map(ToString::to_string).collect()),
        "status.podIP" => context.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => join(context.pod_ips.clone()),
        other => subscript(pod, other).ok_or_else(|| format!("unsupported fieldPath: {other}"))?,
    })
}

fn subscript(pod: &Pod, path: &str) -> Option<String> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    match map {
        "metadata.labels" => Some(pod.label(key).unwrap_or_default().to_owned()),
        "metadata.annotations" => Some(pod.annotation(key).unwrap_or_default().to_owned()),
        _ => None,
    }
}

/// Lines of `key="value"`, as downward API files show maps.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The value of a resource field; limits that are not set are those of the node.
///
/// # Errors
/// A resource that is not supported, or a container that does not exist.
pub fn resource(pod: &Pod, own: &Spec, selector: &ResourceFieldSelector, context: &FieldContext) -> Result<String, String> {
    let name = selector.container_name.as_deref().unwrap_or(&own.name);
    let container = pod
        .spec
        .iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
        .find(|container| container.name == name)
        .ok_or_else(|| format!("container {name} not found"))?;
    let (list, resource) = selector.resource.split_once('.').unwrap_or_default();
    let resources = container.resources.as_ref();
    let set = match list {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(format!("Unsupported container resource : {}", selector.resource)),
    };
    let own = set.and_then(|set| set.get(resource)).map(Quantity::from_raw).filter(|quantity| !quantity.is_zero());
    let whole = match (list, resource) {
        ("limits", "cpu") => Quantity::millis(context.cpu_millis),
        ("limits", "memory") => Quantity::bytes(context.memory_bytes),
        ("limits", "ephemeral-storage") => Quantity::bytes(context.ephemeral_bytes),
        _ => Quantity::ZERO,
    };
    let divisor =
        selector.divisor.as_ref().map(Quantity::from_raw).filter(|divisor| !divisor.is_zero()).unwrap_or(Quantity::units(1));
    let value = own.unwrap_or(whole);
    // Rounded up; CPU is counted in thousandths.
    let (dividend, divisor) =
        if resource == "cpu" { (value.milli_value(), divisor.milli_value()) } else { (value.value(), divisor.value()) };
    Ok((dividend + divisor - 1).div_euclid(divisor.max(1)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_of;

    #[test]
    fn values() {
        let pod = pod_of(
            "metadata: {name: p, namespace: n, uid: u, labels: {a: b, c: \"d\\\"e\"}}, \
             spec: {nodeName: w, containers: [{name: a, resources: {limits: {cpu: 1500m}, requests: {memory: 64Mi}}}]}",
        );
        let context = FieldContext {
            pod_ips: vec!["10.0.0.1".into()],
            host_ips: vec!["10.88.0.20".parse().expect("an address")],
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            ephemeral_bytes: 0,
        };
        for (path, expected) in [
            ("metadata.name", Some("p")),
            ("metadata.labels['a']", Some("b")),
            ("metadata.labels['x']", Some("")),
            ("metadata.labels", Some("a=\"b\"\nc=\"d\\\"e\"")),
            ("status.podIP", Some("10.0.0.1")),
            ("status.hostIP", Some("10.88.0.20")),
            ("spec.nodeName", Some("w")),
            ("spec.hostname", None),
        ] {
            assert_eq!(field(&pod, path, &context).ok().as_deref(), expected, "{path}");
        }
        let own = &pod.spec.as_ref().expect("a spec").containers[0];
        for (name, divisor, expected) in [
            ("limits.cpu", "0", "2"),
            ("limits.cpu", "1m", "1500"),
            ("requests.memory", "1Mi", "64"),
            ("limits.memory", "0", "1073741824"),
            ("requests.cpu", "0", "0"),
        ] {
            let selector = ResourceFieldSelector {
                resource: name.into(),
                divisor: Some(daruma_api::RawQuantity(divisor.into())),
                container_name: None,
            };
            assert_eq!(resource(&pod, own, &selector, &context).as_deref(), Ok(expected), "{name} by {divisor}");
        }
    }
}
