//! Volumes and their mounts.
//!
//! Source: kubernetes `ValidateVolumes`, `validateVolumeSource`, `ValidateVolumeMounts`.

use daruma_api::quantity::Quantity;
use serde_json::Value;

use crate::access::{flag, get, has, integer, list, text};
use crate::field::{Errors, Path};
use crate::names;

use super::container_validation::{field_ref, resource_field_ref};

const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks volumes; gives the names of the good ones.
pub(super) fn volumes<'a>(errors: &mut Errors, path: &Path<'_>, spec: &'a Value) -> Vec<&'a str> {
    let mut good: Vec<&str> = Vec::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let (path, before, name) = (path.index(index), errors.count(), text(volume, "name"));
        source(errors, &path, volume);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.all_invalid(&path.child("name"), name, names::dns_label(name));
        }
        if good.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        if errors.count() == before {
            good.push(name);
        }
    }
    good
}

fn source(errors: &mut Errors, path: &Path<'_>, volume: &Value) {
    let mut found = false;
    for (kind, source) in volume.as_object().into_iter().flatten() {
        if kind == "name" || source.is_null() {
            continue;
        }
        let path = path.child(kind);
        if std::mem::replace(&mut found, true) {
            errors.forbidden(&path, "may not specify more than 1 volume type");
            continue;
        }
        match kind.as_str() {
            "emptyDir" if text(source, "sizeLimit").parse::<Quantity>().is_ok_and(Quantity::is_negative) => {
                errors.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
            "hostPath" => {
                let location = text(source, "path");
                if location.is_empty() {
                    errors.required(&path.child("path"), "");
                } else {
                    no_backsteps(errors, &path.child("path"), location);
                    let kind = text(source, "type");
                    if !HOST_PATH_TYPES.contains(&kind) {
                        errors.not_supported(&path.child("type"), kind, HOST_PATH_TYPES);
                    }
                }
            }
            "secret" => files(errors, &path, source, "secretName"),
            "configMap" => files(errors, &path, source, "name"),
            "downwardAPI" => {
                mode(errors, &path.child("defaultMode"), integer(source, "defaultMode"));
                for item in list(source, "items") {
                    downward_file(errors, &path, item);
                }
            }
            "projected" => projected(errors, &path, source),
            "persistentVolumeClaim" if text(source, "claimName").is_empty() => errors.required(&path.child("claimName"), ""),
            "nfs" => {
                for key in ["server", "path"] {
                    if text(source, key).is_empty() {
                        errors.required(&path.child(key), "");
                    }
                }
                let location = text(source, "path");
                if !location.is_empty() && !location.starts_with('/') {
                    errors.invalid(&path.child("path"), location, "must be an absolute path");
                }
            }
            "csi" if text(source, "driver").is_empty() => errors.required(&path.child("driver"), ""),
            "ephemeral" if !has(source, "volumeClaimTemplate") => errors.required(&path.child("volumeClaimTemplate"), ""),
            "image" => {
                if text(source, "reference").is_empty() {
                    errors.required(&path.child("reference"), "");
                }
                errors.one_of(&path.child("pullPolicy"), text(source, "pullPolicy"), &["Always", "IfNotPresent", "Never"]);
            }
            _ => {}
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

fn mode(errors: &mut Errors, path: &Path<'_>, mode: Option<i64>) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn files(errors: &mut Errors, path: &Path<'_>, source: &Value, name_key: &str) {
    if text(source, name_key).is_empty() {
        errors.required(&path.child(name_key), "");
    }
    mode(errors, &path.child("defaultMode"), integer(source, "defaultMode"));
    let items = path.child("items");
    for (index, item) in list(source, "items").iter().enumerate() {
        key_to_path(errors, &items.index(index), item);
    }
}

fn key_to_path(errors: &mut Errors, path: &Path<'_>, item: &Value) {
    if text(item, "key").is_empty() {
        errors.required(&path.child("key"), "");
    }
    let target = text(item, "path");
    if target.is_empty() {
        errors.required(&path.child("path"), "");
    }
    local_path(errors, &path.child("path"), target);
    mode(errors, &path.child("mode"), integer(item, "mode"));
}

fn downward_file(errors: &mut Errors, path: &Path<'_>, item: &Value) {
    let target = text(item, "path");
    if target.is_empty() {
        errors.required(&path.child("path"), "");
    }
    local_path(errors, &path.child("path"), target);
    if has(item, "fieldRef") {
        field_ref(errors, &path.child("fieldRef"), get(item, "fieldRef"), VOLUME_FIELDS);
        if has(item, "resourceFieldRef") {
            errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
        }
    } else if has(item, "resourceFieldRef") {
        resource_field_ref(errors, &path.child("resourceFieldRef"), get(item, "resourceFieldRef"), true);
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    mode(errors, &path.child("mode"), integer(item, "mode"));
}

fn projected(errors: &mut Errors, path: &Path<'_>, projected: &Value) {
    mode(errors, &path.child("defaultMode"), integer(projected, "defaultMode"));
    let sources_path = path.child("sources");
    let mut taken: Vec<&str> = Vec::new();
    for (index, source) in list(projected, "sources").iter().enumerate() {
        let source_path = sources_path.index(index);
        let mut kinds = 0;
        for kind in ["secret", "configMap", "downwardAPI"] {
            let projection = get(source, kind);
            if projection.is_null() {
                continue;
            }
            kinds += 1;
            let (own, items) = (source_path.child(kind), list(projection, "items"));
            if kind != "downwardAPI" && text(projection, "name").is_empty() {
                errors.required(&own.child("name"), "");
            }
            for (index, item) in items.iter().enumerate() {
                if kind == "downwardAPI" {
                    downward_file(errors, &own, item);
                } else {
                    key_to_path(errors, &own.child("items").index(index), item);
                }
                let target = text(item, "path");
                if taken.contains(&target) {
                    let shown = if kind == "downwardAPI" { target } else { text(projection, "name") };
                    errors.invalid(path, shown, "conflicting duplicate paths");
                } else if !target.is_empty() {
                    taken.push(target);
                }
            }
        }
        let token = get(source, "serviceAccountToken");
        if !token.is_null() {
            kinds += 1;
            let (own, seconds) =
                (source_path.child("serviceAccountToken"), integer(token, "expirationSeconds").unwrap_or_default());
            if seconds < 600 {
                errors.invalid(&own.child("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes");
            }
            if seconds > 1 << 32 {
                errors.invalid(&own.child("expirationSeconds"), seconds, "may not specify a duration larger than 2^32 seconds");
            }
            match text(token, "path") {
                "" => errors.required(&path.child("path"), ""),
                target => local_path(errors, &path.child("path"), target),
            }
        }
        kinds += usize::from(has(source, "clusterTrustBundle")) + usize::from(has(source, "podCertificate"));
        if kinds > 1 {
            errors.forbidden(&source_path, "may not specify more than 1 volume type per source");
        }
    }
}

fn no_backsteps(errors: &mut Errors, path: &Path<'_>, target: &str) {
    if target.split('/').any(|part| part == "..") {
        errors.invalid(path, target, "must not contain '..'");
    }
}

/// A path inside of something: relative, without steps back.
pub(super) fn descending(errors: &mut Errors, path: &Path<'_>, target: &str) {
    if target.starts_with('/') {
        errors.invalid(path, target, "must be a relative path");
    }
    no_backsteps(errors, path, target);
}

fn local_path(errors: &mut Errors, path: &Path<'_>, target: &str) {
    descending(errors, path, target);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.invalid(path, target, "must not start with '..'");
    }
}

/// Mounts of a container.
pub(super) fn mounts(errors: &mut Errors, path: &Path<'_>, container: &Value, volumes: &[&str]) {
    let mounts_path = path.child("volumeMounts");
    let devices = list(container, "volumeDevices");
    let mut seen: Vec<&str> = Vec::new();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let path = mounts_path.index(index);
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if !volumes.contains(&name) {
            errors.not_found(&path.child("name"), name);
        }
        if target.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if seen.contains(&target) {
            errors.invalid(&path.child("mountPath"), target, "must be unique");
        }
        seen.push(target);
        if devices.iter().any(|device| text(device, "name") == name) {
            errors.invalid(&path.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| text(device, "devicePath") == target) {
            errors.invalid(&path.child("mountPath"), target, "must not already exist as a path in volumeDevices");
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !sub.is_empty() {
            descending(errors, &mounts_path.child("subPath"), sub);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                errors.invalid(&path.child("subPathExpr"), expression, "subPathExpr and subPath are mutually exclusive");
            }
            descending(errors, &mounts_path.child("subPathExpr"), expression);
        }
        propagation(errors, &mounts_path.child("mountPropagation"), text(mount, "mountPropagation"), container);
        recursive(errors, &mounts_path.child("recursiveReadOnly"), mount);
    }
    let mounted = list(container, "volumeMounts");
    for (index, device) in devices.iter().enumerate() {
        let path = path.child("volumeDevices");
        let path = path.index(index);
        for key in ["name", "devicePath"] {
            if text(device, key).is_empty() {
                errors.required(&path.child(key), "");
            }
        }
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        if !volumes.contains(&name) {
            errors.not_found(&path.child("name"), name);
        }
        for (key, value) in [("name", name), ("devicePath", target)] {
            if devices[..index].iter().any(|other| text(other, key) == value) {
                errors.invalid(&path.child(key), value, "must be unique");
            }
        }
        if target.split('/').any(|part| part == "..") {
            errors.invalid(&path.child("devicePath"), target, "can not contain backsteps ('..')");
        }
        if mounted.iter().any(|mount| text(mount, "name") == name) {
            errors.invalid(&path.child("name"), name, "must not already exist in volumeMounts");
        }
        if mounted.iter().any(|mount| text(mount, "mountPath") == target) {
            errors.invalid(&path.child("devicePath"), target, "must not already exist as a path in volumeMounts");
        }
    }
}

fn recursive(errors: &mut Errors, path: &Path<'_>, mount: &Value) {
    match text(mount, "recursiveReadOnly") {
        "" | "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !flag(mount, "readOnly") {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if !matches!(text(mount, "mountPropagation"), "" | "None") {
                errors.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        other => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn propagation(errors: &mut Errors, path: &Path<'_>, mode: &str, container: &Value) {
    const MODES: &[&str] = &["Bidirectional", "HostToContainer", "None"];
    if !mode.is_empty() && !MODES.contains(&mode) {
        errors.not_supported(path, mode, MODES);
    }
    if mode == "Bidirectional" && !flag(get(container, "securityContext"), "privileged") {
        errors.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}
