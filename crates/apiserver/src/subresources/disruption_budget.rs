//! What a PodDisruptionBudget says to an eviction. Pure.
//!
//! Facts: kubernetes pkg/registry/core/pod/storage/eviction.go (`checkAndDecrement`), component-helpers
//! apps/poddisruptionbudget (`UpdateDisruptionAllowedCondition`).

use daruma_api::metav1::{LabelSelector, StatusCause, StatusDetails};
use daruma_api::selector::Selector;
use daruma_api::status::ApiError;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::document::{self, list, number, text};

/// Evictions of a budget that its controller has not confirmed yet (`MaxDisruptedPodSize`).
const UNCONFIRMED: usize = 2000;
/// How long clients are asked to wait for the controller, in seconds.
const RETRY_SECONDS: i32 = 10;
const CONDITION: &str = "DisruptionAllowed";

/// What a budget says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The pod may go; the budget with one disruption less.
    Allowed(Value),
    /// No disruption is left.
    Exhausted,
}

/// Whether the budget's selector selects the pod.
pub fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = budget.pointer("/spec/selector").filter(|selector| !selector.is_null());
    // Without a selector a budget covers nothing, with an empty one everything in its namespace.
    let Some(Ok(selector)) = selector.map(|selector| serde_json::from_value::<LabelSelector>(selector.clone())) else {
        return false;
    };
    let labels = pod.pointer("/metadata/labels");
    Selector::from_label_selector(Some(&selector))
        .is_ok_and(|selector| selector.matches_with(|key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str)))
}

/// Whether a pod that is not ready may go without taking from the budget.
pub fn spares_unready(budget: &Value, pod: &Value) -> bool {
    let ready = list(pod, "/status/conditions").iter().find(|one| text(one, "/type") == "Ready");
    if ready.is_some_and(|ready| text(ready, "/status") == "True") {
        return false;
    }
    let (current, desired) = (count(budget, "currentHealthy"), count(budget, "desiredHealthy"));
    text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow" || (current >= desired && desired > 0)
}

/// Takes one disruption for `pod`.
///
/// # Errors
/// 429 while the controller has not seen the budget's newest form; 403 for a budget that makes no sense.
pub fn take(budget: &Value, pod: &str, now: Timestamp) -> Result<Verdict, ApiError> {
    let name = text(budget, "/metadata/name");
    if count(budget, "observedGeneration") < number(budget, "/metadata/generation").unwrap_or_default() {
        return Err(still_processed(name));
    }
    let forbidden = |why: &str| ApiError::forbidden("policy", "poddisruptionbudget", name, why);
    let allowed = count(budget, "disruptionsAllowed");
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    let disrupted = budget.pointer("/status/disruptedPods").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    if disrupted > UNCONFIRMED {
        return Err(forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller"));
    }
    if allowed == 0 {
        return Ok(Verdict::Exhausted);
    }
    let mut taken = budget.clone();
    let observed = count(budget, "observedGeneration");
    let status = document::child(&mut taken, "status");
    status.insert("disruptionsAllowed".into(), (allowed - 1).into());
    let pods = status.entry("disruptedPods").or_insert_with(|| json!({}));
    if !pods.is_object() {
        *pods = json!({});
    }
    pods[pod] = document::seconds(now).into();
    if allowed == 1 {
        set_insufficient(status, observed, now);
    }
    Ok(Verdict::Allowed(taken))
}

fn set_insufficient(status: &mut serde_json::Map<String, Value>, observed: i64, now: Timestamp) {
    let mut condition = json!({"type": CONDITION, "status": "False", "reason": "InsufficientPods", "message": "",
        "observedGeneration": observed, "lastTransitionTime": document::seconds(now)});
    let conditions = document::elements(status, "conditions");
    match conditions.iter_mut().find(|one| text(one, "/type") == CONDITION) {
        Some(old) => {
            if text(old, "/status") == "False" {
                condition["lastTransitionTime"] = old.get("lastTransitionTime").cloned().unwrap_or_default();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}

/// 429: no disruption is left.
pub fn refusal(budget: &Value) -> ApiError {
    let name = text(budget, "/metadata/name");
    let condition = list(budget, "/status/conditions")
        .iter()
        .find(|one| text(one, "/type") == CONDITION && text(one, "/status") == "False" && !text(one, "/message").is_empty());
    let (current, desired) = (count(budget, "currentHealthy"), count(budget, "desiredHealthy"));
    let why = match condition.map(|condition| (text(condition, "/reason"), text(condition, "/message"))) {
        Some(("SyncFailed", message)) => {
            format!("The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}")
        }
        _ if current <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
        }
        Some((reason, message)) => {
            format!("The disruption budget {name} does not allow evicting pods currently ({reason}): {message}")
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    };
    too_many(why, None)
}

/// 429: what the budget says is not up to date.
pub fn still_processed(name: &str) -> ApiError {
    too_many(format!("The disruption budget {name} is still being processed by the server."), Some(RETRY_SECONDS))
}

fn too_many(why: String, retry_after_seconds: Option<i32>) -> ApiError {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = StatusCause { reason: Some("DisruptionBudget".into()), message: Some(why), field: None };
    let details = StatusDetails { causes: Some(vec![cause]), retry_after_seconds, ..StatusDetails::default() };
    ApiError { details: Some(Box::new(details)), ..ApiError::new(429, "TooManyRequests", message) }
}

fn count(budget: &Value, key: &str) -> i64 {
    number(budget, &format!("/status/{key}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 2}, "spec": {"selector": {"matchLabels": {"app": "x"}}}, "status": status})
    }

    fn cause(error: &ApiError) -> String {
        let causes = error.details.as_ref().and_then(|details| details.causes.clone()).unwrap_or_default();
        causes.into_iter().filter_map(|cause| cause.message).collect()
    }

    #[test]
    fn selection() {
        let pod = json!({"metadata": {"labels": {"app": "x"}}});
        assert!(covers(&budget(json!({})), &pod));
        assert!(covers(&json!({"spec": {"selector": {}}}), &pod));
        assert!(!covers(&json!({"spec": {}}), &pod));
        assert!(!covers(&json!({"spec": {"selector": {"matchLabels": {"app": "y"}}}}), &pod));
    }

    #[test]
    fn taking() {
        let now = Timestamp::from_second(60).expect("in range");
        let stale = take(&budget(json!({"observedGeneration": 1, "disruptionsAllowed": 1})), "p", now).expect_err("stale");
        assert_eq!((stale.code, stale.details.as_ref().and_then(|one| one.retry_after_seconds)), (429, Some(10)));
        assert_eq!(cause(&stale), "The disruption budget b is still being processed by the server.");
        let Ok(Verdict::Allowed(taken)) = take(&budget(json!({"observedGeneration": 2, "disruptionsAllowed": 1})), "p", now)
        else {
            panic!("allowed")
        };
        assert_eq!(taken["status"]["disruptionsAllowed"], 0);
        assert_eq!(taken["status"]["disruptedPods"], json!({"p": "1970-01-01T00:01:00Z"}));
        assert_eq!(taken["status"]["conditions"][0]["reason"], "InsufficientPods");
        assert_eq!(take(&taken, "q", now), Ok(Verdict::Exhausted));
        let negative = take(&budget(json!({"observedGeneration": 2, "disruptionsAllowed": -1})), "p", now).expect_err("refused");
        assert_eq!(negative.message, "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative");
    }

    #[test]
    fn refusals() {
        let check = |status: Value, expected: &str| assert_eq!(cause(&refusal(&budget(status))), expected);
        check(
            json!({"currentHealthy": 2, "desiredHealthy": 3}),
            "The disruption budget b needs 3 healthy pods and has 2 currently",
        );
        check(
            json!({"conditions": [{"type": CONDITION, "status": "False", "reason": "SyncFailed", "message": "m"}]}),
            "The disruption budget b does not allow evicting pods currently because it failed sync: m",
        );
        check(
            json!({"currentHealthy": 1, "conditions": [{"type": CONDITION, "status": "False", "reason": "R", "message": "m"}]}),
            "The disruption budget b does not allow evicting pods currently (R): m",
        );
        check(json!({"currentHealthy": 1}), "The disruption budget b does not allow evicting pods currently");
    }

    #[test]
    fn unready_pods() {
        let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let healthy = budget(json!({"currentHealthy": 3, "desiredHealthy": 3}));
        let mut short = budget(json!({"currentHealthy": 2, "desiredHealthy": 3}));
        assert!(spares_unready(&healthy, &unready) && !spares_unready(&healthy, &ready));
        assert!(!spares_unready(&short, &unready));
        short["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert!(spares_unready(&short, &unready) && !spares_unready(&short, &ready));
    }
}
