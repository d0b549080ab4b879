//! What is done, and when.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wait::WaitFor;
use super::{Target, Workload};
use crate::Span;

/// One step. Steps run one after the other; one with `at` waits for that time first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "StepFields", into = "StepFields")]
#[schemars(with = "StepFields")]
pub struct Step {
    /// Its name, by which checks and `undo` call it; the fault's name where nothing is said.
    pub name: Option<String>,
    /// Not before this time after the drill's beginning.
    pub at: Option<Span>,
    /// What is done.
    pub action: Action,
}

/// See [`Step`].
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Breaks something.
    Fault(FaultCall),
    /// Takes back the fault of this name, or all where the name is `all`.
    Undo(String),
    /// Applies objects.
    Apply(Vec<Value>),
    /// Deletes objects; only their kind, name and namespace matter.
    Delete(Vec<Value>),
    /// Patches an object.
    Patch(PatchCall),
    /// Changes the number of replicas.
    Scale(ScaleCall),
    /// Replaces the pods of a workload one after the other, as `kubectl rollout restart` does.
    Restart(Workload),
    /// Marks nodes unschedulable.
    Cordon(Target),
    /// Takes a cordon back.
    Uncordon(Target),
    /// Cordons nodes and evicts their pods, as `kubectl drain --ignore-daemonsets` does.
    Drain(DrainCall),
    /// Prints what this kubectl command line would print (`get …` and `top …`).
    View(String),
    /// Waits for a condition.
    WaitFor(WaitFor),
    /// Waits.
    Sleep(Span),
    /// A line in the timeline.
    Note(String),
}

/// A fault as it is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultCall {
    /// Name of the fault.
    pub fault: String,
    /// What it is aimed at.
    pub target: Target,
    /// Its parameters.
    pub with: BTreeMap<String, Value>,
    /// Taken back after this time.
    pub lasting: Option<Span>,
}

/// What is patched, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchCall {
    /// API version, e.g. `apps/v1`.
    #[serde(default = "core")]
    pub api_version: String,
    /// Kind, e.g. `Node`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace, for namespaced kinds.
    #[serde(default = "super::cluster::default_namespace")]
    pub namespace: String,
    /// Subresource, e.g. `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
    /// How the patch is meant.
    #[serde(default, rename = "type")]
    pub patch_type: PatchType,
    /// The patch.
    pub patch: Value,
}

/// See [`PatchCall`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PatchType {
    /// Kubernetes' strategic merge.
    #[default]
    Strategic,
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
}

/// A new number of replicas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleCall {
    /// Of what.
    pub workload: Workload,
    /// How many.
    pub replicas: u32,
}

/// Nodes that are emptied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainCall {
    /// Which.
    pub target: Target,
    /// Seconds of grace for the pods; their own where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// Whether pods without a controller go too.
    #[serde(default)]
    pub force: bool,
    /// How long it may take.
    #[serde(default = "five_minutes")]
    pub limit: Span,
}

/// A step as it is written: exactly one action, `target`, `with` and `for` beside a fault only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "Step")]
pub(crate) struct StepFields {
    /// Its name, by which checks and `undo` call it; the fault's name where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Not before this time after the drill's beginning; right after the step before it where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Span>,
    /// Breaks something: name of the fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// What the fault is aimed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    /// Parameters of the fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<BTreeMap<String, Value>>,
    /// The fault is taken back after this time.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    lasting: Option<Span>,
    /// Takes back the fault of the step of this name, or all where it is `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<String>,
    /// Applies objects (server-side apply); `{file: PATH}` stands for the objects of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    apply: Option<Vec<Value>>,
    /// Deletes objects; `{file: PATH}` stands for the objects of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    delete: Option<Vec<Value>>,
    /// Patches an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<PatchCall>,
    /// Changes the number of replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<ScaleCall>,
    /// Replaces the pods of a workload, as `kubectl rollout restart` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<Workload>,
    /// Marks nodes unschedulable.
    #[serde(skip_serializing_if = "Option::is_none")]
    cordon: Option<Target>,
    /// Takes a cordon back.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncordon: Option<Target>,
    /// Cordons nodes and evicts their pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<DrainCall>,
    /// Prints what this kubectl command line would print, e.g. `get pods -o wide`.
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<String>,
    /// Waits for a condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_for: Option<WaitFor>,
    /// Waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    sleep: Option<Span>,
    /// A line in the timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl TryFrom<StepFields> for Step {
    type Error = String;

    fn try_from(fields: StepFields) -> Result<Self, String> {
        let beside_a_fault =
            [("target", fields.target.is_some()), ("with", fields.with.is_some()), ("for", fields.lasting.is_some())];
        if fields.fault.is_none()
            && let Some((name, _)) = beside_a_fault.into_iter().find(|(_, given)| *given)
        {
            return Err(format!("{name:?} belongs to a fault, and this step has none"));
        }
        let call = fields.fault.map(|fault| FaultCall {
            fault,
            target: fields.target.unwrap_or_default(),
            with: fields.with.unwrap_or_default(),
            lasting: fields.lasting,
        });
        let mut actions = [
            call.map(Action::Fault),
            fields.undo.map(Action::Undo),
            fields.apply.map(Action::Apply),
            fields.delete.map(Action::Delete),
            fields.patch.map(Action::Patch),
            fields.scale.map(Action::Scale),
            fields.restart.map(Action::Restart),
            fields.cordon.map(Action::Cordon),
            fields.uncordon.map(Action::Uncordon),
            fields.drain.map(Action::Drain),
            fields.view.map(Action::View),
            fields.wait_for.map(Action::WaitFor),
            fields.sleep.map(Action::Sleep),
            fields.note.map(Action::Note),
        ]
        .into_iter()
        .flatten();
        let action = actions.next().ok_or_else(|| format!("this step does nothing; it needs one of {ACTIONS}"))?;
        if let Some(second) = actions.next() {
            return Err(format!("a step does one thing, and this one has {:?} and {:?}", action.field(), second.field()));
        }
        Ok(Self { name: fields.name, at: fields.at, action })
    }
}

impl From<Step> for StepFields {
    fn from(step: Step) -> Self {
        let mut fields = Self { name: step.name, at: step.at, ..Self::default() };
        match step.action {
            Action::Fault(call) => {
                fields.fault = Some(call.fault);
                fields.target = (!call.target.is_empty()).then_some(call.target);
                fields.with = (!call.with.is_empty()).then_some(call.with);
                fields.lasting = call.lasting;
            }
            Action::Undo(name) => fields.undo = Some(name),
            Action::Apply(objects) => fields.apply = Some(objects),
            Action::Delete(objects) => fields.delete = Some(objects),
            Action::Patch(call) => fields.patch = Some(call),
            Action::Scale(call) => fields.scale = Some(call),
            Action::Restart(workload) => fields.restart = Some(workload),
            Action::Cordon(target) => fields.cordon = Some(target),
            Action::Uncordon(target) => fields.uncordon = Some(target),
            Action::Drain(call) => fields.drain = Some(call),
            Action::View(text) => fields.view = Some(text),
            Action::WaitFor(condition) => fields.wait_for = Some(condition),
            Action::Sleep(time) => fields.sleep = Some(time),
            Action::Note(text) => fields.note = Some(text),
        }
        fields
    }
}

const ACTIONS: &str = "fault, undo, apply, delete, patch, scale, restart, cordon, uncordon, drain, view, waitFor, sleep, note";

impl Action {
    /// The field in which it is written.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Fault(_) => "fault",
            Self::Undo(_) => "undo",
            Self::Apply(_) => "apply",
            Self::Delete(_) => "delete",
            Self::Patch(_) => "patch",
            Self::Scale(_) => "scale",
            Self::Restart(_) => "restart",
            Self::Cordon(_) => "cordon",
            Self::Uncordon(_) => "uncordon",
            Self::Drain(_) => "drain",
            Self::View(_) => "view",
            Self::WaitFor(_) => "waitFor",
            Self::Sleep(_) => "sleep",
            Self::Note(_) => "note",
        }
    }
}

impl Step {
    /// By what checks and `undo` call it: its name, else what it does (the fault's name).
    pub fn identity(&self) -> &str {
        match (&self.name, &self.action) {
            (Some(name), _) => name,
            (None, Action::Fault(call)) => &call.fault,
            (None, action) => action.field(),
        }
    }
}

fn core() -> String {
    "v1".to_owned()
}

fn five_minutes() -> Span {
    Span::seconds(300)
}
