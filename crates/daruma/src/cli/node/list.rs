//! `daruma node list`.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use daruma_host::supervisor::{Faults, MachineStatus};
use daruma_world::machines::{LinkEffect, LinkFault, PowerState, Pressure, Program, Signal};
use serde_json::json;

use crate::cli::cluster_machines::ClusterMachines;
use crate::components::hollow_nodes::protocol;

/// Simulated machines that are named one by one at most.
const MOST_NAMED: usize = 10;

/// Flags of `daruma node list`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Print JSON.
    #[arg(short, long, value_parser = ["json"])]
    output: Option<String>,
}

/// Lists machines and faults.
pub async fn run(flags: &Flags, machines: &ClusterMachines) -> Result<()> {
    let status = machines.real().status().await?;
    let theirs = match machines.simulated() {
        Some(machines) => Some(machines.status().await),
        None => None,
    };
    if flags.output.is_some() {
        let mut report = serde_json::to_value(&status)?;
        if let Some(theirs) = theirs {
            report["simulated"] = json!(theirs?);
        }
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table(&status.machines));
        let mut all = status.faults;
        match theirs {
            Some(Ok(theirs)) => {
                print!("\n{}", simulated(&theirs));
                all.links.extend(theirs.faults.links.into_iter().filter(|fault| !all.links.contains(fault)).collect::<Vec<_>>());
                all.pressures.extend(theirs.faults.pressures);
                all.programs.extend(theirs.faults.programs);
            }
            Some(Err(problem)) => println!("\nsimulated nodes: {problem}"),
            None => {}
        }
        print!("{}", faults(&all));
    }
    Ok(())
}

/// A machine's power in a word, as the supervisor says it.
pub fn word(power: PowerState) -> &'static str {
    match power {
        PowerState::On => "running",
        PowerState::Off => "off",
        PowerState::Hung => "hung",
    }
}

/// The simulated machines in a line, and those that do not run by name.
pub fn simulated(status: &protocol::Status) -> String {
    let (all, pid) = (status.machines.len(), status.pid);
    let mut text = format!("{all} simulated nodes in process {pid}: ");
    let running = status.machines.iter().filter(|machine| machine.power == PowerState::On).count();
    text += &if running == all { "all running".to_owned() } else { format!("{running} running") };
    for power in [PowerState::Off, PowerState::Hung] {
        let such: Vec<&str> =
            status.machines.iter().filter(|machine| machine.power == power).map(|machine| machine.name.as_str()).collect();
        if !such.is_empty() {
            let more = if such.len() > MOST_NAMED { ", …" } else { "" };
            text += &format!(", {} {} ({}{more})", such.len(), word(power), such[..such.len().min(MOST_NAMED)].join(", "));
        }
    }
    text.push('\n');
    text
}

/// Machines as a table.
pub fn table(machines: &[MachineStatus]) -> String {
    let mut text = format!("{:<16}{:<12}{:<16}{:<9}{}\n", "NAME", "STATE", "ADDRESS", "PID", "BOOT ID");
    for machine in machines {
        text += &format!(
            "{:<16}{:<12}{:<16}{:<9}{}\n",
            machine.name,
            machine.state.to_string(),
            machine.address.to_string(),
            machine.pid.map_or_else(|| "<none>".to_owned(), |pid| pid.to_string()),
            machine.boot_id.as_deref().unwrap_or("<none>"),
        );
    }
    text
}

/// What is broken, a line each; nothing where nothing is.
fn faults(faults: &Faults) -> String {
    if faults.is_empty() {
        return String::new();
    }
    let mut text = "\nBroken on purpose:\n".to_owned();
    let links = faults.links.iter().map(link);
    let pressures = faults.pressures.iter().map(|it| format!("{}: {}", it.machine, pressure(&it.pressure)));
    let programs = faults.programs.iter().map(|it| {
        let program = match &it.program {
            Program::Service(name) => name.clone(),
            Program::Container(id) => format!("container {}", id.get(..12).unwrap_or(id)),
        };
        format!("{}: {program} is {}", it.machine, if it.undo == Signal::Start { "stopped" } else { "paused" })
    });
    for line in links.chain(pressures).chain(programs) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn link(fault: &LinkFault) -> String {
    let names = |names: &Option<std::collections::BTreeSet<String>>| match names {
        Some(names) => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        None => "everybody".to_owned(),
    };
    let effect = match fault.effect {
        LinkEffect::Cut => "cut".to_owned(),
        LinkEffect::Loss(percent) => format!("{percent} % lost"),
        LinkEffect::Delay(delay) => format!("{delay:?} late"),
        LinkEffect::Bandwidth(bits) => format!("{bits} bit/s"),
    };
    format!("{} to {}: {effect}", names(&fault.from), names(&fault.to))
}

fn pressure(pressure: &Pressure) -> String {
    match pressure {
        Pressure::Disk { leave_bytes } => format!("the disk is full but for {leave_bytes} bytes"),
        Pressure::Inodes { leave } => format!("inodes are used up but for {leave}"),
        Pressure::Memory { bytes } => format!("{bytes} bytes of memory are held"),
        Pressure::Cpu { processes } => format!("{processes} processes spin"),
        Pressure::Pids { leave } => format!("processes are used up but for {leave}"),
        Pressure::SlowDisk { delay } => format!("every durable write takes {delay:?} longer"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daruma_host::supervisor::{PressureStatus, ProgramStatus};

    use super::*;

    #[test]
    fn simulated_machines_take_a_line() {
        let machine = |index: u32, power| daruma_world::machines::MachineInfo {
            name: daruma_cluster::simulated::name(index),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            power,
            cpu_millis: 1,
            memory_bytes: 1,
        };
        let check = |off: u32, hung: u32, on: u32, wanted: &str| {
            let power = |index| match index {
                index if index < off => PowerState::Off,
                index if index < off + hung => PowerState::Hung,
                _ => PowerState::On,
            };
            let machines = (0..off + hung + on).map(|index| machine(index, power(index))).collect();
            let status = protocol::Status { pid: 7, machines, faults: Faults::default() };
            assert_eq!(simulated(&status), format!("{} simulated nodes in process 7: {wanted}\n", off + hung + on));
        };
        check(0, 0, 3, "all running");
        check(1, 1, 1, "1 running, 1 off (simulated-0), 1 hung (simulated-1)");
        let many: Vec<String> = (0..10).map(daruma_cluster::simulated::name).collect();
        check(12, 0, 0, &format!("0 running, 12 off ({}, …)", many.join(", ")));
    }

    #[test]
    fn faults_are_told_in_words() {
        let from = Some(["worker-0".to_owned(), "worker-1".to_owned()].into());
        let broken = Faults {
            links: vec![
                LinkFault { from: from.clone(), to: None, effect: LinkEffect::Cut },
                LinkFault { from: None, to: from, effect: LinkEffect::Delay(Duration::from_millis(50)) },
            ],
            pressures: vec![PressureStatus { id: 1, machine: "worker-0".into(), pressure: Pressure::Cpu { processes: 2 } }],
            programs: vec![ProgramStatus {
                machine: "worker-1".into(),
                program: Program::Service("kubelet".into()),
                undo: Signal::Start,
            }],
        };
        assert_eq!(
            faults(&broken),
            "\nBroken on purpose:\n  worker-0, worker-1 to everybody: cut\n  everybody to worker-0, worker-1: 50ms late\n  \
             worker-0: 2 processes spin\n  worker-1: kubelet is stopped\n"
        );
        assert_eq!(faults(&Faults::default()), "");
    }
}
