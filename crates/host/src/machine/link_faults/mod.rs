//! Faults of the links between machines, as rules of the switch.
//!
//! [`plan`] turns faults into rules over ports, [`rules`] writes them as one nf_tables transaction, [`delay`] is
//! the process that holds packets back, [`probe`] asks the kernel what it can do. Frames are told apart by the
//! ports that they come in and go out by, so pods and name resolution (ARP) share the fate of their machine.

pub mod delay;
mod plan;
pub mod probe;
mod rules;

use std::collections::BTreeSet;

use daruma_world::machines::{LinkEffect, LinkFault};

pub(crate) use plan::plan;
pub(crate) use rules::commit;

/// Whether figures and sets of a fault make sense; if not, what to tell.
///
/// # Errors
/// One sentence.
pub fn check(fault: &LinkFault) -> Result<(), String> {
    match fault.effect {
        LinkEffect::Loss(percent) if !(percent > 0.0 && percent <= 100.0) => {
            Err(format!("a loss of {percent} % makes no sense; give more than 0 and at most 100"))
        }
        LinkEffect::Delay(delay) if delay.is_zero() || delay > delay::LONGEST => {
            Err(format!("a delay of {delay:?} makes no sense; give more than nothing and at most {:?}", delay::LONGEST))
        }
        LinkEffect::Bandwidth(bits) if bits < 8 => Err(format!("a bandwidth of {bits} bits a second makes no sense")),
        _ if [&fault.from, &fault.to].into_iter().flatten().any(BTreeSet::is_empty) => {
            Err("a link fault between nobody makes no sense".to_owned())
        }
        _ => Ok(()),
    }
}

/// What is left of `faults` when no more are about `machine`.
pub fn without(faults: &[LinkFault], machine: &str) -> Vec<LinkFault> {
    let without = |set: &Option<BTreeSet<String>>| {
        set.as_ref().map(|names| names.iter().filter(|name| *name != machine).cloned().collect::<BTreeSet<_>>())
    };
    let left = faults.iter().map(|fault| LinkFault { from: without(&fault.from), to: without(&fault.to), effect: fault.effect });
    left.filter(|fault| ![&fault.from, &fault.to].into_iter().flatten().any(BTreeSet::is_empty)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fault(from: &[&str], to: Option<&[&str]>, effect: LinkEffect) -> LinkFault {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        LinkFault { from: Some(names(from)), to: to.map(names), effect }
    }

    #[test]
    fn mending_one_machine_leaves_the_others_broken() {
        let faults = [
            fault(&["a"], None, LinkEffect::Cut),
            fault(&["a", "b"], Some(&["c"]), LinkEffect::Cut),
            fault(&["c"], Some(&["a"]), LinkEffect::Cut),
        ];
        assert_eq!(without(&faults, "a"), [fault(&["b"], Some(&["c"]), LinkEffect::Cut)]);
        assert_eq!(without(&faults, "x"), faults);
    }

    #[test]
    fn figures_that_make_no_sense_are_refused() {
        let check = |effect, expected: Option<&str>| {
            let found = super::check(&fault(&["a"], None, effect)).err();
            assert_eq!(found.as_deref().map(|text| text.starts_with(expected.unwrap_or_default())), expected.map(|_| true));
        };
        check(LinkEffect::Cut, None);
        check(LinkEffect::Loss(0.5), None);
        check(LinkEffect::Loss(f64::NAN), Some("a loss of NaN %"));
        check(LinkEffect::Loss(101.0), Some("a loss of 101 %"));
        check(LinkEffect::Delay(Duration::ZERO), Some("a delay of 0ns"));
        check(LinkEffect::Bandwidth(1), Some("a bandwidth of 1 bits"));
        assert!(super::check(&fault(&[], None, LinkEffect::Cut)).is_err());
    }
}
