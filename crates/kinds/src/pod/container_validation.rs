//! Containers of a pod specification.
//!
//! Source: kubernetes `validateContainers`, `validateInitContainers`, `validateContainerCommon` and
//! what they call.

use serde_json::Value;

use crate::access::{flag, get, has, integer, list, number, text};
use crate::field::{Errors, Path};
use crate::names;

use super::{probe_validation, resource_validation, volume_validation};

/// What containers may refer to.
pub(super) struct Surroundings<'a> {
    /// Names of valid volumes.
    pub volumes: Vec<&'a str>,
    /// Names of resource claims.
    pub claims: Vec<&'a str>,
    /// The pod's grace period.
    pub grace: Option<i64>,
    /// Whether this is a pod and not a template.
    pub is_pod: bool,
}

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];

/// Containers and init containers.
pub(super) fn containers(errors: &mut Errors, path: &Path<'_>, spec: &Value, around: &Surroundings<'_>) {
    let containers_path = path.child("containers");
    let regular = list(spec, "containers");
    if regular.is_empty() {
        errors.required(&containers_path, "");
    }
    let mut seen: Vec<&str> = Vec::with_capacity(regular.len());
    for (index, container) in regular.iter().enumerate() {
        let path = containers_path.index(index);
        common(errors, &path, container, around);
        unique(errors, &path, container, &mut seen);
        if has(container, "lifecycle") {
            probe_validation::lifecycle(errors, &path.child("lifecycle"), get(container, "lifecycle"), around.grace);
        }
        probe_validation::probes(errors, &path, container, around.grace);
        restart_policy(errors, &path, container);
    }
    host_ports(errors, &containers_path, regular);
    let init_path = path.child("initContainers");
    for (index, container) in list(spec, "initContainers").iter().enumerate() {
        let path = init_path.index(index);
        common(errors, &path, container, around);
        restart_policy(errors, &path, container);
        unique(errors, &path, container, &mut seen);
        host_ports(errors, &init_path, std::slice::from_ref(container));
        if text(container, "restartPolicy") == "Always" {
            if has(container, "lifecycle") {
                probe_validation::lifecycle(errors, &path.child("lifecycle"), get(container, "lifecycle"), around.grace);
            }
            probe_validation::probes(errors, &path, container, around.grace);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if has(container, key) {
                    errors.forbidden(&path.child(key), "may not be set for init containers without restartPolicy=Always");
                }
            }
        }
    }
}

fn unique<'a>(errors: &mut Errors, path: &Path<'_>, container: &'a Value, seen: &mut Vec<&'a str>) {
    let name = text(container, "name");
    if seen.contains(&name) {
        errors.duplicate(&path.child("name"), name);
    } else if !name.is_empty() {
        seen.push(name);
    }
}

fn restart_policy(errors: &mut Errors, path: &Path<'_>, container: &Value) {
    let (policy, rules) = (text(container, "restartPolicy"), list(container, "restartPolicyRules"));
    let policy_path = path.child("restartPolicy");
    if policy.is_empty() {
        if !rules.is_empty() {
            errors.required(&policy_path, "must specify restartPolicy when restart rules are used");
        }
    } else if !RESTART_POLICIES.contains(&policy) {
        errors.not_supported(&policy_path, policy, RESTART_POLICIES);
    }
    let rules_path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.too_many(&rules_path, rules.len(), 20);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = rules_path.index(index);
        let action = text(rule, "action");
        if !matches!(action, "Restart" | "RestartAllContainers") {
            errors.not_supported(&path.child("action"), action, &["Restart", "RestartAllContainers"]);
        }
        let (codes, path) = (get(rule, "exitCodes"), path.child("exitCodes"));
        if codes.is_null() {
            errors.required(&path, "must be specified");
        } else if !matches!(text(codes, "operator"), "In" | "NotIn") {
            errors.not_supported(&path.child("operator"), text(codes, "operator"), &["In", "NotIn"]);
        }
    }
}

fn common(errors: &mut Errors, path: &Path<'_>, container: &Value, around: &Surroundings<'_>) {
    let name = text(container, "name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        errors.all_invalid(&path.child("name"), name, names::dns_label(name));
    }
    let image = text(container, "image");
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    }
    let policy = text(container, "terminationMessagePolicy");
    errors.one_of(&path.child("terminationMessagePolicy"), policy, &["FallbackToLogsOnError", "File"]);
    ports(errors, &path.child("ports"), list(container, "ports"));
    environment(errors, path, container);
    volume_validation::mounts(errors, path, container, &around.volumes);
    let policy = text(container, "imagePullPolicy");
    errors.one_of(&path.child("imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    resource_validation::requirements(errors, &path.child("resources"), get(container, "resources"), &around.claims);
    security_context(errors, &path.child("securityContext"), get(container, "securityContext"));
    if around.is_pod && image.trim().len() != image.len() {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn ports(errors: &mut Errors, path: &Path<'_>, ports: &[Value]) {
    let mut seen = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if !wrong.is_empty() {
                errors.all_invalid(&path.child("name"), name, wrong);
            } else if seen.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            } else {
                seen.push(name);
            }
        }
        match number(port, "containerPort") {
            0 => errors.required(&path.child("containerPort"), ""),
            number => {
                if let Some(wrong) = names::port_number(number) {
                    errors.invalid(&path.child("containerPort"), number, wrong);
                }
            }
        }
        let host = number(port, "hostPort");
        if let Some(wrong) = names::port_number(host).filter(|_| host != 0) {
            errors.invalid(&path.child("hostPort"), host, wrong);
        }
        errors.one_of(&path.child("protocol"), text(port, "protocol"), PROTOCOLS);
    }
}

/// No two containers may take one port of the host.
fn host_ports(errors: &mut Errors, path: &Path<'_>, containers: &[Value]) {
    let mut seen: Vec<String> = Vec::new();
    for (container_index, container) in containers.iter().enumerate() {
        let container_path = path.index(container_index);
        let ports_path = container_path.child("ports");
        for (index, port) in list(container, "ports").iter().enumerate() {
            let host = number(port, "hostPort");
            if host == 0 {
                continue;
            }
            let shown = format!("{}/{}/{host}", text(port, "protocol"), text(port, "hostIP"));
            if seen.contains(&shown) {
                errors.duplicate(&ports_path.index(index).child("hostPort"), shown);
            } else {
                seen.push(shown);
            }
        }
    }
}

/// Fields that environment variables may take from the pod.
const ENVIRONMENT_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCE_FIELDS: &[&str] =
    &["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];

fn environment(errors: &mut Errors, path: &Path<'_>, container: &Value) {
    let env_path = path.child("env");
    for (index, variable) in list(container, "env").iter().enumerate() {
        let path = env_path.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.all_invalid(&path.child("name"), name, names::environment_name(name));
        }
        if has(variable, "valueFrom") {
            value_from(errors, &path.child("valueFrom"), variable);
        }
    }
    let from_path = path.child("envFrom");
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        let path = from_path.index(index);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            errors.all_invalid(&path.child("prefix"), prefix, names::environment_name(prefix));
        }
        let mut sources = 0;
        for key in ["configMapRef", "secretRef"] {
            let reference = get(source, key);
            if reference.is_null() {
                continue;
            }
            sources += 1;
            let (name, path) = (text(reference, "name"), path.child(key));
            if name.is_empty() {
                errors.required(&path.child("name"), "");
            } else {
                errors.all_invalid(&path.child("name"), name, names::dns_subdomain(name));
            }
        }
        match sources {
            0 => errors.invalid(&from_path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(&from_path, "", "may not have more than one field specified at a time"),
        }
    }
}

fn value_from(errors: &mut Errors, path: &Path<'_>, variable: &Value) {
    let from = get(variable, "valueFrom");
    let mut sources = 0;
    if has(from, "fieldRef") {
        sources += 1;
        field_ref(errors, &path.child("fieldRef"), get(from, "fieldRef"), ENVIRONMENT_FIELDS);
    }
    if has(from, "resourceFieldRef") {
        sources += 1;
        resource_field_ref(errors, &path.child("resourceFieldRef"), get(from, "resourceFieldRef"), false);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if has(from, key) {
            sources += 1;
            let (reference, path) = (get(from, key), path.child(key));
            let (name, entry) = (text(reference, "name"), text(reference, "key"));
            errors.all_invalid(&path.child("name"), name, names::dns_subdomain(name));
            if entry.is_empty() {
                errors.required(&path.child("key"), "");
            } else {
                errors.all_invalid(&path.child("key"), entry, names::config_map_key(entry));
            }
        }
    }
    if has(from, "fileKeyRef") {
        sources += 1;
        for key in ["volumeName", "path", "key"] {
            if text(get(from, "fileKeyRef"), key).is_empty() {
                errors.required(&path.child("fileKeyRef").child(key), "");
            }
        }
    }
    if sources == 0 {
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if !text(variable, "value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

/// A reference to a field of the pod.
pub(super) fn field_ref(errors: &mut Errors, path: &Path<'_>, reference: &Value, supported: &[&str]) {
    let (version, field) = (text(reference, "apiVersion"), text(reference, "fieldPath"));
    if version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
    } else if field.is_empty() {
        errors.required(&path.child("fieldPath"), "");
    } else if version != "v1" {
        let text = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.invalid(&path.child("fieldPath"), field, text);
    } else if let Some((map, key)) = field.strip_suffix("']").and_then(|field| field.split_once("['")) {
        match map {
            "metadata.annotations" => errors.all_invalid(path, key, names::qualified_name(&key.to_lowercase())),
            "metadata.labels" => errors.all_invalid(path, key, names::qualified_name(key)),
            _ => errors.invalid(
                &path.child("fieldPath"),
                field,
                format!("error converting fieldPath: field label does not support subscript: {field}"),
            ),
        }
    } else if !supported.contains(&field) {
        let known = ENVIRONMENT_FIELDS.contains(&field)
            || matches!(
                field,
                "metadata.labels" | "metadata.annotations" | "spec.restartPolicy" | "spec.schedulerName" | "status.phase"
            );
        if known {
            errors.not_supported(&path.child("fieldPath"), field, supported);
        } else {
            let text = format!("error converting fieldPath: field label not supported: {field}");
            errors.invalid(&path.child("fieldPath"), field, text);
        }
    }
}

/// A reference to a resource of a container.
pub(super) fn resource_field_ref(errors: &mut Errors, path: &Path<'_>, reference: &Value, in_volume: bool) {
    let resource = text(reference, "resource");
    if in_volume && text(reference, "containerName").is_empty() {
        errors.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&path.child("resource"), "");
    } else if !RESOURCE_FIELDS.contains(&resource)
        && !["requests.hugepages-", "limits.hugepages-"].iter().any(|prefix| resource.starts_with(prefix))
    {
        errors.not_supported(&path.child("resource"), resource, RESOURCE_FIELDS);
    }
}

/// The part of security contexts that containers and pods share: user and group ids, seccomp.
pub(super) fn identity(errors: &mut Errors, path: &Path<'_>, context: &Value, keys: &[&str]) {
    for key in keys {
        if let Some(id) = integer(context, key)
            && let Some(wrong) = names::in_range(id, 0, i64::from(i32::MAX))
        {
            errors.invalid(&path.child(key), id, wrong);
        }
    }
    for (key, label) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        profile(errors, &path.child(key), get(context, key), key, label);
    }
}

fn profile(errors: &mut Errors, path: &Path<'_>, profile: &Value, key: &str, label: &str) {
    const TYPES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
    if profile.is_null() {
        return;
    }
    let (kind, local, local_path) = (text(profile, "type"), text(profile, "localhostProfile"), path.child("localhostProfile"));
    if kind.is_empty() {
        errors.required(&path.child("type"), &format!("type is required when {key} is set"));
    } else if !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, TYPES);
    }
    if kind == "Localhost" && local.is_empty() {
        errors.required(&local_path, &format!("must be set when {label} type is Localhost"));
    } else if kind == "Localhost" && key == "seccompProfile" {
        volume_validation::descending(errors, &local_path, local);
    } else if kind != "Localhost" && has(profile, "localhostProfile") {
        errors.invalid(&local_path, local, format!("can only be set when {label} type is Localhost"));
    }
}

fn security_context(errors: &mut Errors, path: &Path<'_>, context: &Value) {
    if context.is_null() {
        return;
    }
    identity(errors, path, context, &["runAsUser", "runAsGroup"]);
    let proc_mount = text(context, "procMount");
    if !matches!(proc_mount, "" | "Default" | "Unmasked") {
        errors.not_supported(&path.child("procMount"), proc_mount, &["Default", "Unmasked"]);
    }
    if get(context, "allowPrivilegeEscalation") == &Value::Bool(false) {
        if flag(context, "privileged") {
            errors.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if list(get(context, "capabilities"), "add").iter().any(|one| one == "CAP_SYS_ADMIN") {
            errors.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
}
