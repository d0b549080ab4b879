//! Link faults.

use std::collections::BTreeSet;
use std::time::Duration;

use daruma_world::machines::{LinkEffect, LinkFault};

use super::{Stage, ask, ms, s, says, transport};

fn set(name: Option<&str>) -> Option<BTreeSet<String>> {
    name.map(|name| BTreeSet::from([name.to_owned()]))
}

pub(super) fn fault(from: Option<&str>, to: Option<&str>, effect: LinkEffect) -> Vec<LinkFault> {
    vec![LinkFault { from: set(from), to: set(to), effect }]
}

pub(super) fn cut(from: Option<&str>, to: Option<&str>) -> Vec<LinkFault> {
    fault(from, to, LinkEffect::Cut)
}

/// How long each of `count` requests from `b` to `a` takes under these faults; a minute is the limit.
fn requests(seed: u64, faults: Vec<LinkFault>, count: usize) -> Vec<Duration> {
    let stage = Stage::new(seed, &["a", "b"]);
    stage.run(|stage, world| async move {
        let server = stage.machine("a").scope("server");
        stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), says("hello")).unwrap();
        let transport = transport(&stage, &stage.machine("b").scope("client"), "10.0.0.1");
        ask(&transport).await.unwrap();
        stage.universe.machines().set_link_faults(faults).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..count {
            let before = world.monotonic();
            let _ = world.timeout(s(60), ask(&transport)).await;
            times.push(world.monotonic().saturating_sub(before));
        }
        times
    })
}

#[test]
fn what_each_fault_does() {
    let sound = requests(1, vec![], 20);
    assert!(sound.iter().all(|time| *time > ms(0) && *time < ms(1)), "{sound:?}");
    assert_ne!(sound, requests(2, vec![], 20), "the jitter comes from the seed");
    for faults in [cut(Some("a"), None), cut(None, Some("a")), cut(Some("b"), Some("a"))] {
        assert!(requests(1, faults, 1)[0] >= s(14));
    }
    let elsewhere = requests(1, cut(Some("a"), Some("a")), 3);
    assert!(elsewhere.iter().all(|time| *time < ms(1)));

    let slow = requests(1, fault(Some("a"), Some("b"), LinkEffect::Delay(ms(70))), 3);
    assert!(slow.iter().all(|time| (70..72).contains(&time.as_millis())), "{slow:?}");

    let lossy = requests(1, fault(None, None, LinkEffect::Loss(30.0)), 300);
    let again = lossy.iter().filter(|time| **time >= ms(200)).count();
    assert!((90..220).contains(&again), "of 300 requests and answers about half lose a packet: {again}");
    assert!(lossy.iter().all(|time| *time < s(60)));
    assert_eq!(lossy, requests(1, fault(None, None, LinkEffect::Loss(30.0)), 300));

    // A head of 200 bytes and a body of 5 at 16,400 bits a second.
    let narrow = requests(1, fault(Some("a"), None, LinkEffect::Bandwidth(16_400)), 3);
    assert!(narrow.iter().all(|time| (95..110).contains(&time.as_millis())), "{narrow:?}");
}

#[test]
fn a_partition_leaves_each_side_whole() {
    let stage = Stage::new(1, &["a", "b", "c"]);
    stage.run(|stage, world| async move {
        let machines = stage.universe.machines();
        for name in ["a", "b", "c"] {
            let server = stage.machine(name).scope("server");
            stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), says("hello")).unwrap();
        }
        let mut faults = cut(Some("a"), Some("b"));
        faults.extend(cut(Some("b"), Some("a")));
        machines.set_link_faults(faults).await.unwrap();
        let check = async |from: &str, to: &str| {
            let client = stage.machine(from).scope("client");
            world.timeout(s(5), ask(&transport(&stage, &client, to))).await.is_ok_and(|answer| answer.is_ok())
        };
        for (from, to, works) in [
            ("a", "10.0.0.2", false),
            ("b", "10.0.0.1", false),
            ("a", "10.0.0.3", true),
            ("c", "10.0.0.2", true),
            ("a", "10.0.0.1", true),
            ("a", "127.0.0.1", true),
        ] {
            assert_eq!(check(from, to).await, works, "{from} to {to}");
        }
        assert!(machines.set_link_faults(cut(Some("d"), None)).await.is_err());
        machines.set_link_faults(vec![]).await.unwrap();
        assert!(check("a", "10.0.0.2").await);
        // From outside, too.
        machines.set_link_faults(cut(None, Some("c"))).await.unwrap();
        let outside = transport(&stage, &stage.universe.outside_scope(), "10.0.0.3");
        assert!(world.timeout(s(5), ask(&outside)).await.is_err());
    });
}
