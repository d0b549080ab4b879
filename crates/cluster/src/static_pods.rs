//! The control plane as static pods, as kubeadm writes them.

use crate::shape::{IMAGE, Machine, POD_CIDR, SERVICE_CIDR, Shape};

/// Component and manifest.
const ALL: &[(&str, &str)] = &[
    ("kube-apiserver", include_str!("../manifests/kube-apiserver.yaml")),
    ("kube-controller-manager", include_str!("../manifests/kube-controller-manager.yaml")),
    ("kube-scheduler", include_str!("../manifests/kube-scheduler.yaml")),
];

/// Names of the control-plane components that run as static pods.
pub fn components() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(component, _)| *component)
}

/// File names and contents for `/etc/kubernetes/manifests` of a controller.
///
/// # Panics
/// A built-in manifest is not valid YAML.
pub fn render(shape: &Shape, controller: &Machine) -> Vec<(String, String)> {
    let toleration = shape.default_toleration_seconds.to_string();
    let address = controller.address.to_string();
    let values = [
        ("${IMAGE}", IMAGE),
        ("${NODE_IP}", &address),
        ("${POD_CIDR}", POD_CIDR),
        ("${SERVICE_CIDR}", SERVICE_CIDR),
        ("${TOLERATION_SECONDS}", &toleration),
        ("${GRACE_PERIOD}", &shape.node_monitor_grace_period),
    ];
    ALL.iter()
        .map(|(component, template)| {
            let text = values.iter().fold((*template).to_owned(), |text, (name, value)| text.replace(name, value));
            let mut pod: serde_json::Value = serde_yaml_ng::from_str(&text).expect("built-in manifests are valid YAML");
            if let Some(container) = pod.pointer_mut("/spec/containers/0") {
                shape.set_container_flags(component, container);
            }
            let text = serde_yaml_ng::to_string(&pod).expect("a JSON value is always valid YAML");
            (format!("{component}.yaml"), text)
        })
        .collect()
}
