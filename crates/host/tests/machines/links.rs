//! Broken and mended links.
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use daruma_host::machine::link_faults::probe;
use daruma_host::supervisor::Request;
use daruma_world::machines::{LinkEffect, LinkFault, MachineError};

use crate::Test;
use crate::bed::Bed;
use crate::capture::Capture;

pub const ALL: &[Test] = &[
    ("links::nothing_passes_a_cut", nothing_passes_a_cut),
    ("links::one_way_is_one_way", one_way_is_one_way),
    ("links::a_cut_outlives_a_power_cycle", a_cut_outlives_a_power_cycle),
    ("links::some_packets_are_lost", some_packets_are_lost),
    ("links::packets_are_delayed", packets_are_delayed),
    ("links::a_narrow_link_is_slow", a_narrow_link_is_slow),
    ("links::senseless_faults_are_refused", senseless_faults_are_refused),
];

fn fault(from: &str, to: Option<&str>, effect: LinkEffect) -> LinkFault {
    LinkFault { from: Some([from.to_owned()].into()), to: to.map(|to| [to.to_owned()].into()), effect }
}

fn cut(from: &str, to: Option<&str>) -> LinkFault {
    fault(from, to, LinkEffect::Cut)
}

/// Both ways between `name` and everybody.
fn isolated(name: &str) -> Vec<LinkFault> {
    let from = cut(name, None);
    vec![LinkFault { from: None, to: from.from.clone(), effect: LinkEffect::Cut }, from]
}

fn set(bed: &mut Bed, faults: &[LinkFault]) -> Result<()> {
    bed.ask(Request::SetLinkFaults { faults: faults.to_vec() })
}

fn nothing_passes_a_cut() -> Result<()> {
    let mut bed = Bed::new("link", 3)?;
    ensure!(bed.relay("worker-0", "worker-1")? == "worker-1\n", "machines hear each other");
    set(&mut bed, &isolated("worker-0"))?;
    let cut_off = bed.address("worker-0")?;
    let path = bed.client.status()?.switch_namespace;
    let capture = Capture::start(&path)?;
    ensure!(bed.tell("worker-0", "read /etc/hostname").is_err(), "the host does not get through");
    ensure!(bed.relay("worker-1", "worker-0")?.starts_with("error"), "nor does another machine");
    ensure!(bed.relay("worker-1", "worker-2")? == "worker-2\n", "others are not concerned");
    // Every port shows what comes in by it; nobody's answer may come from behind the cut.
    let from = capture.stop()?.into_iter().filter(|packet| packet.source == cut_off).count();
    ensure!(from == 0, "{from} packets came from the machine that is cut off");
    ensure!(bed.client.status()?.faults.links == isolated("worker-0"), "the cut is on record");
    set(&mut bed, &[])?;
    bed.ready("worker-0")?;
    ensure!(bed.relay("worker-0", "worker-1")? == "worker-1\n", "all is well again");
    // A partition between two machines: the third one and the host reach both.
    set(&mut bed, &[cut("worker-0", Some("worker-1")), cut("worker-1", Some("worker-0"))])?;
    for (from, to, passes) in [(0, 1, false), (1, 0, false), (0, 2, true), (2, 1, true), (1, 2, true)] {
        let (from, to) = (format!("worker-{from}"), format!("worker-{to}"));
        let answer = bed.relay(&from, &to)?;
        ensure!((answer == format!("{to}\n")) == passes, "{from} to {to}: {answer}");
    }
    set(&mut bed, &[])?;
    ensure!(bed.relay("worker-0", "worker-1")? == "worker-1\n", "all is well again");
    Ok(())
}

fn one_way_is_one_way() -> Result<()> {
    let mut bed = Bed::new("oneway", 2)?;
    // Each knows the other's hardware address, which it could not ask for later.
    bed.relay("worker-0", "worker-1")?;
    bed.relay("worker-1", "worker-0")?;
    set(&mut bed, &[cut("worker-0", Some("worker-1"))])?;
    let (zero, one) = (bed.address("worker-0")?, bed.address("worker-1")?);
    bed.tell("worker-0", &format!("shout {one} 50"))?;
    bed.tell("worker-1", &format!("shout {zero} 50"))?;
    std::thread::sleep(Duration::from_millis(50));
    let heard = (bed.tell("worker-0", "heard")?, bed.tell("worker-1", "heard")?);
    ensure!(heard == ("50".to_owned(), "0".to_owned()), "heard {heard:?}");
    ensure!(bed.relay("worker-1", "worker-0")?.starts_with("error"), "without answers there is no connection");
    set(&mut bed, &[])?;
    ensure!(bed.relay("worker-1", "worker-0")? == "worker-0\n", "all is well again");
    Ok(())
}

fn a_cut_outlives_a_power_cycle() -> Result<()> {
    let mut bed = Bed::new("outlive", 1)?;
    set(&mut bed, &isolated("worker-0"))?;
    bed.ask(Request::Off { machine: "worker-0".to_owned() })?;
    bed.ask(Request::On { machine: "worker-0".to_owned() })?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(bed.tell("worker-0", "read /etc/hostname").is_err(), "the link is still cut");
    bed.ask(Request::Hang { machine: "worker-0".to_owned() })?;
    bed.ask(Request::Resume { machine: "worker-0".to_owned() })?;
    ensure!(bed.tell("worker-0", "read /etc/hostname").is_err(), "a hang does not mend it");
    set(&mut bed, &[])?;
    bed.ready("worker-0")?;
    Ok(())
}

/// Whether to go on; a kernel that cannot do it says so.
fn can(effect: LinkEffect) -> bool {
    let supported = probe::supports(effect);
    if let Err(problem) = &supported {
        println!("skipped: {problem}");
    }
    supported.is_ok()
}

fn some_packets_are_lost() -> Result<()> {
    let effect = LinkEffect::Loss(30.0);
    if !can(effect) {
        return Ok(());
    }
    let mut bed = Bed::new("loss", 2)?;
    bed.relay("worker-0", "worker-1")?;
    set(&mut bed, &[fault("worker-0", Some("worker-1"), effect)])?;
    let one = bed.address("worker-1")?;
    bed.tell("worker-0", &format!("shout {one} 2000"))?;
    std::thread::sleep(Duration::from_millis(50));
    let heard: u32 = bed.tell("worker-1", "heard")?.parse()?;
    println!("heard {heard} of 2000 at a loss of 30 %");
    // Six standard deviations (20) around 1400.
    ensure!((1280..1520).contains(&heard), "heard {heard} of 2000");
    set(&mut bed, &[])?;
    bed.tell("worker-0", &format!("shout {one} 200"))?;
    std::thread::sleep(Duration::from_millis(50));
    ensure!(bed.tell("worker-1", "heard")? == "200", "nothing is lost any more");
    Ok(())
}

fn packets_are_delayed() -> Result<()> {
    let delay = Duration::from_millis(50);
    if !can(LinkEffect::Delay(delay)) {
        return Ok(());
    }
    let mut bed = Bed::new("delay", 2)?;
    let asked = |bed: &Bed, name: &str| -> Result<Duration> {
        let began = Instant::now();
        bed.tell(name, "pid")?;
        Ok(began.elapsed())
    };
    bed.ask(Request::SetLinkFaults { faults: vec![fault("worker-0", None, LinkEffect::Delay(delay))] })?;
    // An answer takes two ways back: that of the connection, that of the answer.
    for _ in 0..3 {
        let (slow, quick) = (asked(&bed, "worker-0")?, asked(&bed, "worker-1")?);
        println!("delayed by 50 ms a packet: {slow:?}; the other machine: {quick:?}");
        ensure!(slow >= 2 * delay && slow < 6 * delay, "{slow:?}");
        ensure!(quick < delay, "{quick:?}");
    }
    // Other delays take over while packets are held.
    let longer = Duration::from_millis(200);
    set(&mut bed, &[fault("worker-0", None, LinkEffect::Delay(longer)), fault("worker-1", None, LinkEffect::Delay(delay))])?;
    ensure!(asked(&bed, "worker-0")? >= 2 * longer && asked(&bed, "worker-1")? >= 2 * delay, "the new ones hold");
    set(&mut bed, &[])?;
    ensure!(asked(&bed, "worker-0")? < delay, "mended");
    Ok(())
}

fn a_narrow_link_is_slow() -> Result<()> {
    let effect = LinkEffect::Bandwidth(4_000_000);
    if !can(effect) {
        return Ok(());
    }
    let mut bed = Bed::new("narrow", 1)?;
    let receive = |bed: &Bed| -> Result<Duration> {
        let began = Instant::now();
        let bytes = bed.tell("worker-0", "receive 1500000")?.len();
        ensure!(bytes == 1_500_000, "{bytes} bytes came");
        Ok(began.elapsed())
    };
    let quick = receive(&bed)?;
    set(&mut bed, &[fault("worker-0", None, effect)])?;
    // 12 Mbit, of which a second's worth passes at once.
    let slow = receive(&bed)?;
    println!("1.5 MB: {quick:?}, and {slow:?} at 4 Mbit/s");
    ensure!(quick < Duration::from_millis(500) && slow > Duration::from_millis(1500), "{quick:?} {slow:?}");
    Ok(())
}

fn senseless_faults_are_refused() -> Result<()> {
    let mut bed = Bed::new("senseless", 1)?;
    let mut check = |fault: LinkFault, expected: &str| -> Result<()> {
        let refused = bed.client.ask(&Request::SetLinkFaults { faults: vec![fault.clone()] }).err();
        ensure!(refused.as_ref().is_some_and(|error| error.to_string() == expected), "{fault:?} gave {refused:?}");
        Ok(())
    };
    let unknown = MachineError::Unknown { name: "worker-7".to_owned(), known: "worker-0".to_owned() };
    check(cut("worker-7", None), &unknown.to_string())?;
    check(fault("worker-0", None, LinkEffect::Loss(120.0)), "a loss of 120 % makes no sense; give more than 0 and at most 100")?;
    ensure!(bed.client.status()?.faults.is_empty(), "nothing is broken");
    bed.tell("worker-0", "pid")?;
    Ok(())
}
