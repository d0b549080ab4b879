//! Quality of service class of a pod's document.
//!
//! Source: kubernetes pkg/apis/core/v1/helper/qos/qos.go. The typed form is `daruma_api::resources::qos_class`.

use std::collections::BTreeMap;

use daruma_api::quantity::Quantity;
use serde_json::Value;

use crate::access::{at, entries, has, list};

type Sums<'a> = BTreeMap<&'a str, Quantity>;

fn compute<'a>(resources: &'a Value, key: &str) -> Vec<(&'a str, Quantity)> {
    entries(resources, key)
        .filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"))
        .filter_map(|(name, quantity)| Some((name.as_str(), quantity.as_str()?.parse::<Quantity>().ok()?)))
        .filter(|(_, quantity)| *quantity > Quantity::ZERO)
        .collect()
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(super) fn class(spec: &Value) -> &'static str {
    let (mut requests, mut limits) = (Sums::new(), Sums::new());
    let mut guaranteed = true;
    let own = at(spec, &["resources"]);
    if has(own, "requests") || has(own, "limits") {
        requests.extend(compute(own, "requests"));
        limits.extend(compute(own, "limits"));
        guaranteed = limits.len() == 2;
    } else {
        for container in list(spec, "containers").iter().chain(list(spec, "initContainers")) {
            let resources = at(container, &["resources"]);
            for (name, quantity) in compute(resources, "requests") {
                *requests.entry(name).or_default() += quantity;
            }
            let own = compute(resources, "limits");
            guaranteed &= own.len() == 2;
            for (name, quantity) in own {
                *limits.entry(name).or_default() += quantity;
            }
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal = requests.len() == limits.len() && requests.iter().all(|(name, quantity)| limits.get(name) == Some(quantity));
    if guaranteed && equal { "Guaranteed" } else { "Burstable" }
}
