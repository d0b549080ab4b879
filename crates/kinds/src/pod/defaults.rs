//! Defaults of pods and of pod specifications in templates.
//!
//! Source: kubernetes pkg/apis/core/v1/defaults.go and zz_generated.defaults.go.

use serde_json::{Value, json};

use crate::access::{
    Object, default_number, default_text, default_to, ensure, entries, flag, get, has, list, list_mut, number, set, text,
};

/// Permission bits of files in volumes: 0644.
const FILE_MODE: i64 = 0o644;

/// A whole pod.
pub(super) fn pod(object: &mut Value) {
    let spec = ensure(object, "spec");
    self::spec(spec);
    for key in ["containers", "initContainers"] {
        for container in list_mut(spec, key) {
            requests_from_limits(ensure(container, "resources"));
        }
    }
    if has(spec, "resources") {
        pod_requests(spec);
    }
    default_to(spec, "enableServiceLinks", true);
    if flag(spec, "hostNetwork") {
        for key in ["containers", "initContainers"] {
            for port in list_mut(spec, key).iter_mut().flat_map(|container| list_mut(container, "ports")) {
                let own = number(port, "containerPort");
                default_number(port, "hostPort", own);
            }
        }
    }
}

/// A pod specification.
pub(crate) fn spec(spec: &mut Value) {
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "restartPolicy", "Always");
    default_to(spec, "securityContext", Object::new());
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_text(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    for volume in list_mut(spec, "volumes") {
        self::volume(volume);
    }
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list_mut(spec, key) {
            self::container(container);
        }
    }
}

/// The old name `serviceAccount` always follows `serviceAccountName`.
fn service_account(spec: &mut Value) {
    let (name, old) = (text(spec, "serviceAccountName"), text(spec, "serviceAccount"));
    if !name.is_empty() && name != old {
        let name = name.to_owned();
        set(spec, "serviceAccount", name);
    } else if name.is_empty() && !old.is_empty() {
        let old = old.to_owned();
        set(spec, "serviceAccountName", old);
    }
}

/// `Always` for `latest`, else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

fn container(container: &mut Value) {
    if text(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text(container, "image"));
        set(container, "imagePullPolicy", policy);
    }
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    default_to(container, "resources", Object::new());
    for port in list_mut(container, "ports") {
        default_text(port, "protocol", "TCP");
    }
    for variable in list_mut(container, "env") {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            default_text(field, "apiVersion", "v1");
        }
        if let Some(file) = variable.pointer_mut("/valueFrom/fileKeyRef") {
            default_to(file, "optional", false);
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(key).filter(|probe| probe.is_object()) {
            default_number(probe, "timeoutSeconds", 1);
            default_number(probe, "periodSeconds", 10);
            default_number(probe, "successThreshold", 1);
            default_number(probe, "failureThreshold", 3);
            if let Some(call) = probe.get_mut("grpc") {
                default_to(call, "service", "");
            }
            http_get(probe);
        }
    }
    if let Some(lifecycle) = container.get_mut("lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = lifecycle.get_mut(key) {
                http_get(handler);
            }
        }
    }
}

fn http_get(handler: &mut Value) {
    if let Some(request) = handler.get_mut("httpGet").filter(|request| request.is_object()) {
        default_text(request, "path", "/");
        default_text(request, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|members| members.iter().all(|(key, value)| key == "name" || value.is_null())) {
        set(volume, "emptyDir", Object::new());
        return;
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(key).filter(|source| source.is_object()) {
            default_to(source, "defaultMode", FILE_MODE);
            field_refs(source);
        }
    }
    for source in volume.get_mut("projected").into_iter().flat_map(|projected| list_mut(projected, "sources")) {
        if let Some(files) = source.get_mut("downwardAPI") {
            field_refs(files);
        }
        if let Some(token) = source.get_mut("serviceAccountToken").filter(|token| token.is_object()) {
            default_to(token, "expirationSeconds", 3600);
        }
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|path| path.is_object()) {
        default_to(path, "type", "");
    }
    if let Some(image) = volume.get_mut("image").filter(|image| image.is_object() && text(image, "pullPolicy").is_empty()) {
        let policy = pull_policy(text(image, "reference"));
        set(image, "pullPolicy", policy);
    }
    if let Some(claim) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        default_to(claim, "volumeMode", "Filesystem");
    }
    for (key, member, default) in [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("azureDisk", "cachingMode", "ReadWrite"),
        ("azureDisk", "kind", "Shared"),
        ("azureDisk", "fsType", "ext4"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
    ] {
        if let Some(source) = volume.get_mut(key) {
            default_text(source, member, default);
        }
    }
    if let Some(disk) = volume.get_mut("azureDisk") {
        default_to(disk, "readOnly", false);
    }
}

fn field_refs(source: &mut Value) {
    for item in list_mut(source, "items") {
        if let Some(field) = item.get_mut("fieldRef").filter(|field| field.is_object()) {
            default_text(field, "apiVersion", "v1");
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    let missing: Vec<(String, Value)> = entries(resources, "limits")
        .filter(|(name, _)| !has(get(resources, "requests"), name))
        .map(|(name, quantity)| (name.clone(), quantity.clone()))
        .collect();
    if !missing.is_empty() {
        let requests = ensure(resources, "requests");
        for (name, quantity) in missing {
            set(requests, &name, quantity);
        }
    }
}

/// Requests of the pod as a whole, where it has limits: what its containers ask for, else the limit.
fn pod_requests(spec: &mut Value) {
    use daruma_api::quantity::Quantity;
    use std::collections::BTreeMap;
    if entries(get(spec, "resources"), "limits").next().is_none() {
        return;
    }
    let mut sums: BTreeMap<String, Quantity> = BTreeMap::new();
    let (mut sidecars, mut peak): (BTreeMap<String, Quantity>, BTreeMap<String, Quantity>) = Default::default();
    let requests = |container: &Value| -> Vec<(String, Quantity)> {
        entries(get(container, "resources"), "requests")
            .filter_map(|(name, quantity)| Some((name.clone(), quantity.as_str()?.parse().ok()?)))
            .collect()
    };
    for container in list(spec, "containers") {
        for (name, quantity) in requests(container) {
            *sums.entry(name).or_default() += quantity;
        }
    }
    for container in list(spec, "initContainers") {
        let sidecar = text(container, "restartPolicy") == "Always";
        for (name, quantity) in requests(container) {
            let mut step = sidecars.get(&name).copied().unwrap_or_default();
            step += quantity;
            if sidecar {
                sidecars.insert(name.clone(), step);
                *sums.entry(name.clone()).or_default() += quantity;
            }
            let most = peak.entry(name).or_default();
            *most = (*most).max(step);
        }
    }
    for (name, most) in peak {
        let sum = sums.entry(name).or_default();
        *sum = (*sum).max(most);
    }
    let supported = |name: &str| matches!(name, "cpu" | "memory");
    let resources = ensure(spec, "resources");
    let mut wanted: Object =
        sums.into_iter().filter(|(name, _)| supported(name)).map(|(name, sum)| (name, json!(sum.to_string()))).collect();
    for (name, limit) in entries(resources, "limits") {
        if (supported(name) || name.starts_with("hugepages-")) && !wanted.contains_key(name) {
            wanted.insert(name.clone(), limit.clone());
        }
    }
    if !wanted.is_empty() {
        let requests = ensure(resources, "requests");
        for (name, quantity) in wanted {
            default_to(requests, &name, quantity);
        }
    }
}
