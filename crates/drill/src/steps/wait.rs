//! Waiting for a condition: looked at when something has changed, and now and then.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::select;

use crate::checks::matches;
use crate::file::{EventSeen, WaitFor, Workload};
use crate::record::EntryKind;
use crate::scene::Scene;

/// Changes within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(50);
/// What nothing announces (a probe's answer) is looked at this often.
const LOOK: Duration = Duration::from_millis(500);
/// How often all of the cluster is looked at.
const LOOK_AT_ALL: Duration = Duration::from_secs(1);

/// Waits; an error where the limit passes.
pub(super) async fn wait(scene: &Scene, condition: &WaitFor) -> Result<(), String> {
    let world = scene.stage().world.clone();
    let started = world.monotonic();
    let from_line = if condition.event.as_ref().is_some_and(|event| event.ever) { 0 } else { scene.recorder().lines() };
    let mut looked_to = from_line;
    let mut since = None;
    let text = in_words(condition);
    loop {
        if holds(scene, condition, &mut looked_to)? {
            let since = *since.get_or_insert(world.monotonic());
            let needed = condition.lasting.map_or(Duration::ZERO, crate::Span::duration);
            if world.monotonic().saturating_sub(since) >= needed {
                let took = crate::length(world.monotonic().saturating_sub(started).as_millis() as u64);
                scene.recorder().say(EntryKind::Step, "", format!("{text}: after {took}"));
                return Ok(());
            }
        } else {
            since = None;
        }
        let passed = world.monotonic().saturating_sub(started);
        if passed >= condition.limit.duration() {
            scene.recorder().say(EntryKind::Step, "", format!("{text}: not within {}", condition.limit));
            return Err(format!("waited {} in vain: {text}", condition.limit));
        }
        let rest = condition.limit.duration().saturating_sub(passed);
        let pause = world.sleep(LOOK.min(rest));
        let changed = Box::pin(scene.observer().changed());
        select(changed, pause).await;
        world.sleep(TOGETHER.min(rest)).await;
    }
}

fn holds(scene: &Scene, condition: &WaitFor, looked_to: &mut usize) -> Result<bool, String> {
    let observer = scene.observer();
    if let Some(node) = &condition.node_ready {
        return Ok(observer.is_ready(node) == Some(true));
    }
    if let Some(node) = &condition.node_not_ready {
        return Ok(observer.is_ready(node) == Some(false));
    }
    if let Some(workload) = &condition.available {
        return Ok(complete(scene, workload));
    }
    if let Some(pods) = &condition.pods {
        return Ok(pods.count.holds(observer.count(pods)?));
    }
    if let Some(event) = &condition.event {
        return Ok(scene.recorder().read(|record| {
            let lines = &record.timeline[(*looked_to).min(record.timeline.len())..];
            *looked_to = record.timeline.len();
            lines.iter().any(|line| is_event(line, event))
        }));
    }
    if let Some(probe) = &condition.probe {
        return Ok(scene.recorder().probe(&probe.name) == Some(probe.answered));
    }
    Err("waitFor names no condition".to_owned())
}

fn is_event(line: &crate::record::Entry, event: &EventSeen) -> bool {
    line.kind == EntryKind::Event
        && line.reason == event.reason
        && event.about.as_ref().is_none_or(|about| matches(about, &line.about))
}

/// Whether all replicas of a workload are up to date and available.
pub(crate) fn complete(scene: &Scene, workload: &Workload) -> bool {
    scene.observer().progress(workload).is_some_and(crate::observe::Progress::is_complete)
}

/// Waits until nothing is unsettled but what was so at the beginning; what still is, where the limit passes.
pub(crate) async fn settle(scene: &Scene, nodes: &[String], before: &BTreeSet<String>, limit: Duration) -> Vec<String> {
    let world = scene.stage().world.clone();
    let deadline = world.monotonic() + limit;
    loop {
        let mut unsettled = scene.observer().unsettled(nodes);
        unsettled.retain(|one| !before.contains(one));
        if unsettled.is_empty() || world.monotonic() >= deadline {
            return unsettled;
        }
        world.sleep(LOOK_AT_ALL).await;
    }
}

fn in_words(condition: &WaitFor) -> String {
    let mut text = if let Some(node) = &condition.node_ready {
        format!("{node} is Ready")
    } else if let Some(node) = &condition.node_not_ready {
        format!("{node} is not Ready")
    } else if let Some(workload) = &condition.available {
        format!("{} is available", workload.short())
    } else if let Some(pods) = &condition.pods {
        let mut words = vec![pods.count.to_string(), "pods".to_owned()];
        words.extend(pods.workload.as_ref().map(|workload| format!("of {}", workload.short())));
        words.extend(pods.selector.as_ref().map(|selector| format!("of {selector}")));
        words.extend((!pods.status.is_empty()).then(|| pods.status.join(" or ")));
        words.extend(pods.ready.map(|ready| if ready { "ready".to_owned() } else { "not ready".to_owned() }));
        words.extend(pods.node.as_ref().map(|node| format!("on {node}")));
        words.join(" ")
    } else if let Some(event) = &condition.event {
        format!("event {}{}", event.reason, event.about.as_ref().map(|about| format!(" about {about}")).unwrap_or_default())
    } else if let Some(probe) = &condition.probe {
        format!("probe {} is {}", probe.name, if probe.answered { "answered" } else { "not answered" })
    } else {
        String::new()
    };
    if let Some(time) = condition.lasting {
        text.push_str(&format!(" for {time}"));
    }
    text
}
