//! The cluster's switch: a bridge in a network namespace that lives as long as the supervisor.
//!
//! The namespace is held by an open file only. When the supervisor ends, however it ends, the kernel
//! removes the namespace with its bridge and ports, and so the host's end of the uplink.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use daruma_world::links::{MacAddress, Prefix};
use daruma_world::machines::LinkFault;

use super::link_faults::delay::Delayer;
use super::subnet::Subnet;
use super::{CARD, Doing, MachineError, link_faults};
use crate::netlink::address::Believed;
use crate::netlink::link::{self, End, Place};
use crate::netlink::namespace::{self, set_kernel_parameter};
use crate::netlink::{Socket, address};

const BRIDGE: &str = "br0";
const UPLINK: &str = "uplink";
/// Queues of packets that are held back. A change of faults uses the other half, because a queue has one owner.
const FIRST_QUEUES: [u16; 2] = [0, 0x4000];

/// A running switch.
#[derive(Debug)]
pub struct Switch {
    namespace: File,
    inside: Socket,
    uplink: String,
    subnet: Subnet,
    faults: Vec<LinkFault>,
    delayer: Option<Delayer>,
    generation: usize,
}

/// The switch-side name of a machine's port.
pub fn port_name(machine: &str) -> String {
    let plain = format!("m-{machine}");
    if plain.len() <= 15 {
        return plain;
    }
    format!("m-{:012x}", super::spec::fnv(machine.as_bytes()) & 0xffff_ffff_ffff)
}

impl Switch {
    /// Makes the namespace, the bridge and the uplink `uplink` with the host's address of `subnet`.
    ///
    /// Must be called in a single-threaded process: the thread visits the new namespace.
    pub fn create(uplink: &str, subnet: Subnet) -> Result<Self, MachineError> {
        let furnished = namespace::visit_new(Self::furnish);
        let (namespace, inside) = furnished.doing(|| "making the bridge of the switch".to_owned())?;
        let mut switch =
            Self { namespace, inside, uplink: uplink.to_owned(), subnet, faults: Vec::new(), delayer: None, generation: 0 };
        let connected = switch.connect_host().doing(|| format!("connecting the host by {uplink}"));
        if connected.is_err() {
            // The first error is the one to report.
            let _ = clean(uplink, subnet);
        }
        connected.map(|()| switch)
    }

    fn furnish() -> io::Result<(File, Socket)> {
        let namespace = namespace::current()?;
        for group in ["all", "default"] {
            set_kernel_parameter(&format!("ipv6/conf/{group}/disable_ipv6"), "1", true)?;
        }
        for table in ["iptables", "ip6tables", "arptables"] {
            set_kernel_parameter(&format!("bridge/bridge-nf-call-{table}"), "0", true)?;
        }
        let mut inside = Socket::route()?;
        link::set_up(&mut inside, "lo", true)?;
        link::add_bridge(&mut inside, BRIDGE)?;
        link::set_up(&mut inside, BRIDGE, true)?;
        Ok((namespace, inside))
    }

    fn connect_host(&mut self) -> io::Result<()> {
        let mut host = Socket::route()?;
        link::delete(&mut host, &self.uplink)?;
        self.subnet.reserve(&mut host)?;
        let home = namespace::current()?;
        let hash = super::spec::fnv(self.uplink.as_bytes()).to_be_bytes();
        let mac = [0x02, 0xda, hash[4], hash[5], hash[6], hash[7]];
        add_port(&mut self.inside, UPLINK, &self.uplink, mac, Place::Namespace(home.as_fd()))?;
        set_kernel_parameter(&format!("ipv6/conf/{}/disable_ipv6", self.uplink), "1", true)?;
        set_kernel_parameter(&format!("ipv4/conf/{}/rp_filter", self.uplink), "2", true)?;
        address::replace(&mut host, &self.uplink, Prefix::new(self.subnet.host(), Subnet::PREFIX))?;
        link::set_up(&mut host, &self.uplink, true)
    }

    /// Plugs in a machine: its port here, its card `eth0` in the network namespace of process `pid`.
    pub fn plug(&mut self, machine: &str, mac: MacAddress, pid: i32) -> Result<(), MachineError> {
        let port = port_name(machine);
        let plugged = link::delete(&mut self.inside, &port)
            .and_then(|()| add_port(&mut self.inside, &port, CARD, mac, Place::Process(pid)));
        plugged.doing(|| format!("connecting {machine} to the switch"))
    }

    /// Removes a machine's port and card.
    pub fn unplug(&mut self, machine: &str) -> Result<(), MachineError> {
        link::delete(&mut self.inside, &port_name(machine)).doing(|| format!("disconnecting {machine} from the switch"))
    }

    /// Takes a machine's port up or down: with the port down not one packet passes.
    pub fn set_port(&mut self, machine: &str, up: bool) -> Result<(), MachineError> {
        let step = || format!("taking the switch port of {machine} {}", if up { "up" } else { "down" });
        link::set_up(&mut self.inside, &port_name(machine), up).doing(step)
    }

    /// Tells the host where a machine is that has booted, as the machine would in a network of its own. The kernel asks once a
    /// second, and whoever asked for a machine before it was there would wait for the next time.
    pub fn announce(&mut self, machine: &str, address: Ipv4Addr, mac: MacAddress) -> Result<(), MachineError> {
        let told = Socket::route()
            .and_then(|mut host| address::replace_neighbour(&mut host, &self.uplink, address, mac, Believed::UntilUsed));
        told.doing(|| format!("telling the host where {machine} is"))
    }

    /// The faults in force.
    pub fn link_faults(&self) -> &[LinkFault] {
        &self.faults
    }

    /// Replaces all faults of the links, or changes nothing. They outlive machines: a cable stays out over a reboot.
    pub fn set_link_faults(&mut self, faults: Vec<LinkFault>) -> Result<(), MachineError> {
        if faults.is_empty() && self.faults.is_empty() {
            // A kernel that cannot break links need not mend them.
            return Ok(());
        }
        let plan = link_faults::plan(&faults, port_name);
        let generation = self.generation + 1;
        let first_queue = FIRST_QUEUES[generation % FIRST_QUEUES.len()];
        let delayer = if plan.delays.is_empty() {
            None
        } else {
            let started = Delayer::start(&self.namespace, first_queue, &plan.delays);
            Some(started.doing(|| "holding packets back".to_owned())?)
        };
        let done = namespace::visit(&self.namespace, || link_faults::commit(&plan, first_queue, &mut Socket::netfilter()?));
        done.doing(|| "changing the rules of the switch".to_owned())?;
        (self.faults, self.delayer, self.generation) = (faults, delayer, generation);
        Ok(())
    }

    /// Starts what has ended and should not have.
    pub fn tend(&mut self) -> Result<(), MachineError> {
        if self.delayer.as_mut().is_some_and(Delayer::has_ended) {
            return self.set_link_faults(self.faults.clone());
        }
        Ok(())
    }

    /// Makes a further network namespace with a card `eth0` that is plugged in as a machine's, for a program that is
    /// none. It goes, with its port, when the last one that has it open ends.
    pub(crate) fn plug_program(&mut self, program: &str) -> Result<File, MachineError> {
        let plugged = namespace::visit_new(|| {
            for group in ["all", "default"] {
                set_kernel_parameter(&format!("ipv6/conf/{group}/disable_ipv6"), "1", true)?;
            }
            link::set_up(&mut Socket::route()?, "lo", true)?;
            namespace::current()
        });
        let plugged = plugged.and_then(|namespace| {
            let hash = super::spec::fnv(format!("{}/{program}", self.uplink).as_bytes()).to_be_bytes();
            let mac = [0x02, 0xdb, hash[4], hash[5], hash[6], hash[7]];
            add_port(&mut self.inside, &port_name(program), CARD, mac, Place::Namespace(namespace.as_fd()))?;
            namespace::visit(&namespace, || link::set_up(&mut Socket::route()?, CARD, true))?;
            Ok(namespace)
        });
        plugged.doing(|| format!("connecting {program} to the switch"))
    }

    /// The switch's namespace as a path that other processes can open while this one lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd())
    }

    /// Removes the uplink and the route. The namespace goes when this value is dropped.
    pub fn remove(mut self) -> Result<(), MachineError> {
        link::delete(&mut self.inside, UPLINK).doing(|| "removing the uplink".to_owned())?;
        clean(&self.uplink, self.subnet)
    }
}

/// Makes a port of the bridge, with a cable to the link `far` elsewhere.
fn add_port(inside: &mut Socket, port: &str, far: &str, mac: MacAddress, place: Place<'_>) -> io::Result<()> {
    let (near, far) = (End { name: port, mac: None, mtu: None }, End { name: far, mac: Some(mac), mtu: None });
    link::add_veth(inside, &near, &far, place)?;
    link::plug(inside, port, BRIDGE)?;
    link::set_up(inside, port, true)
}

/// Removes what a switch leaves on the host when its supervisor was killed.
pub fn clean(uplink: &str, subnet: Subnet) -> Result<(), MachineError> {
    let cleaned = Socket::route().and_then(|mut host| {
        link::delete(&mut host, uplink)?;
        subnet.release(&mut host)
    });
    cleaned.doing(|| format!("removing the link {uplink} and its route"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_fit_and_differ() {
        let long = |last: char| format!("{}{last}", "worker-with-a-long-name-".repeat(2));
        for name in ["controller-0".to_owned(), "worker-10000".to_owned(), long('a')] {
            assert!(port_name(&name).len() <= 15, "{name}");
        }
        assert_eq!(port_name("worker-0"), "m-worker-0");
        assert_ne!(port_name(&long('a')), port_name(&long('b')));
    }
}
