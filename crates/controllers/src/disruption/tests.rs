//! Budgets in all forms.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::IntOrString;
use daruma_api::core::v1::Pod;
use daruma_api::metav1::{LabelSelector, ObjectMeta};
use daruma_api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};

use super::plan::{covered, fail_safe, needs_scale, owners, plan, stale_after};
use crate::pods::tests::{at, pod};
use crate::pods::{disruption_target, set_condition, wire_time};

fn budget(least: Option<IntOrString>, most: Option<IntOrString>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some("guard".into()),
            namespace: Some("default".into()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            min_available: least,
            max_unavailable: most,
            selector: Some(LabelSelector {
                match_labels: Some([("app".to_owned(), "x".to_owned())].into()),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

fn ready(count: usize) -> Vec<Arc<Pod>> {
    (0..count).map(|number| Arc::new(pod(&format!("p{number}"), "n", Some(1)))).collect()
}

fn percent(text: &str) -> Option<IntOrString> {
    Some(IntOrString::String(text.to_owned()))
}

/// Expected, desired, current, allowed.
#[track_caller]
fn check(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: i32, numbers: [i32; 4]) {
    let status = plan(budget, pods, scale, false, at(1000)).status.expect("a new status");
    let count = |count: Option<i32>| count.expect("set");
    assert_eq!(
        [status.expected_pods, status.desired_healthy, status.current_healthy, status.disruptions_allowed].map(count),
        numbers
    );
    let allowed = numbers[3] > 0;
    let condition = &status.conditions.as_ref().expect("set")[0];
    assert_eq!(condition.status, if allowed { "True" } else { "False" });
    assert_eq!(condition.reason, if allowed { "SufficientPods" } else { "InsufficientPods" });
    let settled = PodDisruptionBudget { status: Some(status), ..budget.clone() };
    assert!(plan(&settled, pods, scale, false, at(1001)).status.is_none(), "settled");
}

#[test]
fn counts() {
    check(&budget(Some(IntOrString::Int(2)), None), &ready(3), 0, [3, 2, 3, 1]);
    check(&budget(Some(IntOrString::Int(3)), None), &ready(3), 0, [3, 3, 3, 0]);
    check(&budget(percent("50%"), None), &ready(3), 5, [5, 3, 3, 0]);
    check(&budget(None, Some(IntOrString::Int(1))), &ready(3), 3, [3, 2, 3, 1]);
    check(&budget(None, percent("50%")), &ready(3), 3, [3, 1, 3, 2]);
    check(&budget(None, Some(IntOrString::Int(5))), &ready(3), 3, [3, 0, 3, 3]);
    check(&budget(Some(IntOrString::Int(0)), None), &[], 0, [0, 0, 0, 0]);
    check(&budget(None, None), &ready(1), 0, [0, 0, 1, 0]);
    assert!(needs_scale(&budget(percent("50%"), None)) && !needs_scale(&budget(Some(IntOrString::Int(1)), None)));
    let mut pods = ready(3);
    let mut leaving = pod("p0", "n", Some(1));
    leaving.metadata.deletion_timestamp = Some(wire_time(at(1)));
    pods[0] = Arc::new(leaving);
    pods.push(Arc::new(pod("unready", "n", None)));
    check(&budget(Some(IntOrString::Int(1)), None), &pods, 0, [4, 1, 2, 1]);
}

#[test]
fn evicted_pods_count_as_gone_for_two_minutes() {
    let mut guarded = budget(Some(IntOrString::Int(1)), None);
    guarded.status = Some(PodDisruptionBudgetStatus {
        disrupted_pods: Some([("p0".to_owned(), wire_time(at(900))), ("gone".to_owned(), wire_time(at(900)))].into()),
        ..PodDisruptionBudgetStatus::default()
    });
    let early = plan(&guarded, &ready(2), 0, false, at(1000));
    let status = early.status.expect("changed");
    assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(1), Some(0)));
    assert_eq!(status.disrupted_pods.as_ref().map(|pods| pods.keys().cloned().collect()), Some(vec!["p0".to_owned()]));
    assert_eq!(early.again, Some(Duration::from_secs(21)));
    let late = plan(&guarded, &ready(2), 0, false, at(1021));
    let status = late.status.expect("changed");
    assert_eq!((status.current_healthy, status.disrupted_pods), (Some(2), None));
    let (about, _, reason, message) = &late.events[0];
    assert_eq!((about.name.as_deref(), *reason), (Some("p0"), "NotDeleted"));
    assert_eq!(message, "Pod was expected by PDB default/default to be deleted but it wasn't");
}

#[test]
fn events_and_failures() {
    let guarded = budget(None, Some(IntOrString::Int(1)));
    let reasons = |plan: &super::plan::Plan| plan.events.iter().map(|(_, _, reason, _)| *reason).collect::<Vec<_>>();
    assert_eq!(reasons(&plan(&guarded, &[], 0, false, at(1))), ["NoPods"]);
    let told = plan(&guarded, &ready(1), 0, true, at(1));
    assert_eq!(reasons(&told), ["UnmanagedPods"]);
    let selector =
        "(selector: &LabelSelector{MatchLabels:map[string]string{app: x,},MatchExpressions:[]LabelSelectorRequirement{},})";
    assert!(told.events[0].3.contains(selector), "{}", told.events[0].3);
    let failed = fail_safe(&guarded, "why", at(1));
    let condition = &failed.conditions.as_ref().expect("set")[0];
    assert_eq!((condition.reason.as_str(), condition.message.as_str()), ("SyncFailed", "why"));
    let (managed, unmanaged) = owners(&ready(2));
    assert!(managed.is_empty());
    assert_eq!(unmanaged, ["p0", "p1"]);
    assert_eq!(covered(&guarded, &ready(2)), Ok(Vec::new()));
}

#[test]
fn what_was_said_of_pods_that_stayed_gets_stale() {
    let mut target = pod("a", "n", Some(1));
    assert_eq!(stale_after(&target, at(100)), None);
    let condition = disruption_target(&target, "EvictionByEvictionAPI", "Eviction API: evicting");
    set_condition(target.status.as_mut().expect("built"), condition, at(100));
    assert_eq!(stale_after(&target, at(130)), Some(Duration::from_secs(90)));
    assert_eq!(stale_after(&target, at(300)), Some(Duration::ZERO));
    target.metadata.deletion_timestamp = Some(wire_time(at(1)));
    assert_eq!(stale_after(&target, at(300)), None);
}
