//! StatefulSet.
//!
//! Source: kubernetes pkg/registry/apps/statefulset/strategy.go, pkg/apis/apps/v1/{defaults,conversion}.go,
//! pkg/apis/apps/validation/validation.go, pkg/apis/core/validation (`ValidatePersistentVolumeClaimSpec`).
//! `maxUnavailable` is dropped, as the feature gate MaxUnavailableStatefulSet (off in v1.36) has it.

use daruma_api::quantity::Quantity;
use daruma_api::status::FieldError;
use serde_json::{Value, json};

use crate::access::{at, default_text, default_to, ensure, get, has, list, list_mut, number, remove, same, set, text};
use crate::field::{Errors, Path, Shown};
use crate::kind::{Column, Kind, Names, Subresource};
use crate::printing::{AGE, CONTAINERS, IMAGES, NAME, column, name};
use crate::{names, pod, rollout, selectors, workload};

/// The kind.
pub struct StatefulSet;

static NAMES: Names = workload::names("StatefulSet", "statefulsets", "statefulset", &["sts"]);

static SUBRESOURCES: [Subresource; 2] = workload::scalable("StatefulSet");

static COLUMNS: &[Column] =
    &[NAME, column("Ready", "string", "How many pods are ready, of how many wanted."), AGE, CONTAINERS, IMAGES];

/// What an update may change (`ValidateStatefulSetUpdate`).
const CHANGEABLE: &[&str] = &[
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];
const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

impl Kind for StatefulSet {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn subresources(&self) -> &'static [Subresource] {
        &SUBRESOURCES
    }

    fn default(&self, object: &mut Value) {
        let spec = ensure(object, "spec");
        default_text(spec, "podManagementPolicy", "OrderedReady");
        let strategy = ensure(spec, "updateStrategy");
        if text(strategy, "type").is_empty() {
            set(strategy, "type", "RollingUpdate");
            ensure(strategy, "rollingUpdate");
        }
        if text(strategy, "type") == "RollingUpdate" && has(strategy, "rollingUpdate") {
            default_to(ensure(strategy, "rollingUpdate"), "partition", 0);
        }
        let retention = ensure(spec, "persistentVolumeClaimRetentionPolicy");
        default_text(retention, "whenDeleted", "Retain");
        default_text(retention, "whenScaled", "Retain");
        default_to(spec, "replicas", 1);
        default_to(spec, "revisionHistoryLimit", 10);
        for claim in list_mut(spec, "volumeClaimTemplates") {
            default_text(claim, "apiVersion", "v1");
            default_text(claim, "kind", "PersistentVolumeClaim");
            default_to(ensure(claim, "spec"), "volumeMode", "Filesystem");
            default_text(ensure(claim, "status"), "phase", "Pending");
        }
        pod::default_template(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        workload::prepare_create(object, json!({"availableReplicas": 0, "replicas": 0}));
        drop_max_unavailable(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if !has(at(old, &["spec", "updateStrategy", "rollingUpdate"]), "maxUnavailable") {
            drop_max_unavailable(new);
        }
        workload::prepare_update(new, old, false);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        workload::prepare_status_update(new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, root) = (get(object, "spec"), Path::Root("spec"));
        match text(spec, "podManagementPolicy") {
            "" => errors.required(&root.child("podManagementPolicy"), ""),
            "OrderedReady" | "Parallel" => {}
            other => {
                errors.invalid(&root.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'");
            }
        }
        validate_strategy(&mut errors, &root.child("updateStrategy"), get(spec, "updateStrategy"));
        let retention = root.child("persistentVolumeClaimRetentionPolicy");
        for key in ["whenDeleted", "whenScaled"] {
            let policy = text(get(spec, "persistentVolumeClaimRetentionPolicy"), key);
            if !matches!(policy, "Retain" | "Delete") {
                errors.not_supported(&retention.child(key), policy, &["Retain", "Delete"]);
            }
        }
        let claims = root.child("volumeClaimTemplates");
        for (index, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
            validate_claim(&mut errors, &claims.index(index).child("spec"), get(claim, "spec"));
        }
        for key in ["replicas", "minReadySeconds"] {
            errors.nonnegative(&root.child(key), number(spec, key));
        }
        errors.nonnegative(&root.child("ordinals.start"), number(get(spec, "ordinals"), "start"));
        let service = text(spec, "serviceName");
        if !service.is_empty() {
            errors.all_invalid(&root.child("serviceName"), service, names::dns_label(service));
        }
        rollout::validate_selector_and_template(&mut errors, &root, &with_identity(spec), "StatefulSet");
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let mut rest = get(new, "spec").clone();
        for key in CHANGEABLE {
            crate::access::keep(&mut rest, get(old, "spec"), key);
        }
        if !same(&rest, get(old, "spec")) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                       'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
            errors.forbidden(&Path::Root("spec"), why);
        }
        errors.into_vec()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        rollout::validate_counts(&mut errors, get(new, "status"), &parts);
        rollout::validate_collisions(&mut errors, new, old);
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (get(object, "spec"), get(object, "status"));
        let [age, names, images, _] = workload::last_cells(object, now);
        let ready = format!("{}/{}", number(status, "readyReplicas"), number(spec, "replicas"));
        vec![name(object), ready.into(), age, names, images]
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::dns_label(name)
    }
}

fn drop_max_unavailable(object: &mut Value) {
    let strategy = ensure(ensure(object, "spec"), "updateStrategy");
    if let Some(rolling) = strategy.get_mut("rollingUpdate") {
        remove(rolling, "maxUnavailable");
    }
}

/// The specification as its pods will be: name and subdomain are given by the controller, and each
/// claim is a volume of its name.
fn with_identity(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let claims: Vec<String> =
        list(&spec, "volumeClaimTemplates").iter().map(|claim| text(get(claim, "metadata"), "name").to_owned()).collect();
    let Some(pod) = spec.get_mut("template").and_then(|template| template.get_mut("spec")) else { return spec };
    for key in ["hostname", "subdomain"] {
        remove(pod, key);
    }
    if !claims.is_empty() {
        let own = list(pod, "volumes").iter().filter(|volume| !claims.iter().any(|claim| claim == text(volume, "name")));
        let claimed = claims.iter().map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}));
        let volumes: Vec<Value> = claimed.chain(own.cloned()).collect();
        set(pod, "volumes", volumes);
    }
    spec
}

fn validate_strategy(errors: &mut Errors, path: &Path<'_>, strategy: &Value) {
    let (rolling, rolling_path) = (get(strategy, "rollingUpdate"), path.child("rollingUpdate"));
    // Messages show the members as the Go type names them.
    let shown_rolling = if rolling.is_null() {
        "null".to_owned()
    } else {
        format!("{{\"Partition\":{},\"MaxUnavailable\":{}}}", number(rolling, "partition"), get(rolling, "maxUnavailable"))
    };
    match text(strategy, "type") {
        "" => errors.required(path, ""),
        "OnDelete" if rolling.is_null() => {}
        "OnDelete" => {
            errors.invalid(&rolling_path, Shown::raw(shown_rolling), "only allowed for updateStrategy 'RollingUpdate'");
        }
        "RollingUpdate" => {
            errors.nonnegative(&rolling_path.child("partition"), number(rolling, "partition"));
            if has(rolling, "maxUnavailable") {
                let (most, most_path) = (get(rolling, "maxUnavailable"), rolling_path.child("maxUnavailable"));
                rollout::validate_amount(errors, &most_path, most);
                if rollout::amount(most) == 0 {
                    errors.invalid(&most_path, most, "cannot be 0");
                }
                rollout::validate_at_most_all(errors, &most_path, most);
            }
        }
        other => {
            let shown = Shown::raw(format!("{{\"Type\":{other:?},\"RollingUpdate\":{shown_rolling}}}"));
            errors.invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

fn validate_claim(errors: &mut Errors, path: &Path<'_>, spec: &Value) {
    let (modes, modes_path) = (list(spec, "accessModes"), path.child("accessModes"));
    if modes.is_empty() {
        errors.required(&modes_path, "at least 1 access mode is required");
    }
    if has(spec, "selector") {
        selectors::validate(errors, &path.child("selector"), get(spec, "selector"));
    }
    for mode in modes.iter().filter_map(Value::as_str).filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.not_supported(&modes_path, mode, ACCESS_MODES);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        errors.forbidden(&modes_path, "may not use ReadWriteOncePod with other access modes");
    }
    let (storage, resources) = (at(spec, &["resources", "requests", "storage"]), path.child("resources"));
    match storage.as_str().map_or_else(|| storage.to_string(), str::to_owned).parse::<Quantity>() {
        _ if storage.is_null() => errors.required(&resources.key("storage"), ""),
        Ok(amount) if amount.is_zero() || amount.is_negative() => {
            errors.invalid(&resources.key("storage"), amount.to_string(), "must be greater than zero");
        }
        _ => {}
    }
    let mode = text(spec, "volumeMode");
    if !matches!(mode, "" | "Block" | "Filesystem") {
        errors.not_supported(&path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Value {
        let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
        let mut object = json!({"metadata": {"name": "a", "namespace": "b"},
            "spec": {"serviceName": "s", "selector": {"matchLabels": {"app": "x"}}, "template": template}});
        StatefulSet.default(&mut object);
        object
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
        let mut object = valid();
        change(&mut object["spec"]);
        StatefulSet.default(&mut object);
        let texts: Vec<String> = StatefulSet.validate(&object).iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn defaults() {
        let spec = &valid()["spec"];
        assert_eq!(spec["updateStrategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
        assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
        assert_eq!(
            (&spec["podManagementPolicy"], &spec["replicas"], &spec["revisionHistoryLimit"]),
            (&json!("OrderedReady"), &json!(1), &json!(10))
        );
        let mut object = valid();
        object["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = json!(2);
        StatefulSet.prepare_create(&mut object);
        assert_eq!(object["spec"]["updateStrategy"]["rollingUpdate"], json!({"partition": 0}));
        assert_eq!(object["status"], json!({"replicas": 0, "availableReplicas": 0}));
    }

    #[test]
    fn rules() {
        check(|_| {}, &[]);
        check(
            |spec| {
                spec["podManagementPolicy"] = json!("x");
                spec["updateStrategy"] = json!({"type": "y"});
                spec["ordinals"] = json!({"start": -1});
            },
            &[
                "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'",
                "spec.updateStrategy: Invalid value: {\"Type\":\"y\",\"RollingUpdate\":null}: must be 'RollingUpdate' or 'OnDelete'",
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
            ],
        );
        check(
            |spec| spec["updateStrategy"] = json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
            &[
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"Partition\":1,\"MaxUnavailable\":null}: only allowed for updateStrategy 'RollingUpdate'",
            ],
        );
        check(
            |spec| spec["selector"] = json!({}),
            &["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
        );
        check(
            |spec| {
                spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["x"]}}]);
                spec["template"]["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
            },
            &[
                "spec.volumeClaimTemplates[0].spec.accessModes: Unsupported value: \"x\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
            ],
        );
    }

    #[test]
    fn changes() {
        let old = valid();
        let mut new = old.clone();
        new["spec"]["replicas"] = json!(3);
        assert_eq!(StatefulSet.validate_update(&new, &old), []);
        new["spec"]["serviceName"] = json!("t");
        let texts: Vec<String> = StatefulSet.validate_update(&new, &old).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
            ]
        );
    }
}
