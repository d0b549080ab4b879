//! Cut and mended links.
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daruma_host::machine::switch::Direction;
use daruma_host::supervisor::Request;

use crate::Test;
use crate::bed::Bed;
use crate::capture::Capture;

pub const ALL: &[Test] =
    &[("links::a_cut_link_is_mended", a_cut_link_is_mended), ("links::one_way_cuts_drop_one_way", one_way_cuts_drop_one_way)];

fn cut(direction: Direction) -> Request {
    Request::Cut { machine: "worker-0".to_owned(), direction }
}

fn mend() -> Request {
    Request::Mend { machine: "worker-0".to_owned() }
}

fn a_cut_link_is_mended() -> Result<()> {
    let mut bed = Bed::new("link", 2)?;
    bed.ask(cut(Direction::Both))?;
    ensure!(bed.status("worker-0")?.cut == Some(Direction::Both), "the cut is on record");
    ensure!(bed.tell("worker-0", "read /etc/hostname").is_err(), "nothing passes");
    ensure!(bed.tell("worker-1", "read /etc/hostname").is_ok(), "the other machine is not concerned");
    bed.ask(mend())?;
    bed.ready("worker-0")?;
    // A cable stays out over a power cycle.
    bed.ask(cut(Direction::Both))?;
    bed.ask(Request::Off { machine: "worker-0".to_owned() })?;
    bed.ask(Request::On { machine: "worker-0".to_owned() })?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(bed.tell("worker-0", "read /etc/hostname").is_err(), "the cable is still out");
    bed.ask(mend())?;
    bed.ready("worker-0")?;
    Ok(())
}

fn one_way_cuts_drop_one_way() -> Result<()> {
    let mut bed = Bed::new("oneway", 1)?;
    let status = bed.client.status()?;
    let machine = status.machine("worker-0").context("the machine")?.address;
    let listener = TcpListener::bind((status.subnet.host(), 0))?;
    bed.tell("worker-0", &format!("talk {}", listener.local_addr()?))?;
    let _talk = listener.accept()?;
    let heard_from = |bed: &Bed, during: Duration| -> Result<(usize, usize)> {
        let capture = Capture::start(&status.switch_namespace)?;
        std::thread::sleep(during);
        // The uplink sees what the switch passed on; the host's attempts count as the other way.
        let _ = bed.tell("worker-0", "read /etc/hostname");
        let packets = capture.stop()?;
        let from = packets.iter().filter(|packet| packet.source == machine).count();
        Ok((from, packets.len() - from))
    };
    bed.ask(cut(Direction::In))?;
    ensure!(bed.tell("worker-0", "read /etc/hostname").is_err(), "requests do not come in");
    let (from, _) = heard_from(&bed, Duration::from_millis(100))?;
    ensure!(from > 0, "what the machine sends still passes");
    bed.ask(mend())?;
    bed.ready("worker-0")?;
    bed.ask(cut(Direction::Out))?;
    let began = Instant::now();
    ensure!(bed.tell("worker-0", "read /etc/hostname").is_err(), "answers do not come out");
    println!("a one-way cut shows after {:?}", began.elapsed());
    bed.ask(mend())?;
    bed.ready("worker-0")?;
    Ok(())
}
