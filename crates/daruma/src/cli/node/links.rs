//! `daruma node cut` and `daruma node mend`.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use daruma_host::machine::link_faults;
use daruma_world::machines::{Ability, LinkEffect, LinkFault, MachineError, Machines};

use crate::cli::cluster_machines::ClusterMachines;

/// Machines that an error names at most.
const MOST_NAMED: usize = 20;

/// Flags of `daruma node cut`.
#[derive(Debug, Args)]
pub struct Cut {
    /// The machine, e.g. worker-1.
    #[arg(value_name = "NAME")]
    machine: String,
    /// Only the links to these machines; several are separated by commas. All links, the host's too, by default.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    to: Vec<String>,
    /// Only what the machine sends is lost; what it is sent still arrives.
    #[arg(long)]
    one_way: bool,
}

/// Flags of `daruma node mend`.
#[derive(Debug, Args)]
pub struct Mend {
    /// The machine, e.g. worker-1; all links by default.
    #[arg(value_name = "NAME")]
    machine: Option<String>,
}

/// Cuts links, beside those that are cut already.
pub async fn cut(flags: &Cut, machines: &ClusterMachines) -> Result<()> {
    machines.supports(&Ability::Link(LinkEffect::Cut))?;
    known(machines, std::iter::once(&flags.machine).chain(&flags.to)).await?;
    let mut faults = machines.link_faults().await?;
    let new = cuts(flags).into_iter().filter(|new| !faults.contains(new)).collect::<Vec<_>>();
    faults.extend(new);
    machines.set_link_faults(faults).await?;
    let (others, way) = (if flags.to.is_empty() { "everybody".to_owned() } else { flags.to.join(", ") }, flags.one_way);
    println!("{} is cut off from {others}{}", flags.machine, if way { ", one way" } else { "" });
    Ok(())
}

fn cuts(flags: &Cut) -> Vec<LinkFault> {
    let one = Some(BTreeSet::from([flags.machine.clone()]));
    let others = (!flags.to.is_empty()).then(|| flags.to.iter().cloned().collect::<BTreeSet<_>>());
    let mut cuts = vec![LinkFault { from: one.clone(), to: others.clone(), effect: LinkEffect::Cut }];
    if !flags.one_way {
        cuts.push(LinkFault { from: others, to: one, effect: LinkEffect::Cut });
    }
    cuts
}

/// Takes back all faults of links that name the machine, or all of them.
pub async fn mend(flags: &Mend, machines: &ClusterMachines) -> Result<()> {
    let Some(name) = &flags.machine else {
        machines.set_link_faults(Vec::new()).await?;
        println!("all links are well");
        return Ok(());
    };
    known(machines, [name]).await?;
    let left = link_faults::without(&machines.link_faults().await?, name);
    machines.set_link_faults(left).await?;
    println!("the links of {name} are well");
    Ok(())
}

/// Refuses names of machines that do not exist.
async fn known<'a>(machines: &ClusterMachines, names: impl IntoIterator<Item = &'a String>) -> Result<(), MachineError> {
    let all = machines.list().await?;
    for name in names {
        if all.iter().all(|machine| machine.name != *name) {
            let known = all.iter().take(MOST_NAMED).map(|machine| machine.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(MachineError::Unknown { name: name.clone(), known });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_of_both_ways_unless_said_otherwise() {
        let check = |to: &[&str], one_way: bool, expected: &[(&str, &str)]| {
            let to = to.iter().map(|name| (*name).to_owned()).collect();
            let flags = Cut { machine: "a".into(), to, one_way };
            let text = |names: &Option<BTreeSet<String>>| match names {
                Some(names) => names.iter().cloned().collect::<Vec<_>>().join("+"),
                None => "*".to_owned(),
            };
            let found: Vec<_> = cuts(&flags).iter().map(|cut| (text(&cut.from), text(&cut.to))).collect();
            let expected: Vec<_> = expected.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
            assert_eq!(found, expected);
        };
        check(&[], false, &[("a", "*"), ("*", "a")]);
        check(&["c", "b"], false, &[("a", "b+c"), ("b+c", "a")]);
        check(&["b"], true, &[("a", "b")]);
    }
}
