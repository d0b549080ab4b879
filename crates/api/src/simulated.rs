//! How simulated nodes are told apart from others: their names, their label, their taint. Whoever makes such nodes and whoever
//! reads of them agrees on these.

/// The label that they carry, as KWOK's nodes carry `type=kwok`: key, value.
pub const LABEL: (&str, &str) = ("type", "simulated");
/// The taint that they register with, as KWOK's nodes have `kwok.x-k8s.io/node=fake:NoSchedule`: key, value, effect.
pub const TAINT: (&str, &str, &str) = ("daruma.dev/node", "simulated", crate::taints::NO_SCHEDULE);

/// Name of one of them.
pub fn name(index: u32) -> String {
    format!("simulated-{index}")
}

/// The number in such a name.
pub fn number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("simulated-").and_then(|number| number.parse::<u32>().ok());
    number.filter(|number| self::name(*number) == name)
}

/// Whether a node's name is one of theirs.
pub fn is_name(name: &str) -> bool {
    number(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("simulated-0", Some(0)),
            ("simulated-1999", Some(1999)),
            ("simulated-07", None),
            ("simulated-", None),
            ("worker-1", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
            assert_eq!(is_name(text), expected.is_some(), "{text}");
        }
    }
}
