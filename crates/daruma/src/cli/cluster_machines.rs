//! All machines of a cluster that is up, real and simulated ones, as one hand on the switches.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use daruma_cluster::simulated;
use daruma_host::machines::SupervisedMachines;
use daruma_world::Net;
use daruma_world::machines::{Ability, LinkFault, MachineError, MachineInfo, Machines, Pressure, PressureId, Program, Signal};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::Which;
use super::cluster_directory::ClusterDirectory;
use crate::components::hollow_nodes::SimulatedMachines;

type Answer<T> = BoxFuture<'static, Result<T, MachineError>>;

/// See the module. Cheap to clone; must be used inside a tokio runtime.
#[derive(Debug, Clone)]
pub struct ClusterMachines {
    real: SupervisedMachines,
    simulated: Option<SimulatedMachines>,
}

impl ClusterMachines {
    /// The machines of the chosen cluster.
    ///
    /// # Errors
    /// It is not up.
    pub fn connect(which: &Which) -> Result<Self> {
        let real = SupervisedMachines::connect(&which.root, &which.name)?;
        let directory = ClusterDirectory::of(which);
        let has_simulated = directory.shape()?.is_some_and(|shape| simulated::count(&shape) > 0);
        Ok(Self { real, simulated: has_simulated.then(|| SimulatedMachines::of(directory.path())) })
    }

    /// The real ones.
    pub fn real(&self) -> &SupervisedMachines {
        &self.real
    }

    /// The simulated ones, where the cluster has some.
    pub fn simulated(&self) -> Option<&SimulatedMachines> {
        self.simulated.as_ref()
    }

    /// Whose switch the machine of this name has.
    fn of(&self, name: &str) -> &dyn Machines {
        match &self.simulated {
            Some(simulated) if simulated::is_name(name) => simulated,
            _ => &self.real,
        }
    }

    /// Cuts a machine's power and removes it with its disk.
    pub fn remove(&self, name: &str) -> Answer<()> {
        match &self.simulated {
            Some(simulated) if simulated::is_name(name) => simulated.remove(name),
            _ => self.real.remove(name),
        }
    }

    /// The faults of links in force. Those that concern both kinds of machines are there once for each.
    pub fn link_faults(&self) -> Answer<Vec<LinkFault>> {
        let machines = self.clone();
        async move {
            let mut faults = machines.real.status().await?.faults.links;
            if let Some(simulated) = &machines.simulated {
                let theirs = simulated.status().await?.faults.links;
                faults.extend(theirs.into_iter().filter(|fault| !faults.contains(fault)).collect::<Vec<_>>());
            }
            Ok(faults)
        }
        .boxed()
    }

    /// Takes back whatever is broken, beside machines that are off. Gives what was done, in words.
    pub async fn undo(&self) -> Result<Vec<String>, MachineError> {
        let mut done = self.real.undo().await?;
        if let Some(simulated) = &self.simulated {
            done.extend(simulated.undo().await?);
        }
        Ok(done)
    }
}

/// What of a fault concerns the machines that `keep` names; `None` where nothing does.
fn restricted(fault: &LinkFault, keep: impl Fn(&str) -> bool) -> Option<LinkFault> {
    let kept = |names: &Option<BTreeSet<String>>| match names {
        None => Some(None),
        Some(names) => {
            let names: BTreeSet<String> = names.iter().filter(|name| keep(name)).cloned().collect();
            (!names.is_empty()).then_some(Some(names))
        }
    };
    Some(LinkFault { from: kept(&fault.from)?, to: kept(&fault.to)?, effect: fault.effect })
}

/// The faults of the real switch, and of the simulated cables: those know the controllers, too.
fn parted(faults: &[LinkFault]) -> (Vec<LinkFault>, Vec<LinkFault>) {
    let real = faults.iter().filter_map(|fault| restricted(fault, |name| !simulated::is_name(name)));
    let names_theirs = |fault: &LinkFault| {
        let sides = [&fault.from, &fault.to];
        sides.into_iter().any(|side| side.as_ref().is_none_or(|names| names.iter().any(|name| simulated::is_name(name))))
    };
    let known = |name: &str| simulated::is_name(name) || name == "controller-0";
    let theirs = faults.iter().filter(|fault| names_theirs(fault)).filter_map(|fault| restricted(fault, known));
    (real.collect(), theirs.collect())
}

impl Machines for ClusterMachines {
    fn list(&self) -> Answer<Vec<MachineInfo>> {
        let machines = self.clone();
        async move {
            let mut all = machines.real.list().await?;
            if let Some(simulated) = &machines.simulated {
                all.extend(simulated.list().await?);
                all.sort_by(|a, b| a.name.cmp(&b.name));
            }
            Ok(all)
        }
        .boxed()
    }

    /// What real machines can do: the simulated ones can do all of it.
    fn supports(&self, ability: &Ability<'_>) -> Result<(), MachineError> {
        self.real.supports(ability)
    }

    fn power_off(&self, name: &str, torn: bool) -> Answer<()> {
        self.of(name).power_off(name, torn)
    }

    fn power_on(&self, name: &str) -> Answer<()> {
        self.of(name).power_on(name)
    }

    fn reset(&self, name: &str) -> Answer<()> {
        self.of(name).reset(name)
    }

    fn shutdown(&self, name: &str) -> Answer<()> {
        self.of(name).shutdown(name)
    }

    fn reboot(&self, name: &str) -> Answer<()> {
        self.of(name).reboot(name)
    }

    fn hang(&self, name: &str) -> Answer<()> {
        self.of(name).hang(name)
    }

    fn resume(&self, name: &str) -> Answer<()> {
        self.of(name).resume(name)
    }

    fn set_link_faults(&self, faults: Vec<LinkFault>) -> Answer<()> {
        let Some(simulated) = self.simulated.clone() else { return self.real.set_link_faults(faults) };
        let (real, theirs) = parted(&faults);
        let machines = self.real.clone();
        async move {
            machines.set_link_faults(real).await?;
            simulated.set_link_faults(theirs).await
        }
        .boxed()
    }

    fn press(&self, name: &str, pressure: Pressure) -> Answer<PressureId> {
        self.of(name).press(name, pressure)
    }

    fn release(&self, name: &str, id: PressureId) -> Answer<()> {
        self.of(name).release(name, id)
    }

    fn signal(&self, name: &str, program: &Program, signal: Signal) -> Answer<()> {
        self.of(name).signal(name, program, signal)
    }

    fn set_clock_offset(&self, name: &str, offset_ms: i64) -> Answer<()> {
        self.of(name).set_clock_offset(name, offset_ms)
    }

    fn net(&self, name: Option<&str>) -> Result<Arc<dyn Net>, MachineError> {
        match name {
            Some(name) => self.of(name).net(Some(name)),
            None => self.real.net(None),
        }
    }

    fn living_containers(&self, name: &str) -> Answer<BTreeSet<String>> {
        self.of(name).living_containers(name)
    }
}

#[cfg(test)]
mod tests {
    use daruma_world::machines::LinkEffect;

    use super::*;

    #[test]
    fn faults_of_links_reach_whom_they_concern() {
        let names = |text: &str| (text != "*").then(|| text.split('+').map(str::to_owned).collect::<BTreeSet<_>>());
        let fault = |text: &str| {
            let (from, to) = text.split_once('>').expect("FROM>TO");
            LinkFault { from: names(from), to: names(to), effect: LinkEffect::Cut }
        };
        let check = |given: &str, real: &[&str], theirs: &[&str]| {
            let all = |texts: &[&str]| texts.iter().map(|text| fault(text)).collect::<Vec<_>>();
            assert_eq!(parted(&[fault(given)]), (all(real), all(theirs)), "{given}");
        };
        check("worker-0>*", &["worker-0>*"], &[]);
        check("simulated-1>*", &[], &["simulated-1>*"]);
        check("*>simulated-1", &[], &["*>simulated-1"]);
        check("worker-0+simulated-1>controller-0", &["worker-0>controller-0"], &["simulated-1>controller-0"]);
        check("worker-0>controller-0", &["worker-0>controller-0"], &[]);
        check("controller-0>*", &["controller-0>*"], &["controller-0>*"]);
        check("simulated-1>worker-0", &[], &[]);
        check("*>*", &["*>*"], &["*>*"]);
    }
}
