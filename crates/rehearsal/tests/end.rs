//! What is left of a world when it has ended.

use std::any::Any;
use std::sync::Weak;

use daruma_drill::builtin;
use daruma_rehearsal::Rehearsal;

#[test]
fn nothing_is_left_of_a_world_that_has_ended() {
    let drill = builtin::find("story").expect("it is built in").drill(&Default::default()).expect("it is valid");
    let vestiges: Vec<Weak<dyn Any + Send + Sync>> = (1..=2)
        .map(|seed| {
            let rehearsal = Rehearsal { seed, invariants: true, keeps_log: true };
            let prepared = rehearsal.prepare(&drill).expect("a cluster");
            let vestige = prepared.cluster().universe().vestige();
            let played = prepared.play(&drill, &mut (), &|| false);
            assert!(played.violations.is_empty() && !played.log.is_empty());
            vestige
        })
        .collect();
    assert!(vestiges.iter().all(|vestige| vestige.upgrade().is_none()), "somebody keeps a world that has ended");
}
