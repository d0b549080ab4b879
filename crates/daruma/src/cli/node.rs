//! `daruma node`: power switches and cables.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use daruma_host::supervisor::{Client, MachineStatus, Request, State};

use super::Which;

/// Flags of `daruma node`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the machines.
    List {
        /// Print JSON.
        #[arg(short, long, value_parser = ["json"])]
        output: Option<String>,
    },
    /// Pull the plug: nothing that was not synced to disk is kept.
    Off(Machine),
    /// Switch a machine on.
    On(Machine),
    /// Pull the plug and switch on again after the boot time.
    Reset(Machine),
    /// Ask the machine to shut down and start again.
    Reboot(Machine),
    /// Ask the machine to shut down and stay off.
    Shutdown(Machine),
    /// Freeze the machine; its link goes dark.
    Hang(Machine),
    /// Let a frozen machine go on.
    Resume(Machine),
    /// Cut the machine's network cable.
    Cut {
        #[command(flatten)]
        machine: Machine,
        /// What no longer passes.
        #[arg(long, value_parser = ["both", "in", "out"], default_value = "both")]
        direction: String,
    },
    /// Mend the machine's network cable.
    Mend(Machine),
}

#[derive(Debug, Args)]
struct Machine {
    /// The machine, e.g. worker-1.
    #[arg(value_name = "NAME")]
    machine: String,
}

/// Works a power switch.
pub fn run(flags: &Flags) -> Result<()> {
    let mut client = Client::connect(&flags.which.root, &flags.which.name)?;
    let name = |machine: &Machine| machine.machine.clone();
    let request = match &flags.verb {
        Verb::List { output } => {
            let status = client.ask(&Request::List)?;
            if output.is_some() {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                print!("{}", table(&status.machines));
            }
            return Ok(());
        }
        Verb::Off(machine) => Request::Off { machine: name(machine) },
        Verb::On(machine) => Request::On { machine: name(machine) },
        Verb::Reset(machine) => Request::Reset { machine: name(machine) },
        Verb::Reboot(machine) => Request::Reboot { machine: name(machine) },
        Verb::Shutdown(machine) => Request::Shutdown { machine: name(machine) },
        Verb::Hang(machine) => Request::Hang { machine: name(machine) },
        Verb::Resume(machine) => Request::Resume { machine: name(machine) },
        Verb::Cut { machine, direction } => {
            let direction = serde_json::from_value(direction.as_str().into())?;
            Request::Cut { machine: name(machine), direction }
        }
        Verb::Mend(machine) => Request::Mend { machine: name(machine) },
    };
    let status = client.ask(&request)?;
    let wanted = match &flags.verb {
        Verb::Shutdown(machine) => Some((name(machine), State::Off)),
        Verb::On(machine) => Some((name(machine), State::Running)),
        _ => None,
    };
    if let Some((machine, state)) = wanted {
        client.wait_for(&machine, state, Duration::from_secs(120))?;
    }
    let machine = match &flags.verb {
        Verb::Off(machine)
        | Verb::On(machine)
        | Verb::Reset(machine)
        | Verb::Reboot(machine)
        | Verb::Shutdown(machine)
        | Verb::Hang(machine)
        | Verb::Resume(machine)
        | Verb::Mend(machine)
        | Verb::Cut { machine, .. } => name(machine),
        Verb::List { .. } => return Ok(()),
    };
    let now = client.status().map(|now| now.machine(&machine).map(|found| found.state)).ok().flatten();
    let state = now.or_else(|| status.machine(&machine).map(|found| found.state));
    println!("{machine} is {}", state.map_or_else(|| "gone".to_owned(), |state| state.to_string()));
    Ok(())
}

/// Machines as a table.
pub fn table(machines: &[MachineStatus]) -> String {
    let mut text = format!("{:<16}{:<12}{:<16}{:<9}{}\n", "NAME", "STATE", "ADDRESS", "PID", "BOOT ID");
    for machine in machines {
        let cut = machine.cut.map(|_| " (link cut)").unwrap_or_default();
        text += &format!(
            "{:<16}{:<12}{:<16}{:<9}{}{cut}\n",
            machine.name,
            machine.state.to_string(),
            machine.address.to_string(),
            machine.pid.map_or_else(|| "<none>".to_owned(), |pid| pid.to_string()),
            machine.boot_id.as_deref().unwrap_or("<none>"),
        );
    }
    text
}
