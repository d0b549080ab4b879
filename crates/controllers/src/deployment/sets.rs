//! A Deployment's ReplicaSets: counts, order, proportions.
//!
//! Source: kubernetes pkg/controller/deployment/util/deployment_util.go.

use std::cmp::Ordering;
use std::sync::Arc;

use daruma_api::apps::v1::{Deployment, ReplicaSet};
use daruma_api::meta::ObjectExt;

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, revision};
use crate::rollout_counts::scaled;
use crate::template_hash::same_template;

/// `spec.replicas` of a Deployment.
pub fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `spec.replicas` of a ReplicaSet.
pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Sum of `spec.replicas`.
pub fn total<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().map(replicas).sum()
}

/// Pods that a ReplicaSet last counted.
pub fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map(|status| status.replicas).unwrap_or_default()
}

/// Available pods that a ReplicaSet last counted.
pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

/// Whether the strategy is a rolling update.
pub fn is_rolling(deployment: &Deployment) -> bool {
    strategy(deployment) == "RollingUpdate"
}

/// The strategy's type.
pub fn strategy(deployment: &Deployment) -> &str {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate")
}

/// Pods above and below the wanted number that a rolling update may have, both resolved together:
/// when both come out as 0, one may be missing.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    let wanted = wanted(deployment);
    let surge = scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), wanted, true);
    let unavailable = scaled(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), wanted, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// Pods that may exist above the wanted number.
pub fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { fenceposts(deployment).0 } else { 0 }
}

/// Pods that may be missing from the wanted number.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    if !is_rolling(deployment) || wanted(deployment) == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(wanted(deployment))
}

/// Oldest first, then by name.
pub fn by_creation(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    created(a).cmp(&created(b)).then_with(|| a.name().cmp(b.name()))
}

/// Largest first; of one size the older first.
pub fn by_size_older(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    replicas(b).cmp(&replicas(a)).then_with(|| by_creation(a, b))
}

/// Largest first; of one size the newer first.
pub fn by_size_newer(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    replicas(b).cmp(&replicas(a)).then_with(|| by_creation(b, a))
}

/// Lowest revision first.
pub fn by_revision(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    match (revision(a), revision(b)) {
        (Some(left), Some(right)) if left != right => left.cmp(&right),
        _ => by_creation(a, b),
    }
}

/// The oldest ReplicaSet whose template is the Deployment's.
pub fn find_new<'a>(deployment: &Deployment, sets: &'a [Arc<ReplicaSet>]) -> Option<&'a Arc<ReplicaSet>> {
    let template = &deployment.spec.as_ref()?.template;
    let matching = |set: &&Arc<ReplicaSet>| {
        set.spec.as_ref().and_then(|spec| spec.template.as_ref()).is_some_and(|own| same_template(own, template))
    };
    sets.iter().filter(matching).min_by(|a, b| by_creation(a, b))
}

/// How many replicas the new ReplicaSet may have now.
pub fn new_replicas(deployment: &Deployment, all: i32, new: i32) -> i32 {
    if !is_rolling(deployment) {
        return wanted(deployment);
    }
    let rolling = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    let surge = scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), wanted(deployment), true);
    let most = wanted(deployment) + surge;
    if all >= most { new } else { new + (most - all).min(wanted(deployment) - new) }
}

/// The one ReplicaSet to scale: the only active one, or the newest when none is. `None` when several are.
pub fn active_or_latest<'a>(new: Option<&'a Arc<ReplicaSet>>, old: &'a [Arc<ReplicaSet>]) -> Option<&'a Arc<ReplicaSet>> {
    let mut active = old.iter().chain(new).filter(|set| replicas(set) > 0);
    match (active.next(), active.next()) {
        (None, _) => new.or_else(|| old.iter().max_by(|a, b| by_creation(a, b))),
        (Some(only), None) => Some(only),
        (Some(_), Some(_)) => None,
    }
}

/// Whether the new ReplicaSet has, and is meant to have, all pods, and all are available.
pub fn is_saturated(deployment: &Deployment, new: Option<&ReplicaSet>) -> bool {
    let Some(new) = new else { return false };
    let wanted = wanted(deployment);
    replicas(new) == wanted && count_annotation(new, DESIRED_REPLICAS) == Some(wanted) && available(new) == wanted
}

/// A count kept in an annotation.
pub fn count_annotation(set: &ReplicaSet, key: &str) -> Option<i32> {
    set.annotation(key)?.parse().ok().filter(|count| *count >= 0)
}

/// How many of `to_add` replicas (negative: to remove) go to this ReplicaSet, after `added`.
pub fn proportion(set: &ReplicaSet, deployment: &Deployment, to_add: i32, added: i32) -> i32 {
    if replicas(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(set, deployment);
    let allowed = to_add - added;
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

fn fraction(set: &ReplicaSet, deployment: &Deployment) -> i32 {
    let own = replicas(set);
    if wanted(deployment) == 0 {
        return -own;
    }
    let before = match count_annotation(set, MAX_REPLICAS) {
        Some(before) if before != 0 => before,
        _ => deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or_default(),
    };
    if before == 0 {
        return 0;
    }
    let after = wanted(deployment) + max_surge(deployment);
    let size = f64::from(own) * f64::from(after) / f64::from(before);
    size.round() as i32 - own
}
