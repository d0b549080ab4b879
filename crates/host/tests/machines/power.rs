//! The power switch.
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daruma_host::supervisor::{Request, State};

use crate::Test;
use crate::bed::Bed;
use crate::capture::Capture;

pub const ALL: &[Test] = &[
    ("power::a_cut_loses_what_was_not_synced", a_cut_loses_what_was_not_synced),
    ("power::a_cut_is_silent", a_cut_is_silent),
    ("power::a_reset_machine_comes_back_by_itself", a_reset_machine_comes_back_by_itself),
    ("power::graceful_ends_keep_everything", graceful_ends_keep_everything),
    ("power::a_hung_machine_can_be_resumed_or_cut", a_hung_machine_can_be_resumed_or_cut),
    ("power::many_cuts_leave_a_sound_disk", many_cuts_leave_a_sound_disk),
];

fn worker() -> String {
    "worker-0".to_owned()
}

fn a_cut_loses_what_was_not_synced() -> Result<()> {
    let mut bed = Bed::new("cut", 1)?;
    let before = bed.status("worker-0")?;
    bed.tell("worker-0", "write-synced /var/kept yes")?;
    bed.tell("worker-0", "write /var/lost yes")?;
    bed.tell("worker-0", "write /run/volatile yes")?;
    ensure!(bed.tell("worker-0", "read /var/lost")? == "yes", "the file is there before the cut");
    let cut = Instant::now();
    bed.ask(Request::Off { machine: worker() })?;
    println!("power off took {:?}", cut.elapsed());
    let log = before.file("/var/log/kubelet.log".as_ref()).context("a machine that is on shows its files")?;
    ensure!(!log.exists(), "and hides them when it is off");
    let off = bed.status("worker-0")?;
    ensure!(off.state == State::Off && off.pid.is_none() && off.boot_id.is_none(), "{off:?}");
    ensure!(bed.tell("worker-0", "read /var/kept").is_err(), "a dead machine does not answer");
    let on = Instant::now();
    bed.ask(Request::On { machine: worker() })?;
    let after = bed.ready("worker-0")?;
    println!("power on to the command's answer took {:?}", on.elapsed());
    ensure!(after.boot_id.is_some() && after.boot_id != before.boot_id, "the boot id is new");
    ensure!(bed.tell("worker-0", "read /var/kept")? == "yes", "synced data survives");
    let lost = bed.tell("worker-0", "read /var/lost")?;
    ensure!(lost.is_empty() || lost.starts_with("error"), "unsynced data is lost, but it read {lost:?}");
    ensure!(bed.tell("worker-0", "read /run/volatile")?.starts_with("error"), "/run is volatile");
    Ok(())
}

fn a_cut_is_silent() -> Result<()> {
    let mut bed = Bed::new("silent", 1)?;
    let status = bed.client.status()?;
    let machine = status.machine("worker-0").context("the machine")?.address;
    let listener = TcpListener::bind((status.subnet.host(), 0))?;
    bed.tell("worker-0", &format!("talk {}", listener.local_addr()?))?;
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut buffer = [0; 4096];
    ensure!(stream.read(&mut buffer)? > 0, "the machine talks");
    let capture = Capture::start(&status.switch_namespace)?;
    std::thread::sleep(Duration::from_millis(50));
    bed.ask(Request::Off { machine: worker() })?;
    let done = Instant::now();
    std::thread::sleep(Duration::from_millis(700));
    let packets = capture.stop()?;
    let from_machine: Vec<_> = packets.iter().filter(|packet| packet.source == machine).collect();
    ensure!(!from_machine.is_empty(), "it was heard before the cut");
    // FIN is 1, RST is 4.
    let goodbyes = from_machine.iter().filter(|packet| packet.tcp_flags.is_some_and(|flags| flags & 5 != 0)).count();
    ensure!(goodbyes == 0, "{goodbyes} packets say goodbye");
    ensure!(from_machine.iter().all(|packet| packet.at < done), "packets came after the cut");
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => bail!("the connection was closed"),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(()),
            Err(error) => return Err(error).context("the connection was broken"),
        }
    }
}

fn a_reset_machine_comes_back_by_itself() -> Result<()> {
    let mut bed = Bed::new("reset", 2)?;
    let (before, other) = (bed.status("worker-0")?, bed.status("worker-1")?);
    let pressed = Instant::now();
    bed.ask(Request::Reset { machine: worker() })?;
    ensure!(bed.status("worker-0")?.state == State::Restarting, "it is dark for its boot time");
    let after = bed.ready("worker-0")?;
    ensure!(pressed.elapsed() >= Duration::from_millis(300), "the boot time passes");
    ensure!(after.boot_id != before.boot_id, "the boot id is new");
    ensure!(bed.status("worker-1")? == other, "the other machine did not notice");
    bed.tell("worker-1", "read /etc/hostname")?;
    Ok(())
}

fn graceful_ends_keep_everything() -> Result<()> {
    let mut bed = Bed::new("graceful", 1)?;
    bed.tell("worker-0", "write /var/unsynced yes")?;
    bed.ask(Request::Reboot { machine: worker() })?;
    let end = Instant::now() + Duration::from_secs(5);
    while bed.status("worker-0")?.state == State::Stopping {
        ensure!(Instant::now() < end, "the machine does not stop");
    }
    bed.ready("worker-0")?;
    ensure!(bed.tell("worker-0", "read /var/unsynced")? == "yes", "a reboot loses nothing");
    ensure!(bed.tell("worker-0", "read /var/goodbye")? == "bye", "the command was asked to end");
    bed.ask(Request::Shutdown { machine: worker() })?;
    bed.client.wait_for("worker-0", State::Off, Duration::from_secs(10))?;
    let off = bed.status("worker-0")?;
    ensure!(off.last_end.as_deref() == Some("it powered itself off"), "{off:?}");
    bed.ask(Request::On { machine: worker() })?;
    bed.ready("worker-0")?;
    let log = bed.tell("worker-0", "read /var/log/kubelet.log")?;
    ensure!(log.contains("init: rebooting") && log.contains("init: powering off"), "{log}");
    Ok(())
}

fn a_hung_machine_can_be_resumed_or_cut() -> Result<()> {
    let mut bed = Bed::new("hang", 1)?;
    let before = bed.status("worker-0")?;
    bed.ask(Request::Hang { machine: worker() })?;
    ensure!(bed.status("worker-0")?.state == State::Hung, "it is hung");
    ensure!(bed.tell("worker-0", "read /etc/hostname").is_err(), "a hung machine is silent");
    bed.ask(Request::Resume { machine: worker() })?;
    let after = bed.ready("worker-0")?;
    ensure!(after.pid == before.pid && after.boot_id == before.boot_id, "it is the same boot");
    bed.ask(Request::Hang { machine: worker() })?;
    bed.ask(Request::Off { machine: worker() })?;
    ensure!(bed.status("worker-0")?.state == State::Off, "a hung machine can be switched off");
    bed.ask(Request::On { machine: worker() })?;
    bed.ready("worker-0")?;
    Ok(())
}

fn many_cuts_leave_a_sound_disk() -> Result<()> {
    let mut bed = Bed::new("many", 1)?;
    for round in 0..10 {
        bed.tell("worker-0", &format!("write-synced /var/round-{round} {round}"))?;
        bed.tell("worker-0", &format!("write /var/noise-{round} {round}"))?;
        bed.ask(Request::Off { machine: worker() })?;
        bed.ask(Request::On { machine: worker() })?;
        bed.ready("worker-0")?;
        for earlier in 0..=round {
            let read = bed.tell("worker-0", &format!("read /var/round-{earlier}"))?;
            ensure!(read == earlier.to_string(), "round {round}: file {earlier} reads {read:?}");
        }
    }
    Ok(())
}
