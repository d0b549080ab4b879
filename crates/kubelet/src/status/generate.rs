//! The whole status of a pod.
//!
//! Source: kubernetes pkg/kubelet/kubelet_pods.go (generateAPIPodStatus), pkg/kubelet/status/status_manager.go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use daruma_api::core::v1::{ContainerState, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus};
use daruma_api::metav1::Time;
use daruma_api::resources::qos_class;
use jiff::Timestamp;

use super::{conditions, containers, is_terminal, phase};
use crate::cell::Forced;
use crate::plan::{Probed, is_host_network, sandbox_change};
use crate::view::PodView;

/// Longest termination messages of a pod together (kubernetes pkg/kubelet/container/runtime.go).
const MESSAGES_BYTES: usize = 12 * 1024;

/// All that a status is made from.
pub struct Inputs<'a> {
    /// The pod as it is wanted, with the API's last word on its status.
    pub pod: &'a Pod,
    /// The status generated before, or the API's.
    pub old: &'a PodStatus,
    /// What runs.
    pub view: &'a PodView,
    /// Why containers are not started, by name: reason and message.
    pub waiting: &'a BTreeMap<String, (String, String)>,
    /// Termination messages by container id.
    pub messages: &'a BTreeMap<String, String>,
    /// Results of probes.
    pub probed: &'a Probed,
    /// Name of the runtime in container ids.
    pub runtime_name: &'a str,
    /// The node's addresses.
    pub host_ips: &'a [IpAddr],
    /// The pod will not run again.
    pub terminal: bool,
    /// The pod comes from a manifest file.
    pub is_static: bool,
    /// Phase `Failed` with reason and message, forced from outside (eviction, deadline, shutdown).
    pub forced: Option<&'a Forced>,
    /// When this kubelet started.
    pub kubelet_started_at: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// Makes the status.
pub fn generate(inputs: &Inputs<'_>) -> PodStatus {
    let pod = inputs.pod;
    let Some(spec) = &pod.spec else { return PodStatus::default() };
    let old = inputs.old;
    let old_regular = old.container_statuses.as_deref().unwrap_or_default();
    let mut regular = containers::statuses(inputs, &spec.containers, old_regular, false);
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    let init_specs = spec.init_containers.as_deref().unwrap_or_default();
    let old_init = old.init_container_statuses.as_deref().unwrap_or_default();
    let init = containers::statuses(inputs, init_specs, old_init, true);
    let old_ephemeral = old.ephemeral_container_statuses.as_deref().unwrap_or_default();
    let ephemeral_specs: Vec<_> = spec.ephemeral_containers.iter().flatten().map(crate::start::ephemeral_as_container).collect();
    let ephemeral = containers::statuses(inputs, &ephemeral_specs, old_ephemeral, false);

    let all: Vec<ContainerStatus> = init.iter().chain(&regular).cloned().collect();
    let initialized = inputs.view.ready_sandbox().is_some_and(|sandbox| {
        inputs.view.containers.iter().any(|container| {
            container.sandbox_id == sandbox.id && spec.containers.iter().any(|wanted| wanted.name == container.config.name)
        })
    });
    let api_phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let mut phase = phase::phase(spec, &all, inputs.terminal, inputs.is_static, initialized).to_owned();
    if let Some(last) = [inputs.old.phase.as_deref(), api_phase].into_iter().flatten().find(|phase| is_terminal(Some(phase)))
        && !is_terminal(Some(&phase))
    {
        last.clone_into(&mut phase);
    }
    let (mut reason, mut message) = (None, None);
    if inputs.old.phase.as_deref() == Some(&phase) {
        let api = pod.status.as_ref();
        reason = inputs.old.reason.clone().or_else(|| api.and_then(|status| status.reason.clone()));
        message = inputs.old.message.clone().or_else(|| api.and_then(|status| status.message.clone()));
    }
    if let Some(forced) = inputs.forced {
        if !(forced.unless_succeeded && phase == "Succeeded") {
            phase = "Failed".into();
        }
        (reason, message) = (Some(forced.reason.clone()), Some(forced.message.clone()));
    }
    if let Some(last) = api_phase.filter(|phase| is_terminal(Some(phase))) {
        last.clone_into(&mut phase);
    }

    let mut status = PodStatus {
        observed_generation: pod.metadata.generation,
        phase: Some(phase.clone()),
        reason,
        message,
        conditions: Some(all_conditions(inputs, &all, &phase)),
        container_statuses: Some(regular),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        qos_class: Some(qos_class(spec).to_owned()),
        ..PodStatus::default()
    };
    set_addresses(inputs, &mut status);
    normalize(inputs, &mut status);
    status
}

/// The status of a pod that the node refuses or gives up.
pub fn failed_status(pod: &Pod, old: &PodStatus, reason: &str, message: &str, now: Timestamp) -> PodStatus {
    PodStatus {
        observed_generation: pod.metadata.generation,
        phase: Some("Failed".into()),
        reason: Some(reason.into()),
        message: Some(message.into()),
        qos_class: pod.spec.as_ref().map(|spec| qos_class(spec).to_owned()),
        conditions: old.conditions.clone(),
        start_time: old.start_time.clone().or_else(|| Some(Time(to_seconds(now)))),
        ..PodStatus::default()
    }
}

fn all_conditions(inputs: &Inputs<'_>, all: &[ContainerStatus], phase: &str) -> Vec<PodCondition> {
    let pod = inputs.pod;
    let Some(spec) = &pod.spec else { return vec![] };
    let api = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut list: Vec<PodCondition> =
        api.into_iter().flatten().filter(|condition| !conditions::OWNED.contains(&condition.type_.as_str())).cloned().collect();
    if let Some(forced) = inputs.forced.filter(|forced| forced.disrupts) {
        let own = conditions::disrupted(pod, forced, inputs.now);
        match list.iter_mut().find(|condition| condition.type_ == own.type_) {
            Some(known) if known.reason == own.reason && known.message == own.message => {}
            Some(known) => *known = own,
            None => {
                let before = inputs.old.conditions.iter().flatten().find(|condition| condition.type_ == own.type_);
                list.push(before.cloned().unwrap_or(own));
            }
        }
    }
    let containers_ready = conditions::containers_ready(pod, spec, all, phase);
    let ready = conditions::ready(pod, spec, &containers_ready, &list);
    list.push(conditions::ready_to_start(pod, !sandbox_change(pod, inputs.view).changed));
    list.push(conditions::initialized(pod, spec, all, phase));
    list.push(ready);
    list.push(containers_ready);
    list.push(conditions::scheduled(pod));
    let known: Vec<&PodCondition> = inputs.old.conditions.iter().chain(api).flatten().collect();
    for condition in &mut list {
        if conditions::OWNED.contains(&condition.type_.as_str()) {
            let same = known.iter().find(|old| old.type_ == condition.type_).filter(|old| old.status == condition.status);
            condition.last_transition_time =
                same.and_then(|old| old.last_transition_time.clone()).or_else(|| Some(Time(to_seconds(inputs.now))));
        }
    }
    list
}

fn set_addresses(inputs: &Inputs<'_>, status: &mut PodStatus) {
    let mut pod_ips: Vec<String> = inputs.view.addresses().iter().map(ToString::to_string).collect();
    // A pod whose sandbox is gone keeps the last address it had (kubernetes pkg/kubelet/pleg/generic.go, getPodIPs).
    if inputs.view.ready_sandbox().is_none() {
        pod_ips = inputs.old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    if let Some(first) = inputs.host_ips.first() {
        status.host_ip = Some(first.to_string());
        status.host_ips = Some(inputs.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect());
        if is_host_network(inputs.pod) {
            pod_ips = vec![first.to_string()];
        }
    }
    status.pod_ip = pod_ips.first().cloned();
    if !pod_ips.is_empty() {
        status.pod_ips = Some(pod_ips.into_iter().map(|ip| PodIP { ip }).collect());
    }
}

/// Times in whole seconds, messages within their limit, the start time kept.
fn normalize(inputs: &Inputs<'_>, status: &mut PodStatus) {
    let start = inputs.old.start_time.clone().or_else(|| inputs.pod.status.as_ref().and_then(|status| status.start_time.clone()));
    status.start_time = start.or(Some(Time(inputs.now))).map(|time| Time(to_seconds(time.0)));
    let lists = [&mut status.container_statuses, &mut status.init_container_statuses, &mut status.ephemeral_container_statuses];
    let count = lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)).sum::<usize>().max(1);
    for one in lists.into_iter().flat_map(|list| list.iter_mut().flatten()) {
        for state in [&mut one.state, &mut one.last_state].into_iter().flatten() {
            normalize_state(state, MESSAGES_BYTES / count);
        }
    }
}

fn normalize_state(state: &mut ContainerState, message_bytes: usize) {
    let shorten = |time: &mut Option<Time>| *time = time.take().map(|time| Time(to_seconds(time.0)));
    if let Some(running) = &mut state.running {
        shorten(&mut running.started_at);
    }
    if let Some(ended) = &mut state.terminated {
        shorten(&mut ended.started_at);
        shorten(&mut ended.finished_at);
        if let Some(message) = &mut ended.message {
            let end = (0..=message_bytes.min(message.len())).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
            message.truncate(end);
        }
    }
}

/// The whole second that a time is in, as the API keeps times.
pub(crate) fn to_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
