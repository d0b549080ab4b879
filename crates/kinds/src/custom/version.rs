//! Which of two versions is the newer one, and what is said of old ones.
//!
//! Source: apimachinery pkg/version/helpers.go (`CompareKubeAwareVersionStrings`), apiextensions-apiserver
//! pkg/apiserver/customresource_handler.go (`defaultDeprecationWarning`).

use std::cmp::Ordering;

use serde_json::Value;

use crate::access::{at, flag, get, list, text};

/// Orders versions: `v2` before `v1` before `v1beta2` before `v1alpha1`, and other names after all of them, by the
/// alphabet. The newer one is the greater one.
pub(crate) fn compare(one: &str, other: &str) -> Ordering {
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => other.cmp(one),
    }
}

/// Stability (alpha, beta, stable), major, minor.
fn parse(version: &str) -> Option<(u8, u64, u64)> {
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        text.parse::<u64>().ok().filter(|_| plain)
    };
    let rest = version.strip_prefix('v')?;
    for (word, stability) in [("alpha", 0), ("beta", 1)] {
        if let Some((major, minor)) = rest.split_once(word) {
            let minor = if minor.is_empty() { 0 } else { number(minor)? };
            return Some((stability, number(major)?, minor));
        }
    }
    Some((2, number(rest)?, 0))
}

/// The warning for a deprecated version of a definition; `None` for others.
pub(super) fn deprecation(definition: &Value, version: &Value) -> Option<String> {
    if !flag(version, "deprecated") {
        return None;
    }
    if let Some(own) = get(version, "deprecationWarning").as_str() {
        return Some(own.to_owned());
    }
    let spec = get(definition, "spec");
    let (group, kind, name) = (text(spec, "group"), text(at(spec, &["names"]), "kind"), text(version, "name"));
    let newest = list(spec, "versions")
        .iter()
        .filter(|one| flag(one, "served") && !flag(one, "deprecated"))
        .map(|one| text(one, "name"))
        .filter(|one| compare(one, name).is_gt())
        .max_by(|one, other| compare(one, other));
    let instead = newest.map(|newest| format!("; use {group}/{newest} {kind}")).unwrap_or_default();
    Some(format!("{group}/{name} {kind} is deprecated{instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_are_greater() {
        let mut versions = ["v1", "v11alpha2", "foo10", "v10", "v2", "v3beta1", "foo1", "v12alpha1", "v11beta2", "v10beta3"];
        versions.sort_by(|one, other| compare(other, one));
        assert_eq!(versions, ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]);
    }
}
