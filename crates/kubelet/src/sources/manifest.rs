//! From a manifest to a static pod.
//!
//! Source: kubernetes pkg/kubelet/config/common.go (applyDefaults, tryDecodeSinglePod).

use daruma_api::core::v1::{Container, Pod, Probe, Toleration};
use daruma_api::meta::ObjectExt;

use super::{ANNOTATION_HASH, ANNOTATION_SEEN, ANNOTATION_SOURCE};

/// Reads a manifest (JSON or YAML) as a pod of this node, with the defaults that the API server would set.
///
/// # Errors
/// Not a pod, or one without a name or containers.
pub fn static_pod(content: &[u8], file: &str, node_name: &str, now: jiff::Timestamp) -> Result<Pod, String> {
    let mut pod: Pod = serde_yaml_ng::from_slice(content).map_err(|error| format!("invalid pod: {error}"))?;
    if pod.name().is_empty() {
        return Err("invalid pod: metadata.name: Required value".into());
    }
    if pod.spec.as_ref().is_none_or(|spec| spec.containers.is_empty()) {
        return Err("invalid pod: spec.containers: Required value".into());
    }
    let hash = if pod.uid().is_empty() { hash(content, node_name, file) } else { pod.uid().to_owned() };
    pod.metadata.uid = Some(hash.clone());
    pod.metadata.name = Some(format!("{}-{}", pod.name(), node_name.to_lowercase()));
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_HASH.into(), hash);
    annotations.insert(ANNOTATION_SOURCE.into(), "file".into());
    annotations.insert(ANNOTATION_SEEN.into(), now.to_string());
    pod.status = None;
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node_name.to_owned());
        spec.tolerations.get_or_insert_default().push(Toleration {
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            ..Toleration::default()
        });
        spec.restart_policy.get_or_insert_with(|| "Always".into());
        spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
        spec.termination_grace_period_seconds.get_or_insert(30);
        spec.enable_service_links.get_or_insert(true);
        spec.scheduler_name.get_or_insert_with(|| "default-scheduler".into());
        spec.security_context.get_or_insert_default();
        if spec.priority_class_name.as_deref() == Some("system-node-critical") {
            spec.priority.get_or_insert(2_000_001_000);
        }
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            set_defaults(container);
        }
    }
    Ok(pod)
}

/// Source: kubernetes pkg/apis/core/v1/defaults.go.
fn set_defaults(container: &mut Container) {
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
    container.termination_message_policy.get_or_insert_with(|| "File".into());
    let latest = container.image.as_deref().is_none_or(|image| {
        let last = image.rsplit('/').next().unwrap_or_default();
        !last.contains(['@', ':']) || last.ends_with(":latest")
    });
    container.image_pull_policy.get_or_insert_with(|| if latest { "Always" } else { "IfNotPresent" }.into());
    if let Some(resources) = &mut container.resources
        && let Some(limits) = &resources.limits
    {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
    for probe in probes.into_iter().flatten() {
        set_probe_defaults(probe);
    }
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".into());
    }
}

fn set_probe_defaults(probe: &mut Probe) {
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
    if let Some(get) = &mut probe.http_get {
        get.path.get_or_insert_with(|| "/".into());
        get.scheme.get_or_insert_with(|| "HTTP".into());
    }
}

/// 128 bits of FNV-1a over content, node and file, in hexadecimal.
fn hash(content: &[u8], node_name: &str, file: &str) -> String {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for part in [content, b"\0host:", node_name.as_bytes(), b"\0file:", file.as_bytes()] {
        for byte in part {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn a_manifest() {
        let text = b"apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\nspec:\n  containers: [{name: a, image: x}]\n";
        let pod = static_pod(text, "/m/etcd.yaml", "controller-0", at(0)).expect("a pod");
        assert_eq!(pod.key(), "kube-system/etcd-controller-0");
        assert_eq!(pod.uid().len(), 32);
        assert_eq!(pod.annotation(ANNOTATION_HASH), Some(pod.uid()));
        let spec = pod.spec.as_ref().expect("a spec");
        assert_eq!(spec.node_name.as_deref(), Some("controller-0"));
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Always"));
        let again = static_pod(text, "/m/etcd.yaml", "controller-0", at(9)).expect("a pod");
        assert_eq!(again.uid(), pod.uid(), "the time of reading does not count");
        let other = static_pod(text, "/m/etcd.yaml", "controller-1", at(0)).expect("a pod");
        assert_ne!(other.uid(), pod.uid());
    }

    #[test]
    fn refusals() {
        for text in ["", "kind: Pod", "{metadata: {name: a}, spec: {containers: []}}", "a: ["] {
            assert!(static_pod(text.as_bytes(), "f", "n", at(0)).is_err(), "{text}");
        }
    }
}
