//! Pods that hold more of the node's disk than their own limits allow.
//!
//! Source: kubernetes pkg/kubelet/eviction/eviction_manager.go (localStorageEviction).
//!
//! Invariant: pure.

use daruma_api::core::v1::PodSpec;
use daruma_api::quantity::Quantity;
use daruma_api::resources::pod_limits;

use super::rank::Used;

const STORAGE: &str = "ephemeral-storage";

/// Whether the pod has any limit of this kind; without one it is never measured.
pub fn has_limits(spec: &PodSpec) -> bool {
    let sized = spec.volumes.iter().flatten().any(|volume| {
        let limit = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref());
        limit.is_some_and(|limit| Quantity::from_raw(limit) > Quantity::ZERO)
    });
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    sized || containers.into_iter().any(|container| limit_of(container).is_some())
}

fn limit_of(container: &daruma_api::core::v1::Container) -> Option<Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get(STORAGE).map(Quantity::from_raw).filter(|limit| !limit.is_zero())
}

/// The message of the first limit that is exceeded: a volume's, the pod's as a whole (sidecars included), a container's.
pub fn exceeded(spec: &PodSpec, used: &Used) -> Option<String> {
    for volume in spec.volumes.iter().flatten() {
        let Some(limit) = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref()) else { continue };
        let limit = Quantity::from_raw(limit);
        let bytes = used.empty_dirs.get(&volume.name).copied().unwrap_or_default();
        if limit > Quantity::ZERO && bytes > limit.value() {
            return Some(format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.to_string()));
        }
    }
    if let Some(limit) = pod_limits(spec).get(STORAGE)
        && used.disk > limit.value()
    {
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
    }
    spec.containers.iter().find_map(|container| {
        let limit = limit_of(container)?;
        let own = used.containers.get(&container.name)?;
        let message =
            || format!("Container {} exceeded its local ephemeral storage limit {:?}. ", container.name, limit.to_string());
        (own.disk > limit.value()).then(message)
    })
}

#[cfg(test)]
mod tests {
    use super::super::rank::ContainerUse;
    use super::*;
    use crate::testing::pod;

    #[track_caller]
    fn check(spec: &str, containers: &[(&str, i64)], empty_dirs: &[(&str, i64)], expected: &str) {
        let mut used = Used::default();
        for (name, disk) in containers {
            used.containers.insert((*name).to_owned(), ContainerUse { memory: 0, disk: *disk });
            used.disk += disk;
        }
        for (name, bytes) in empty_dirs {
            used.empty_dirs.insert((*name).to_owned(), *bytes);
            used.disk += bytes;
        }
        let pod = pod(spec);
        let spec = pod.spec.as_ref().expect("a spec");
        assert!(has_limits(spec));
        assert_eq!(exceeded(spec, &used).unwrap_or_default(), expected);
    }

    #[test]
    fn limits() {
        let volume = "containers: [{name: a}], volumes: [{name: v, emptyDir: {sizeLimit: 1Ki}}]";
        check(volume, &[("a", 5000)], &[("v", 1024)], "");
        check(volume, &[], &[("v", 1025)], "Usage of EmptyDir volume \"v\" exceeds the limit \"1Ki\". ");
        let limited =
            |name: &str, more: &str| format!("{{name: {name}, {more} resources: {{limits: {{ephemeral-storage: 1Ki}}}}}}");
        let two = format!("containers: [{}, {}]", limited("a", ""), limited("b", ""));
        check(&two, &[("a", 1025), ("b", 0)], &[], "Container a exceeded its local ephemeral storage limit \"1Ki\". ");
        check(&two, &[("a", 1024), ("b", 0)], &[("v", 1024)], "");
        let total = "Pod ephemeral local storage usage exceeds the total limit of containers 2Ki. ";
        check(&two, &[("a", 1024), ("b", 0)], &[("v", 1025)], total);
        // A sidecar's limit counts for the whole.
        let sidecar = format!("initContainers: [{}], containers: [{}]", limited("s", "restartPolicy: Always,"), limited("a", ""));
        check(&sidecar, &[("s", 1500), ("a", 500)], &[], "");
        check(&sidecar, &[("s", 1600), ("a", 500)], &[], total);
        assert!(!has_limits(pod("containers: [{name: a}], volumes: [{name: v, emptyDir: {}}]").spec.as_ref().expect("a spec")));
    }
}
