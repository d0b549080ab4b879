//! Services and containers that are killed, paused and stopped.
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daruma_world::machines::{MachineError, Machines, Program, Signal};

use crate::Test;
use crate::bed::{Bed, run};

pub const ALL: &[Test] = &[
    ("programs::a_service_is_killed_paused_and_stopped", a_service_is_killed_paused_and_stopped),
    ("programs::a_container_is_killed_and_paused", a_container_is_killed_and_paused),
];

const WORKER: &str = "worker-0";

fn a_service_is_killed_paused_and_stopped() -> Result<()> {
    let mut bed = Bed::new("service", 1)?;
    let machines = bed.machines()?;
    let agent = Program::Service("agent".to_owned());
    let signal = |signal| run(machines.signal(WORKER, &agent, signal));
    let before = bed.tell(WORKER, "pid")?;
    signal(Signal::Kill)?;
    ensure!(bed.tell(WORKER, "pid").is_err(), "it is dead when the call returns, and not back at once");
    bed.ready(WORKER)?;
    ensure!(bed.tell(WORKER, "pid")? != before, "init starts it again");
    signal(Signal::Terminate)?;
    std::thread::sleep(Duration::from_millis(50));
    bed.ready(WORKER)?;
    ensure!(bed.tell(WORKER, "read /var/goodbye")? == "bye", "it was asked to end");
    signal(Signal::Stop)?;
    let refused = signal(Signal::Kill).err().context("it is stopped")?;
    ensure!(refused.to_string() == "worker-0: agent is stopped", "{refused}");
    std::thread::sleep(Duration::from_millis(300));
    ensure!(bed.tell(WORKER, "pid").is_err(), "it stays stopped");
    ensure!(bed.client.status()?.faults.programs.len() == 1, "it is on record");
    let done = run(bed.machines()?.undo())?;
    ensure!(done.len() == 1 && bed.client.status()?.faults.is_empty(), "{done:?}");
    bed.ready(WORKER)?;
    signal(Signal::Pause)?;
    // A stopped process' kernel still connects; nobody reads.
    let paused = std::net::TcpStream::connect_timeout(&(bed.address(WORKER)?, crate::agent::PORT).into(), Duration::from_secs(1));
    ensure!(paused.is_ok(), "{paused:?}");
    signal(Signal::Continue)?;
    bed.ready(WORKER)?;
    let unknown = Program::Service("sshd".to_owned());
    let refused = run(machines.signal(WORKER, &unknown, Signal::Kill)).err().context("there is none")?;
    ensure!(refused.to_string() == "worker-0: worker-0 has no service \"sshd\"; its only one is \"agent\"", "{refused}");
    Ok(())
}

fn a_container_is_killed_and_paused() -> Result<()> {
    let mut bed = Bed::new("container", 1)?;
    let machines = bed.machines()?;
    let id = "0a".repeat(32);
    let pid = bed.tell(WORKER, &format!("container {id}"))?;
    let living = || run(machines.living_containers(WORKER));
    ensure!(living()?.iter().eq([&id]), "{:?}", living()?);
    let container = Program::Container(id.clone());
    let state = |bed: &Bed| -> Result<String> {
        let status = bed.tell(WORKER, &format!("read /proc/{pid}/status"))?;
        Ok(status.lines().find_map(|line| line.strip_prefix("State:\t")).unwrap_or("gone").to_owned())
    };
    run(machines.signal(WORKER, &container, Signal::Pause))?;
    ensure!(state(&bed)?.starts_with('T'), "{}", state(&bed)?);
    run(machines.signal(WORKER, &container, Signal::Continue))?;
    ensure!(state(&bed)?.starts_with('S'), "{}", state(&bed)?);
    run(machines.signal(WORKER, &container, Signal::Pause))?;
    run(machines.signal(WORKER, &container, Signal::Kill))?;
    let end = Instant::now() + Duration::from_secs(2);
    while !living()?.is_empty() {
        ensure!(Instant::now() < end, "a paused container can be killed");
    }
    ensure!(bed.client.status()?.faults.is_empty(), "nothing is on record");
    let again = run(machines.signal(WORKER, &container, Signal::Kill)).err().context("it is dead")?;
    ensure!(matches!(again.downcast_ref(), Some(MachineError::State(_))), "{again}");
    let stop = run(machines.signal(WORKER, &container, Signal::Stop)).err().context("that is the kubelet's")?;
    ensure!(matches!(stop.downcast_ref(), Some(MachineError::Unsupported(_))), "{stop}");
    let unknown = run(machines.living_containers("worker-7")).err().context("it does not exist")?;
    ensure!(matches!(unknown.downcast_ref(), Some(MachineError::Unknown { .. })), "{unknown}");
    Ok(())
}
