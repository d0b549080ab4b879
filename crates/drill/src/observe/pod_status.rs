//! What `kubectl get pods` shows of a pod, from its reduced form.
//!
//! Source: kubernetes pkg/printers/internalversion/printers.go (`printPod`). A test holds it to the printer of `kinds`.

use daruma_api::meta::ObjectExt;

use super::seen::{ContainerStatus, SeenPod, Terminated};
use crate::file::Workload;
use crate::record::PodState;

/// STATUS, READY and RESTARTS of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub status: String,
    pub ready: u32,
    pub total: u32,
    pub restarts: u32,
}

impl SeenPod {
    /// Its name.
    pub fn name(&self) -> &str {
        ObjectExt::name(self)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        ObjectExt::namespace(self)
    }

    /// Its node; empty while it has none.
    pub fn node(&self) -> &str {
        &self.spec.node_name
    }

    /// Its address; empty while it has none.
    pub fn ip(&self) -> &str {
        &self.status.pod_ip
    }

    /// Status of a condition; empty where there is none.
    pub(crate) fn condition(&self, kind: &str) -> &str {
        self.status.conditions.iter().find(|one| one.kind == kind).map_or("", |one| &one.status)
    }

    /// Whether its condition Ready is True.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready") == "True"
    }

    /// Engine's id of a running container: the first, or that of this name.
    pub(crate) fn container_id(&self, name: Option<&str>) -> Option<String> {
        let first = self.spec.containers.first().map(|one| one.name.as_str());
        let name = name.or(first)?;
        let status = self.status.container_statuses.iter().find(|one| one.name == name)?;
        status.state.running.as_ref()?;
        engine_id(&status.container_id)
    }

    /// Engine's ids of all its containers.
    pub(crate) fn container_ids(&self) -> impl Iterator<Item = String> + '_ {
        let all = self.status.container_statuses.iter().chain(&self.status.init_container_statuses);
        all.filter_map(|one| engine_id(&one.container_id))
    }

    /// The workload that it belongs to, e.g. `deployment/web`; empty where none.
    pub(crate) fn workload(&self) -> String {
        self.kind_and_name_of_workload().map(|(kind, name)| format!("{}/{name}", kind.to_ascii_lowercase())).unwrap_or_default()
    }

    /// Whether it belongs to a workload of its namespace.
    pub(crate) fn is_of(&self, workload: &Workload) -> bool {
        self.kind_and_name_of_workload()
            .is_some_and(|(kind, name)| kind.eq_ignore_ascii_case(workload.kind.singular()) && name == workload.name)
    }

    fn kind_and_name_of_workload(&self) -> Option<(&str, &str)> {
        let owner = self.controller()?;
        // The deployment controller names its ReplicaSets after itself and the template's hash.
        if owner.kind == "ReplicaSet"
            && let Some(hash) = self.label("pod-template-hash")
            && let Some(deployment) = owner.name.strip_suffix(hash).and_then(|name| name.strip_suffix('-'))
        {
            return Some(("Deployment", deployment));
        }
        Some((&owner.kind, &owner.name))
    }

    /// Its state at a moment.
    pub(crate) fn state(&self, at_ms: u64) -> PodState {
        let shown = self.shown();
        PodState {
            at_ms,
            uid: self.uid().to_owned(),
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
            workload: self.workload(),
            node: self.spec.node_name.clone(),
            status: shown.status,
            ready: shown.ready,
            containers: shown.total,
            available: self.is_ready(),
            restarts: shown.restarts,
            ip: self.status.pod_ip.clone(),
        }
    }

    /// As kubectl shows it.
    pub(crate) fn shown(&self) -> Shown {
        let (spec, status) = (&self.spec, &self.status);
        let is_sidecar = |name: &str| spec.init_containers.iter().any(|one| one.name == name && one.restart_policy == "Always");
        let sidecars = spec.init_containers.iter().filter(|one| one.restart_policy == "Always").count();
        let mut shown = Shown {
            status: if status.reason.is_empty() { status.phase.clone() } else { status.reason.clone() },
            ready: 0,
            total: (spec.containers.len() + sidecars) as u32,
            restarts: 0,
        };
        if status.conditions.iter().any(|one| one.kind == "PodScheduled" && one.reason == "SchedulingGated") {
            "SchedulingGated".clone_into(&mut shown.status);
        }
        let initializing = shown.add_init_containers(self, &is_sidecar);
        if !initializing || self.condition("Initialized") == "True" {
            shown.add_containers(self, &is_sidecar);
        }
        if self.is_being_deleted() {
            if status.reason == "NodeLost" {
                "Unknown".clone_into(&mut shown.status);
            } else if !matches!(status.phase.as_str(), "Failed" | "Succeeded") {
                "Terminating".clone_into(&mut shown.status);
            }
        }
        shown
    }
}

impl Shown {
    /// Whether an init container is not done yet.
    fn add_init_containers(&mut self, pod: &SeenPod, is_sidecar: &dyn Fn(&str) -> bool) -> bool {
        for (index, one) in pod.status.init_container_statuses.iter().enumerate() {
            self.restarts += one.restart_count;
            let waiting = one.state.waiting.as_ref().map_or("", |waiting| &waiting.reason);
            match &one.state.terminated {
                Some(ended) if ended.exit_code == 0 => continue,
                _ if is_sidecar(&one.name) && one.started == Some(true) => {
                    self.ready += u32::from(one.ready);
                    continue;
                }
                Some(ended) => self.status = death(ended, "Init:"),
                None if !waiting.is_empty() && waiting != "PodInitializing" => self.status = format!("Init:{waiting}"),
                None => self.status = format!("Init:{index}/{}", pod.spec.init_containers.len()),
            }
            return true;
        }
        false
    }

    fn add_containers(&mut self, pod: &SeenPod, is_sidecar: &dyn Fn(&str) -> bool) {
        let sidecars = pod.status.init_container_statuses.iter().filter(|one| is_sidecar(&one.name));
        // Counts of plain init containers no longer matter.
        self.restarts = sidecars.map(|one| one.restart_count).sum();
        let (mut running, mut error) = (false, String::new());
        for one in pod.status.container_statuses.iter().rev() {
            self.restarts += one.restart_count;
            running |= self.add_container(one, &mut error);
        }
        if self.status == "Completed" {
            if running && pod.is_ready() {
                "Running".clone_into(&mut self.status);
            } else if !error.is_empty() {
                self.status = error;
            } else if running {
                "NotReady".clone_into(&mut self.status);
            }
        }
    }

    /// Whether it runs and is ready.
    fn add_container(&mut self, one: &ContainerStatus, error: &mut String) -> bool {
        let waiting = one.state.waiting.as_ref().map_or("", |waiting| &waiting.reason);
        if !waiting.is_empty() {
            waiting.clone_into(&mut self.status);
        } else if let Some(ended) = &one.state.terminated {
            self.status = death(ended, "");
            if ended.exit_code != 0 {
                error.clone_from(&self.status);
            }
        } else if one.ready && one.state.running.is_some() {
            self.ready += 1;
            return true;
        }
        false
    }
}

fn death(ended: &Terminated, prefix: &str) -> String {
    match (ended.reason.as_str(), ended.signal) {
        ("", 0) => format!("{prefix}ExitCode:{}", ended.exit_code),
        ("", signal) => format!("{prefix}Signal:{signal}"),
        (reason, _) => format!("{prefix}{reason}"),
    }
}

/// `containerd://ID` without what stands before the id.
fn engine_id(text: &str) -> Option<String> {
    let id = text.split_once("://").map_or(text, |(_, id)| id);
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::WorkloadKind;
    use serde_json::{Value, json};

    #[test]
    fn as_the_printer_of_kinds() {
        let kind = daruma_kinds::ALL.iter().find(|kind| kind.names().kind == "Pod").unwrap();
        let container = |state: Value, ready: bool| json!([{"name": "a", "ready": ready, "restartCount": 2, "state": state}]);
        let table = [
            json!({"phase": "Pending"}),
            json!({"phase": "Running", "containerStatuses": container(json!({"running": {}}), true)}),
            json!({"phase": "Running", "containerStatuses": container(json!({"running": {}}), false)}),
            json!({"phase": "Running", "containerStatuses": container(json!({"terminated": {"reason": "Error", "exitCode": 255}}), false)}),
            json!({"phase": "Running", "containerStatuses": container(json!({"terminated": {"exitCode": 3}}), false)}),
            json!({"phase": "Running", "containerStatuses": container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), false)}),
            json!({"phase": "Failed", "reason": "Evicted"}),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 1, "state": {"running": {}}}]}),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 1, "state": {"terminated": {"reason": "Error", "exitCode": 1}}}]}),
            json!({"phase": "Succeeded", "containerStatuses": container(json!({"terminated": {"reason": "Completed", "exitCode": 0}}), false)}),
        ];
        for status in table {
            for deleted in [false, true] {
                let mut pod = json!({
                    "metadata": {"name": "p", "namespace": "default", "uid": "u"},
                    "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
                    "status": status,
                });
                if deleted {
                    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                }
                let cells = kind.cells(&pod, jiff::Timestamp::UNIX_EPOCH);
                let seen: SeenPod = serde_json::from_value(pod).unwrap();
                let shown = seen.shown();
                let expected = [&cells[1], &cells[2], &cells[3]].map(|cell| cell.as_str().unwrap().to_owned());
                assert_eq!(
                    [format!("{}/{}", shown.ready, shown.total), shown.status, shown.restarts.to_string()],
                    expected,
                    "{status}"
                );
            }
        }
    }

    #[test]
    fn whose_pods_they_are() {
        let check = |kind: &str, owner: &str, workload: &str| {
            let pod: SeenPod = serde_json::from_value(json!({
                "metadata": {
                    "name": "p", "namespace": "default", "labels": {"pod-template-hash": "5f6"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u", "controller": true}],
                },
            }))
            .unwrap();
            assert_eq!(pod.workload(), workload);
            for kind in WorkloadKind::ALL {
                let asked = Workload { namespace: "default".into(), kind, name: "web".into() };
                assert_eq!(pod.is_of(&asked), asked.short() == workload, "{workload} and {asked}");
            }
        };
        check("ReplicaSet", "web-5f6", "deployment/web");
        check("ReplicaSet", "web", "replicaset/web");
        check("DaemonSet", "web", "daemonset/web");
        check("StatefulSet", "other", "statefulset/other");
        check("Machine", "web", "machine/web");
    }
}
