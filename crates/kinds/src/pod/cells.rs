//! What `kubectl get pods` shows.
//!
//! Source: kubernetes pkg/printers/internalversion/printers.go (`printPod`).

use serde_json::Value;

use crate::access::{at, flag, get, has, list, number, text};
use crate::printing::{age, duration, name};

/// Cells of one pod, one a column.
pub(super) fn cells(pod: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let (spec, status) = (get(pod, "spec"), get(pod, "status"));
    let summary = Summary::of(pod);
    let none = |text: &str| -> Value { if text.is_empty() { "<none>".into() } else { text.into() } };
    let restarts = match summary.last_restart {
        Some(then) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, duration::human(now.duration_since(then)))
        }
        _ => summary.restarts.to_string(),
    };
    let ip = list(status, "podIPs").first().map(|address| text(address, "ip")).unwrap_or_default();
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        none(ip),
        none(text(spec, "nodeName")),
        none(text(status, "nominatedNodeName")),
        readiness_gates(spec, status).into(),
    ]
}

fn readiness_gates(spec: &Value, status: &Value) -> String {
    let gates = list(spec, "readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = gates.iter().filter(|gate| condition(status, text(gate, "conditionType")) == "True").count();
    format!("{met}/{}", gates.len())
}

/// The status of a condition; empty where there is none.
fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    list(status, "conditions").iter().find(|one| text(one, "type") == kind).map(|one| text(one, "status")).unwrap_or_default()
}

fn finished(container: &Value) -> Option<jiff::Timestamp> {
    text(at(container, &["lastState", "terminated"]), "finishedAt").parse().ok()
}

/// Signal, exit code or reason of a dead container, behind `prefix`.
fn death(terminated: &Value, prefix: &str) -> String {
    match (text(terminated, "reason"), number(terminated, "signal")) {
        ("", 0) => format!("{prefix}ExitCode:{}", number(terminated, "exitCode")),
        ("", signal) => format!("{prefix}Signal:{signal}"),
        (reason, _) => format!("{prefix}{reason}"),
    }
}

struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<jiff::Timestamp>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let (spec, status) = (get(pod, "spec"), get(pod, "status"));
        let sidecars: Vec<&str> = list(spec, "initContainers")
            .iter()
            .filter(|container| text(container, "restartPolicy") == "Always")
            .map(|container| text(container, "name"))
            .collect();
        let phase = text(status, "phase");
        let mut summary = Self {
            reason: match text(status, "reason") {
                "" => phase.to_owned(),
                reason => reason.to_owned(),
            },
            ready: 0,
            total: list(spec, "containers").len() + sidecars.len(),
            restarts: 0,
            last_restart: None,
        };
        if list(status, "conditions")
            .iter()
            .any(|one| text(one, "type") == "PodScheduled" && text(one, "reason") == "SchedulingGated")
        {
            "SchedulingGated".clone_into(&mut summary.reason);
        }
        let initializing = summary.add_init_containers(spec, status, &sidecars);
        if !initializing || condition(status, "Initialized") == "True" {
            summary.add_containers(status, &sidecars);
        }
        if has(get(pod, "metadata"), "deletionTimestamp") {
            if text(status, "reason") == "NodeLost" {
                "Unknown".clone_into(&mut summary.reason);
            } else if !matches!(phase, "Failed" | "Succeeded") {
                "Terminating".clone_into(&mut summary.reason);
            }
        }
        summary
    }

    /// Whether an init container is not done yet.
    fn add_init_containers(&mut self, spec: &Value, status: &Value, sidecars: &[&str]) -> bool {
        for (index, container) in list(status, "initContainerStatuses").iter().enumerate() {
            self.restarts += number(container, "restartCount");
            self.last_restart = self.last_restart.max(finished(container));
            let state = get(container, "state");
            let (terminated, waiting) = (get(state, "terminated"), text(get(state, "waiting"), "reason"));
            if !terminated.is_null() && number(terminated, "exitCode") == 0 {
                continue;
            }
            if sidecars.contains(&text(container, "name")) && flag(container, "started") {
                self.ready += usize::from(flag(container, "ready"));
                continue;
            }
            self.reason = if !terminated.is_null() {
                death(terminated, "Init:")
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", list(spec, "initContainers").len())
            };
            return true;
        }
        false
    }

    fn add_containers(&mut self, status: &Value, sidecars: &[&str]) {
        // Counts of plain init containers no longer matter.
        self.restarts = 0;
        self.last_restart = None;
        for container in list(status, "initContainerStatuses").iter().filter(|one| sidecars.contains(&text(one, "name"))) {
            self.restarts += number(container, "restartCount");
            self.last_restart = self.last_restart.max(finished(container));
        }
        let (mut running, mut error) = (false, String::new());
        for container in list(status, "containerStatuses").iter().rev() {
            self.restarts += number(container, "restartCount");
            self.last_restart = self.last_restart.max(finished(container));
            let state = get(container, "state");
            let (terminated, waiting) = (get(state, "terminated"), text(get(state, "waiting"), "reason"));
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if !terminated.is_null() {
                self.reason = death(terminated, "");
                if number(terminated, "exitCode") != 0 {
                    error.clone_from(&self.reason);
                }
            } else if flag(container, "ready") && has(state, "running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && condition(status, "Ready") == "True" {
                "Running".clone_into(&mut self.reason);
            } else if !error.is_empty() {
                self.reason = error;
            } else if running {
                "NotReady".clone_into(&mut self.reason);
            }
        }
    }
}
