//! Machines that run out of something.
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daruma_host::supervisor::{Request, State};
use daruma_world::machines::{Ability, Machines, Pressure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Test;
use crate::agent;
use crate::bed::{Bed, run};

pub const ALL: &[Test] = &[
    ("pressure::a_disk_is_filled_and_freed", a_disk_is_filled_and_freed),
    ("pressure::inodes_run_out", inodes_run_out),
    ("pressure::memory_is_held", memory_is_held),
    ("pressure::a_machine_full_to_the_brim_lives", a_machine_full_to_the_brim_lives),
    ("pressure::processes_run_out", processes_run_out),
    ("pressure::spinning_takes_the_processors", spinning_takes_the_processors),
    ("pressure::files_stay_without_power", files_stay_without_power),
    ("pressure::a_disk_takes_its_time", a_disk_takes_its_time),
];

const WORKER: &str = "worker-0";

/// Bytes and inodes that are free.
fn free(bed: &Bed) -> Result<(u64, u64)> {
    let answer = bed.tell(WORKER, "free /var")?;
    let (bytes, inodes) = answer.split_once(' ').with_context(|| answer.clone())?;
    Ok((bytes.parse()?, inodes.parse()?))
}

fn a_disk_is_filled_and_freed() -> Result<()> {
    let mut bed = Bed::new("fulldisk", 1)?;
    let machines = bed.machines()?;
    let before = free(&bed)?;
    let pressed = Instant::now();
    let id = run(machines.press(WORKER, Pressure::Disk { leave_bytes: 5 << 20 }))?;
    println!("the disk was filled in {:?}", pressed.elapsed());
    let during = free(&bed)?.0;
    ensure!((4 << 20..=5 << 20).contains(&during), "{during} bytes are free");
    ensure!(bed.client.status()?.faults.pressures.iter().map(|it| it.id).eq([id]), "it is on record");
    // Another process than the one that pressed.
    run(bed.machines()?.release(WORKER, id))?;
    let after = free(&bed)?;
    ensure!(before.0 - after.0 < 1 << 20, "free before: {before:?}, after: {after:?}");
    ensure!(bed.client.status()?.faults.is_empty(), "nothing is on record");
    run(machines.release(WORKER, id))?;
    Ok(())
}

fn inodes_run_out() -> Result<()> {
    let bed = Bed::new("inodes", 1)?;
    let machines = bed.machines()?;
    let before = free(&bed)?.1;
    let pressed = Instant::now();
    let id = run(machines.press(WORKER, Pressure::Inodes { leave: 100 }))?;
    println!("{before} inodes were used in {:?}", pressed.elapsed());
    let during = free(&bed)?.1;
    ensure!((90..=100).contains(&during), "{during} inodes are free");
    run(machines.release(WORKER, id))?;
    let after = free(&bed)?.1;
    ensure!(before - after < 10, "{after} inodes are free afterwards");
    Ok(())
}

fn memory(bed: &Bed) -> Result<u64> {
    std::thread::sleep(Duration::from_millis(2100));
    let text = bed.tell(WORKER, "read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("a line")?;
    Ok(line.split_whitespace().next().context("a figure")?.parse::<u64>()? << 10)
}

fn memory_is_held() -> Result<()> {
    let mut bed = Bed::new("held", 1)?;
    let machines = bed.machines()?;
    let before = memory(&bed)?;
    let id = run(machines.press(WORKER, Pressure::Memory { bytes: 90 << 20 }))?;
    let during = memory(&bed)?;
    ensure!(before - during > 80 << 20, "available before: {before}, during: {during}");
    // The kernel takes the greedy one, not what holds the memory.
    let ended = bed.tell(WORKER, "hog")?;
    ensure!(ended.contains("signal: 9"), "the hog ended with {ended}");
    ensure!(bed.status(WORKER)?.state == State::Running && before - memory(&bed)? > 80 << 20, "it is still held");
    run(machines.release(WORKER, id))?;
    let after = memory(&bed)?;
    ensure!(before.abs_diff(after) < 20 << 20, "available before: {before}, after: {after}");
    Ok(())
}

/// What was given back is taken again, after a while.
fn until_full(bed: &Bed) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while memory(bed)? > 40 << 20 {
        ensure!(Instant::now() < end, "{} bytes are available", memory(bed)?);
    }
    Ok(())
}

fn a_machine_full_to_the_brim_lives() -> Result<()> {
    let mut bed = Bed::new("brim", 1)?;
    let machines = bed.machines()?;
    let (before, agent) = (bed.status(WORKER)?, bed.tell(WORKER, "pid")?);
    // More than the machine has.
    let id = run(machines.press(WORKER, Pressure::Memory { bytes: 1 << 30 }))?;
    until_full(&bed)?;
    for _ in 0..3 {
        let ended = bed.tell(WORKER, "hog")?;
        ensure!(ended.contains("signal: 9"), "the hog ended with {ended}");
        // What the machine's own programs need, the ballast gives back.
        ensure!(bed.tell(WORKER, "take 60")? == (60 << 20).to_string(), "the agent has it");
    }
    until_full(&bed)?;
    ensure!(bed.status(WORKER)? == before && bed.tell(WORKER, "pid")? == agent, "neither PID 1 nor its command ended");
    run(machines.release(WORKER, id))?;
    ensure!(memory(&bed)? > 80 << 20, "{} bytes are available afterwards", memory(&bed)?);
    Ok(())
}

fn processes_run_out() -> Result<()> {
    let bed = Bed::new("pids", 1)?;
    let machines = bed.machines()?;
    let id = run(machines.press(WORKER, Pressure::Pids { leave: 0 }))?;
    // The agent cannot even start the thread that would answer.
    let end = Instant::now() + Duration::from_secs(2);
    while bed.tell(WORKER, "thread").is_ok_and(|answer| answer == "true") {
        ensure!(Instant::now() < end, "threads can still be started");
    }
    run(machines.release(WORKER, id))?;
    let end = Instant::now() + Duration::from_secs(5);
    while !bed.tell(WORKER, "thread").is_ok_and(|answer| answer == "true") {
        ensure!(Instant::now() < end, "threads cannot be started afterwards");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn spinning_takes_the_processors() -> Result<()> {
    let bed = Bed::new("spin", 1)?;
    let machines = bed.machines()?;
    let used = |bed: &Bed| -> Result<u64> {
        let first = bed.tell(WORKER, "cpu")?.parse::<u64>()?;
        std::thread::sleep(Duration::from_millis(500));
        Ok((bed.tell(WORKER, "cpu")?.parse::<u64>()? - first) / 5_000_000)
    };
    let id = run(machines.press(WORKER, Pressure::Cpu { processes: 4 }))?;
    let during = used(&bed)?;
    run(machines.release(WORKER, id))?;
    let after = used(&bed)?;
    println!("CPU: {during} % during, {after} % after");
    // The machine may use 150 %, of a host that others use too.
    ensure!(during > 15 && during < 190 && during > 3 * after, "{during} % during, {after} % after");
    Ok(())
}

fn files_stay_without_power() -> Result<()> {
    let mut bed = Bed::new("stay", 2)?;
    let machines = bed.machines()?;
    let disk = run(machines.press(WORKER, Pressure::Disk { leave_bytes: 20 << 20 }))?;
    run(machines.press(WORKER, Pressure::Memory { bytes: 20 << 20 }))?;
    run(machines.press("worker-1", Pressure::Cpu { processes: 1 }))?;
    run(machines.reset(WORKER))?;
    bed.ready(WORKER)?;
    let left = bed.client.status()?.faults.pressures;
    ensure!(left.iter().map(|it| it.machine.as_str()).eq([WORKER, "worker-1"]), "memory is free without power: {left:?}");
    ensure!(free(&bed)?.0 < 22 << 20, "the disk is still full");
    // A supervisor that is killed takes processes and memory with it, but not files.
    let supervisor = bed.client.status()?.supervisor_pid;
    kill(Pid::from_raw(supervisor as i32), Signal::SIGKILL)?;
    while bed.client.status().is_ok() {}
    std::thread::sleep(Duration::from_millis(200));
    bed.launch_again()?;
    bed.ready(WORKER)?;
    let left = bed.client.status()?.faults.pressures;
    ensure!(left.iter().map(|it| it.id).eq([disk]), "{left:?}");
    // Released while it is off, the files go at the next boot.
    bed.ask(Request::Off { machine: WORKER.to_owned() })?;
    run(machines.release(WORKER, disk))?;
    run(machines.power_on(WORKER))?;
    bed.ready(WORKER)?;
    ensure!(free(&bed)?.0 > 100 << 20, "the disk is free again");
    Ok(())
}

fn a_disk_takes_its_time() -> Result<()> {
    // A transaction of the store makes ten requests, what is written here makes two.
    let slow = Pressure::SlowDisk { delay: Duration::from_secs(4) };
    let mut bed = Bed::new("slowdisk", 2)?;
    let machines = bed.machines()?;
    if let Err(missing) = machines.supports(&Ability::Pressure(slow)) {
        println!("skipped: {missing}");
        return Ok(());
    }
    let durable_write = |bed: &Bed, name: &str| -> Result<Duration> {
        let begun = Instant::now();
        ensure!(bed.tell(name, "write-synced /var/kept text")? == "ok", "it is written");
        Ok(begun.elapsed())
    };
    durable_write(&bed, WORKER)?;
    let before = durable_write(&bed, WORKER)?;
    let id = run(machines.press(WORKER, slow))?;
    let during = durable_write(&bed, WORKER)?;
    let other = durable_write(&bed, "worker-1")?;
    println!("a durable write took {before:?}, on the slow disk {during:?}, on another machine's {other:?}");
    ensure!(during > Duration::from_millis(250) && during < Duration::from_secs(5), "{during:?} on the slow disk");
    ensure!(other < during / 2, "{other:?} on another machine's");
    run(machines.release(WORKER, id))?;
    let after = durable_write(&bed, WORKER)?;
    ensure!(after < during / 2, "{after:?} afterwards");
    ensure!(bed.client.status()?.faults.is_empty(), "nothing is on record");

    // Power does not wait for a disk, however slow.
    run(machines.press(WORKER, Pressure::SlowDisk { delay: Duration::from_secs(80) }))?;
    let address = bed.address(WORKER)?;
    let waiting = std::thread::spawn(move || agent::tell(address, "write-synced /var/lost text"));
    std::thread::sleep(Duration::from_millis(300));
    let cut = Instant::now();
    bed.ask(Request::Off { machine: WORKER.to_owned() })?;
    ensure!(cut.elapsed() < Duration::from_secs(3), "the power was cut after {:?}", cut.elapsed());
    drop(waiting);
    run(machines.power_on(WORKER))?;
    bed.ready(WORKER)?;
    ensure!(bed.client.status()?.faults.is_empty(), "a slow disk ends with the power");
    ensure!(durable_write(&bed, WORKER)? < during / 2, "quick again");
    Ok(())
}
