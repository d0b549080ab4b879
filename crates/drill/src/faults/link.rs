//! Both sides of a link, for the faults of links.

use std::collections::BTreeSet;

use daruma_world::machines::{LinkEffect, LinkFault};

use super::{Call, FaultError};
use crate::WorldKind;
use crate::file::simulated::{no_link, no_link_between};
use crate::scene::Scene;

/// Breaks what goes from the target to the other side and back.
pub(super) async fn both_ways(scene: &Scene, call: &Call<'_>, effect: LinkEffect, done: &str) -> Result<(), FaultError> {
    let (from, to) = sides(scene, call)?;
    tell(scene, &from, to.as_ref(), "↔", done);
    let there = LinkFault { from: Some(from.clone()), to: to.clone(), effect };
    let back = LinkFault { from: to, to: Some(from), effect };
    scene.break_links(vec![there, back]).await
}

/// Breaks what goes from the target to the other side only.
pub(super) async fn one_way(scene: &Scene, call: &Call<'_>, effect: LinkEffect, done: &str) -> Result<(), FaultError> {
    let (from, to) = sides(scene, call)?;
    tell(scene, &from, to.as_ref(), "→", done);
    scene.break_links(vec![LinkFault { from: Some(from), to, effect }]).await
}

/// Breaks what goes between the target and all other machines; among themselves its machines still reach each other.
pub(super) async fn from_others(scene: &Scene, call: &Call<'_>, effect: LinkEffect, done: &str) -> Result<(), FaultError> {
    let inside = scene.machines(call.target)?;
    let all = scene.hands().list().await?;
    let others: BTreeSet<String> = all.into_iter().map(|one| one.name).filter(|name| !inside.contains(name)).collect();
    tell(scene, &inside, Some(&others), "↔", done);
    let there = LinkFault { from: Some(inside.clone()), to: Some(others.clone()), effect };
    let back = LinkFault { from: Some(others), to: Some(inside), effect };
    scene.break_links(vec![there, back]).await
}

/// The target and the other side (`None`: everybody).
fn sides(scene: &Scene, call: &Call<'_>) -> Result<(BTreeSet<String>, Option<BTreeSet<String>>), FaultError> {
    let from = scene.machines(call.target)?;
    let to = call.target.to.as_ref().map(|to| scene.machines(to)).transpose()?;
    if let Some(both) = to.as_ref().and_then(|to| to.intersection(&from).next()) {
        return Err(FaultError::Target(format!("{both} is on both sides")));
    }
    if scene.stage().kind == WorldKind::Real
        && let Some(to) = &to
        && no_link_between(&from, to)
    {
        return Err(FaultError::Target(no_link(&from, to)));
    }
    Ok((from, to))
}

fn tell(scene: &Scene, from: &BTreeSet<String>, to: Option<&BTreeSet<String>>, arrow: &str, done: &str) {
    for machine in from {
        scene.reaches(machine);
    }
    let list = |machines: &BTreeSet<String>| machines.iter().cloned().collect::<Vec<_>>().join(", ");
    let other = to.map_or("everybody".to_owned(), list);
    scene.tells("", format!("{done}: {} {arrow} {other}", list(from)));
}
