//! `daruma node`: power switches, cables, and machines that come and go.

mod add;
mod add_simulated;
mod links;
mod list;
mod remove;

use anyhow::Result;
use clap::{Args, Subcommand};
use daruma_cluster::simulated as simulated_nodes;
use daruma_world::machines::{MachineError, Machines, PowerState};

use super::Which;
use super::cluster_machines::ClusterMachines;
pub use list::{simulated, table};

/// Flags of `daruma node`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    pub which: Which,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the machines and what is broken on purpose.
    List(list::Flags),
    /// Make further workers, or simulated nodes, and wait until they are Ready.
    Add(add::Flags),
    /// Remove a worker or a simulated node: its power is cut, its disk and its Node object are deleted.
    ///
    /// Pods are not moved away first; `kubectl drain` does that. What runs there is lost, and controllers
    /// replace it as after any loss of a node.
    Remove(remove::Flags),
    /// Pull the plug: nothing that was not synced to disk is kept.
    Off(Machine),
    /// Switch a machine on, and wait until its init runs.
    On(Machine),
    /// Pull the plug and switch on again after the boot time.
    Reset(Machine),
    /// Ask the machine to shut down and start again.
    ///
    /// Init ends the kubelet, then all other processes, and brings the disk to rest.
    Reboot(Machine),
    /// Ask the machine to shut down and stay off.
    ///
    /// Init ends the kubelet, then all other processes, and brings the disk to rest. With
    /// `--set kubelet.shutdown-grace-period=…` the kubelet ends its pods in order first.
    Shutdown(Machine),
    /// Freeze the machine: nothing in it moves, its link goes dark.
    Hang(Machine),
    /// Let a frozen machine go on.
    Resume(Machine),
    /// Cut the machine off the network, or off some of the others.
    ///
    /// Packets are dropped at the switch, both ways; the cut outlives a reboot of the machine. Pods share the fate of
    /// their machine. `daruma node mend` takes it back.
    Cut(links::Cut),
    /// Mend a machine's links, or all of them.
    Mend(links::Mend),
}

#[derive(Debug, Args)]
struct Machine {
    /// The machine, e.g. worker-1.
    #[arg(value_name = "NAME")]
    machine: String,
}

/// Works a power switch, a cable or the number of machines.
pub fn run(flags: &Flags) -> Result<()> {
    let machines = ClusterMachines::connect(&flags.which)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(perform(flags, &machines))
}

async fn perform(flags: &Flags, machines: &ClusterMachines) -> Result<()> {
    match &flags.verb {
        Verb::List(list) => return list::run(list, machines).await,
        Verb::Add(add) => return add::run(&flags.which, add, machines.real()).await,
        Verb::Remove(remove) => return remove::run(&flags.which, remove, machines).await,
        Verb::Cut(cut) => return links::cut(cut, machines).await,
        Verb::Mend(mend) => return links::mend(mend, machines).await,
        _ => {}
    }
    let name = work(&flags.verb, machines).await?;
    println!("{name} is {}", state(name, machines).await?);
    Ok(())
}

/// How a machine is now, in a word.
async fn state(name: &str, machines: &ClusterMachines) -> Result<String, MachineError> {
    if simulated_nodes::is_name(name) {
        let power = machines.list().await?.iter().find(|machine| machine.name == name).map(|machine| machine.power);
        return Ok(list::word(power.unwrap_or(PowerState::Off)).to_owned());
    }
    let status = machines.real().status().await?;
    Ok(status.machine(name).map_or_else(|| "off".to_owned(), |machine| machine.state.to_string()))
}

/// Works a power switch; gives whose.
async fn work<'a>(verb: &'a Verb, machines: &ClusterMachines) -> Result<&'a str, MachineError> {
    let (name, done) = match verb {
        Verb::Off(Machine { machine }) => (machine, machines.power_off(machine, false)),
        Verb::On(Machine { machine }) => (machine, machines.power_on(machine)),
        Verb::Reset(Machine { machine }) => (machine, machines.reset(machine)),
        Verb::Reboot(Machine { machine }) => (machine, machines.reboot(machine)),
        Verb::Shutdown(Machine { machine }) => (machine, machines.shutdown(machine)),
        Verb::Hang(Machine { machine }) => (machine, machines.hang(machine)),
        Verb::Resume(Machine { machine }) => (machine, machines.resume(machine)),
        Verb::List(_) | Verb::Add(_) | Verb::Remove(_) | Verb::Cut(_) | Verb::Mend(_) => {
            unreachable!("these are carried out by their own files")
        }
    };
    done.await.map(|()| name.as_str())
}
