//! Requests and limits as kernel values.
//!
//! Source: kubernetes pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/qos/policy.go,
//! pkg/kubelet/kuberuntime/kuberuntime_container_linux.go.

use std::collections::BTreeMap;

use daruma_api::core::v1::{Container as Spec, Pod, PodSpec};
use daruma_api::meta::ObjectExt;
use daruma_api::quantity::Quantity;
use daruma_api::resources::{parse_list, pod_limits, pod_requests, qos_class};
use daruma_world::containers::Resources;

use crate::plan::is_sidecar;

/// Length of a CPU period in microseconds.
const PERIOD_US: i64 = 100_000;
const MIN_QUOTA_US: i64 = 1_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
/// System critical priority (kubernetes pkg/apis/scheduling/types.go).
const NODE_CRITICAL: i32 = 2_000_001_000;

fn shares(cpu_millis: i64) -> u64 {
    (cpu_millis * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) as u64
}

fn quota(cpu_millis: i64) -> Option<i64> {
    (cpu_millis > 0).then(|| (cpu_millis * PERIOD_US / 1000).max(MIN_QUOTA_US))
}

/// The control group of a pod, relative to the machine's root.
pub fn pod_parent(pod: &Pod) -> String {
    let class = pod.spec.as_ref().map(qos_class).unwrap_or_default();
    let middle = match class {
        "Burstable" => "burstable/",
        "BestEffort" => "besteffort/",
        _ => "",
    };
    format!("kubepods/{middle}pod{}", pod.uid())
}

/// Limits of a pod as a whole.
pub fn pod_resources(spec: &PodSpec, pids_limit: Option<u64>) -> Resources {
    let (requests, limits) = (pod_requests(spec), pod_limits(spec));
    let get = |list: &BTreeMap<String, Quantity>, name: &str| list.get(name).copied().unwrap_or_default();
    let every = |name: &str| {
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).all(|container| {
            let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
            !get(&parse_list(limits), name).is_zero()
        })
    };
    let class = qos_class(spec);
    let mut resources = Resources { pids_limit, ..Resources::default() };
    if class == "BestEffort" {
        resources.cpu_shares = Some(MIN_SHARES as u64);
        return resources;
    }
    resources.cpu_shares = Some(shares(get(&requests, "cpu").milli_value()));
    if every("cpu") {
        resources.cpu_quota_us = quota(get(&limits, "cpu").milli_value());
        resources.cpu_period_us = resources.cpu_quota_us.map(|_| PERIOD_US as u64);
    }
    if every("memory") {
        resources.memory_limit_bytes = Some(get(&limits, "memory").value() as u64).filter(|bytes| *bytes > 0);
    }
    resources
}

/// Limits of one container. `floor` bounds the out-of-memory preference from below.
pub fn container_resources(pod: &Pod, spec: &Spec, memory_capacity: u64, floor: i32) -> Resources {
    let list = |which: Option<&BTreeMap<String, daruma_api::RawQuantity>>| parse_list(which);
    let requests = list(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let limits = list(spec.resources.as_ref().and_then(|resources| resources.limits.as_ref()));
    let cpu_limit = limits.get("cpu").copied().unwrap_or_default();
    let weight = requests.get("cpu").copied().unwrap_or(cpu_limit);
    let cpu_quota_us = quota(cpu_limit.milli_value());
    Resources {
        cpu_shares: Some(shares(weight.milli_value())),
        cpu_quota_us,
        cpu_period_us: cpu_quota_us.map(|_| PERIOD_US as u64),
        memory_limit_bytes: limits.get("memory").map(|limit| limit.value() as u64).filter(|bytes| *bytes > 0),
        pids_limit: None,
        oom_score_adj: oom_score_adj(pod, spec, memory_capacity).max(floor),
    }
}

fn oom_score_adj(pod: &Pod, spec: &Spec, memory_capacity: u64) -> i32 {
    let Some(pod_spec) = &pod.spec else { return 0 };
    if pod_spec.priority.unwrap_or_default() >= NODE_CRITICAL {
        return -997;
    }
    match qos_class(pod_spec) {
        "Guaranteed" => return -997,
        "BestEffort" => return 1000,
        _ => {}
    }
    let memory = |container: &Spec| {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        parse_list(requests).get("memory").map_or(0, |request| i128::from(request.value()))
    };
    let score = |bytes: i128| 1000 - 1000 * bytes / i128::from(memory_capacity.max(1));
    let mut adjust = score(memory(spec));
    if is_sidecar(spec) {
        adjust = adjust.min(score(pod_spec.containers.iter().map(memory).min().unwrap_or_default()));
    }
    i32::try_from(adjust.clamp(3, 999)).unwrap_or(999)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[track_caller]
    fn check(resources: &str, expected: (u64, Option<i64>, Option<u64>, i32)) {
        let pod = pod(&format!("containers: [{{name: a, resources: {{{resources}}}}}]"));
        let spec = &pod.spec.as_ref().expect("a spec").containers[0];
        let got = container_resources(&pod, spec, 1000 << 20, -1000);
        assert_eq!(
            (got.cpu_shares.expect("always set"), got.cpu_quota_us, got.memory_limit_bytes, got.oom_score_adj),
            expected,
            "{resources}"
        );
    }

    #[test]
    fn containers() {
        check("", (2, None, None, 1000));
        check("requests: {cpu: 100m, memory: 100Mi}", (102, None, None, 900));
        check(
            "limits: {cpu: 500m, memory: 100Mi}, requests: {cpu: 500m, memory: 100Mi}",
            (512, Some(50_000), Some(100 << 20), -997),
        );
        check("limits: {cpu: 1m}, requests: {cpu: 1m}", (2, Some(1000), None, 999));
        check("limits: {cpu: '2'}", (2048, Some(200_000), None, 999));
        check("requests: {memory: 1000Mi}", (2, None, None, 3));
    }

    #[test]
    fn pods() {
        let pod = pod("containers: [{name: a, resources: {requests: {cpu: 100m}, limits: {cpu: '1', memory: 64Mi}}}, \
             {name: b, resources: {requests: {cpu: 200m}, limits: {cpu: '1'}}}]");
        let spec = pod.spec.as_ref().expect("a spec");
        let got = pod_resources(spec, Some(100));
        assert_eq!(got.cpu_shares, Some(307));
        assert_eq!(got.cpu_quota_us, Some(200_000));
        assert_eq!(got.memory_limit_bytes, None, "one container has no limit");
        assert_eq!(got.pids_limit, Some(100));
        assert_eq!(pod_parent(&pod), "kubepods/burstable/podu");
    }
}
