//! Which of a group's versions comes first: `v1` before `v1beta1` before `v1alpha1` before `other`.
//!
//! Facts: apimachinery pkg/version/helpers.go (`CompareKubeAwareVersionStrings`).

use std::cmp::Reverse;

/// The place of a version: what comes first is less.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place<'a> {
    /// Stability (general availability is 0), major and minor number.
    Kubernetes(u8, Reverse<u64>, Reverse<u64>),
    /// Any other name, by the alphabet.
    Other(&'a str),
}

/// The place of a version among those of its group.
pub fn of(version: &str) -> Place<'_> {
    kubernetes(version).unwrap_or(Place::Other(version))
}

fn kubernetes(version: &str) -> Option<Place<'static>> {
    let rest = version.strip_prefix('v')?;
    for (stability, word) in [(1, "beta"), (2, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word) {
            return Some(Place::Kubernetes(stability, Reverse(number(major)?), Reverse(number(minor)?)));
        }
    }
    Some(Place::Kubernetes(0, Reverse(number(rest)?), Reverse(0)))
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mature_versions_come_first() {
        let ordered =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10", "v01", "v1beta"];
        let mut shuffled = ordered;
        shuffled.sort_unstable();
        shuffled.reverse();
        shuffled.sort_by(|left, right| of(left).cmp(&of(right)));
        assert_eq!(shuffled, ordered);
    }
}
