//! `daruma node list`.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use daruma_host::machines::SupervisedMachines;
use daruma_host::supervisor::{Faults, MachineStatus};
use daruma_world::machines::{LinkEffect, LinkFault, Pressure, Program, Signal};

/// Flags of `daruma node list`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Print JSON.
    #[arg(short, long, value_parser = ["json"])]
    output: Option<String>,
}

/// Lists machines and faults.
pub async fn run(flags: &Flags, machines: &SupervisedMachines) -> Result<()> {
    let status = machines.status().await?;
    if flags.output.is_some() {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}{}", table(&status.machines), faults(&status.faults));
    }
    Ok(())
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
