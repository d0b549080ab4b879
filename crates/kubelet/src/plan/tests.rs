//! Tables: a pod, what runs of it, what has to be done.

use super::*;
use crate::testing::{Seen, exited, pod, running, view};

#[track_caller]
fn check(spec: &str, seen: &[Seen], expected: &str) {
    check_probed(spec, seen, &Probed::default(), expected);
}

#[track_caller]
fn check_probed(spec: &str, seen: &[Seen], probed: &Probed, expected: &str) {
    let actions = plan(&pod(spec), &view(seen), probed);
    let mut words = Vec::new();
    if actions.kill_pod {
        words.push("kill".to_owned());
    }
    if actions.create_sandbox {
        words.push(format!("sandbox{}", actions.attempt));
    }
    words.extend(actions.to_kill.iter().map(|kill| format!("-{}", kill.name)));
    words.extend(actions.init_to_start.iter().map(|index| format!("i{index}")));
    words.extend(actions.to_start.iter().map(|index| format!("c{index}")));
    assert_eq!(words.join(" "), expected, "{spec} with {seen:?}");
}

const TWO: &str = "containers: [{name: a}, {name: b}]";
const TWO_NEVER: &str = "restartPolicy: Never, containers: [{name: a}, {name: b}]";
const TWO_ON_FAILURE: &str = "restartPolicy: OnFailure, containers: [{name: a}, {name: b}]";
const INIT: &str = "initContainers: [{name: x}, {name: y}], containers: [{name: a}]";
const SIDECAR: &str = "initContainers: [{name: x, restartPolicy: Always}, {name: y}], containers: [{name: a}]";

#[test]
fn sandboxes() {
    check(TWO, &[], "kill sandbox0 c0 c1");
    check(TWO, &[Seen::Sandbox(true)], "c0 c1");
    check(TWO, &[Seen::Sandbox(false)], "kill sandbox1 c0 c1");
    // A reset: everything ended with 255.
    check(TWO, &[Seen::Sandbox(false), exited("a", 255), exited("b", 255)], "kill sandbox1 c0 c1");
    check(TWO_NEVER, &[Seen::Sandbox(false), exited("a", 255), exited("b", 0)], "kill");
    check(TWO_NEVER, &[Seen::Sandbox(false)], "kill sandbox1 c0 c1");
    check(TWO_ON_FAILURE, &[Seen::Sandbox(false), exited("a", 255), exited("b", 0)], "kill sandbox1 c0");
    check(TWO_ON_FAILURE, &[Seen::Sandbox(false), exited("a", 0), exited("b", 0)], "kill");
    check(INIT, &[Seen::Sandbox(false), exited("x", 0), exited("y", 0), exited("a", 255)], "kill sandbox1 i0");
    check("hostNetwork: true, containers: [{name: a}]", &[Seen::Sandbox(true), running("a")], "kill sandbox1 c0");
}

#[test]
fn restart_policies() {
    check(TWO, &[Seen::Sandbox(true), running("a"), running("b")], "");
    check(TWO, &[Seen::Sandbox(true), running("a"), exited("b", 0)], "c1");
    check(TWO_ON_FAILURE, &[Seen::Sandbox(true), running("a"), exited("b", 0)], "");
    check(TWO_ON_FAILURE, &[Seen::Sandbox(true), running("a"), exited("b", 1)], "c1");
    check(TWO_NEVER, &[Seen::Sandbox(true), running("a"), exited("b", 1)], "");
    check(TWO_NEVER, &[Seen::Sandbox(true), exited("a", 0), exited("b", 1)], "kill");
    check(TWO, &[Seen::Sandbox(true), Seen::Created("a"), running("b")], "c0");
    let ruled = "restartPolicy: Never, containers: [{name: a, restartPolicy: Never, restartPolicyRules: \
                 [{action: Restart, exitCodes: {operator: In, values: [42]}}]}]";
    check(ruled, &[Seen::Sandbox(true), exited("a", 42)], "c0");
    check(ruled, &[Seen::Sandbox(true), exited("a", 1)], "kill");
}

#[test]
fn init_containers() {
    check(INIT, &[], "kill sandbox0 i0");
    check(INIT, &[Seen::Sandbox(true)], "i0");
    check(INIT, &[Seen::Sandbox(true), running("x")], "");
    check(INIT, &[Seen::Sandbox(true), exited("x", 0)], "i1");
    check(INIT, &[Seen::Sandbox(true), exited("x", 1)], "i0");
    check(INIT, &[Seen::Sandbox(true), exited("x", 0), exited("y", 0)], "c0");
    check(INIT, &[Seen::Sandbox(true), exited("x", 0), exited("y", 0), running("a")], "");
    check(INIT, &[Seen::Sandbox(true), running("a")], "");
    let never = &format!("restartPolicy: Never, {INIT}");
    check(never, &[Seen::Sandbox(true), exited("x", 1)], "kill");
}

#[test]
fn sidecars() {
    check(SIDECAR, &[Seen::Sandbox(true), running("x")], "i1");
    check(SIDECAR, &[Seen::Sandbox(true), running("x"), exited("y", 0)], "c0");
    check(SIDECAR, &[Seen::Sandbox(true), exited("x", 1), exited("y", 0), running("a")], "i0");
    check(SIDECAR, &[Seen::Sandbox(true), exited("x", 1), running("y")], "i0");
    let never = &format!("restartPolicy: Never, {SIDECAR}");
    check(never, &[Seen::Sandbox(true), running("x"), exited("y", 0), exited("a", 0)], "kill");
}

#[test]
fn probes() {
    let seen = [Seen::Sandbox(true), running("a"), running("b")];
    let id = view(&seen).latest("a").expect("there").id.clone();
    let failed = Probed { liveness: BTreeMap::from([(id, false)]), ..Probed::default() };
    check_probed(TWO, &seen, &failed, "-a c0");
    check_probed(TWO_NEVER, &seen, &failed, "-a");
}

#[test]
fn a_changed_image() {
    check("containers: [{name: a, image: new}]", &[Seen::Sandbox(true), running("a")], "-a c0");
}
