//! Tables: a pod, what runs of it, its phase and conditions.

use std::collections::BTreeMap;

use daruma_api::core::v1::{Pod, PodStatus};

use super::*;
use crate::plan::Probed;
use crate::testing::{Seen, at, exited, pod, running, view};

fn status_of(pod: &Pod, old: &PodStatus, seen: &[Seen], waiting: &[(&str, &str)], terminal: bool) -> PodStatus {
    let waiting: BTreeMap<String, (String, String)> =
        waiting.iter().map(|(name, reason)| ((*name).to_owned(), ((*reason).to_owned(), String::new()))).collect();
    generate(&Inputs {
        pod,
        old,
        view: &view(seen),
        waiting: &waiting,
        messages: &BTreeMap::new(),
        probed: &Probed::default(),
        runtime_name: "daruma",
        host_ips: &["10.88.0.20".parse().expect("an address")],
        terminal,
        is_static: false,
        forced: None,
        kubelet_started_at: at(0),
        now: at(1000),
    })
}

/// `phase name=state*restarts… True conditions`.
fn show(status: &PodStatus) -> String {
    let mut words = vec![status.phase.clone().unwrap_or_default()];
    let lists = [&status.init_container_statuses, &status.container_statuses];
    for one in lists.into_iter().flatten().flatten() {
        let state = one.state.clone().unwrap_or_default();
        let text = match (state.waiting, state.running, state.terminated) {
            (Some(waiting), _, _) => waiting.reason.unwrap_or_default(),
            (_, Some(_), _) => "running".into(),
            (_, _, Some(ended)) => format!("{}/{}", ended.reason.unwrap_or_default(), ended.exit_code),
            _ => String::new(),
        };
        words.push(format!("{}={text}*{}{}", one.name, one.restart_count, if one.ready { "+" } else { "" }));
    }
    let conditions = status.conditions.iter().flatten().filter(|condition| condition.status == "True");
    let letters: String = conditions.filter_map(|condition| condition.type_.chars().next()).collect();
    words.push(letters);
    words.join(" ")
}

#[track_caller]
fn check(spec: &str, seen: &[Seen], waiting: &[(&str, &str)], expected: &str) {
    let status = status_of(&pod(spec), &PodStatus::default(), seen, waiting, false);
    assert_eq!(show(&status), expected, "{spec} with {seen:?}");
}

const ONE: &str = "containers: [{name: a}]";

#[test]
fn phases() {
    check(ONE, &[], &[], "Pending a=ContainerCreating*0 IP");
    check(ONE, &[Seen::Sandbox(true)], &[("a", "ErrImagePull")], "Pending a=ErrImagePull*0 PIP");
    check(ONE, &[Seen::Sandbox(true), running("a")], &[], "Running a=running*0+ PIRCP");
    check(ONE, &[Seen::Sandbox(true), exited("a", 1)], &[], "Running a=Error/1*0 PIP");
    check(ONE, &[Seen::Sandbox(true), exited("a", 1)], &[("a", "CrashLoopBackOff")], "Running a=CrashLoopBackOff*0 PIP");
    check(ONE, &[Seen::Sandbox(true), exited("a", 1), running("a")], &[], "Running a=running*1+ PIRCP");
    // A reset: the sandbox is gone, so is the address.
    check(ONE, &[Seen::Sandbox(false), exited("a", 255)], &[], "Running a=Error/255*0 IP");
    check(
        "restartPolicy: Never, containers: [{name: a}]",
        &[Seen::Sandbox(true), exited("a", 0)],
        &[],
        "Succeeded a=Completed/0*0 PIP",
    );
    check("restartPolicy: Never, containers: [{name: a}]", &[Seen::Sandbox(true), exited("a", 3)], &[], "Failed a=Error/3*0 PIP");
    check(
        "restartPolicy: OnFailure, containers: [{name: a}]",
        &[Seen::Sandbox(true), exited("a", 3)],
        &[],
        "Running a=Error/3*0 PIP",
    );
}

#[test]
fn init_containers() {
    let spec = "initContainers: [{name: x}], containers: [{name: a}]";
    check(spec, &[], &[], "Pending x=PodInitializing*0 a=PodInitializing*0 P");
    check(spec, &[Seen::Sandbox(true), running("x")], &[], "Pending x=running*0 a=PodInitializing*0 PP");
    check(spec, &[Seen::Sandbox(true), exited("x", 0)], &[], "Pending x=Completed/0*0+ a=PodInitializing*0 PIP");
    check(spec, &[Seen::Sandbox(true), exited("x", 0), running("a")], &[], "Running x=Completed/0*0+ a=running*0+ PIRCP");
    let never = "restartPolicy: Never, initContainers: [{name: x}], containers: [{name: a}]";
    check(never, &[Seen::Sandbox(true), exited("x", 1)], &[], "Failed x=Error/1*0 a=PodInitializing*0 PP");
}

#[test]
fn probes_decide_readiness() {
    let spec = "containers: [{name: a, readinessProbe: {tcpSocket: {port: 80}}}]";
    check(spec, &[Seen::Sandbox(true), running("a")], &[], "Running a=running*0 PIP");
    let started = "containers: [{name: a, startupProbe: {tcpSocket: {port: 80}}}]";
    check(started, &[Seen::Sandbox(true), running("a")], &[], "Running a=running*0 PIP");
}

#[test]
fn a_lost_record() {
    let pod = pod(ONE);
    let before = status_of(&pod, &PodStatus::default(), &[Seen::Sandbox(true), running("a")], &[], false);
    let after = status_of(&pod, &before, &[], &[], false);
    assert_eq!(show(&after), "Running a=ContainerCreating*1 IP");
    let last = after.container_statuses.as_ref().and_then(|list| list[0].last_state.clone()).and_then(|state| state.terminated);
    let last = last.expect("a last state");
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
}

#[test]
fn an_address_and_times() {
    let pod = pod(ONE);
    let first = status_of(&pod, &PodStatus::default(), &[Seen::Sandbox(true), running("a")], &[], false);
    assert_eq!(first.pod_ip.as_deref(), Some("10.244.1.2"));
    assert_eq!(first.host_ip.as_deref(), Some("10.88.0.20"));
    assert_eq!(first.observed_generation, Some(1));
    let again = status_of(&pod, &first, &[Seen::Sandbox(true), running("a")], &[], false);
    assert_eq!(again, first);
    let gone = status_of(&pod, &first, &[Seen::Sandbox(false), exited("a", 255)], &[], false);
    assert_eq!(gone.pod_ip.as_deref(), Some("10.244.1.2"), "the last address stays");
    assert_eq!(gone.start_time, first.start_time);
}
