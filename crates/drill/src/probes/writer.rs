//! A client that creates ConfigMaps, and the proof that those which the API acknowledged are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daruma_api::core::v1::ConfigMap;
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use daruma_client::names::random_suffix;
use daruma_client::{ClientError, DeleteOptions, ListOptions};

use super::PAUSE;
use crate::file::{Drill, Probe};
use crate::record::Write;
use crate::scene::Scene;

/// Marks what a writer wrote.
const LABEL: &str = "daruma.dev/drill-writer";

/// Writes for ever, one write after the other.
pub(super) async fn run(scene: Scene, probe: Arc<Probe>) {
    let Some(writer) = &probe.write else { return };
    let world = scene.stage().world.clone();
    let run = random_suffix(&*world.random, 5);
    let api = scene.stage().client.namespaced::<ConfigMap>(&writer.namespace);
    let started = world.monotonic();
    for count in 0u32.. {
        world.sleep((started + probe.interval.duration() * count).saturating_sub(world.monotonic())).await;
        let name = format!("{}-{run}-{count}", probe.name);
        let object = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(LABEL.to_owned(), probe.name.clone())].into()),
                ..ObjectMeta::default()
            },
            data: Some([("count".to_owned(), count.to_string())].into()),
            ..ConfigMap::default()
        };
        match world.timeout(probe.timeout.duration(), api.create(&object)).await {
            Ok(Ok(_)) => scene.recorder().write(Write {
                at_ms: scene.recorder().now_ms(),
                writer: probe.name.clone(),
                object: format!("configmap/{name}"),
                kept: false,
            }),
            Ok(Err(_)) | Err(_) => world.sleep(PAUSE).await,
        }
    }
}

/// Looks for everything that was acknowledged, notes what is there, and takes it away.
///
/// # Errors
/// The API cannot be asked; nothing is noted as kept then.
pub(crate) async fn verify(scene: &Scene, drill: &Drill) -> Result<(), ClientError> {
    for probe in &drill.spec.probes {
        let Some(writer) = &probe.write else { continue };
        let api = scene.stage().client.namespaced::<ConfigMap>(&writer.namespace);
        let selection = ListOptions { label_selector: format!("{LABEL}={}", probe.name), ..ListOptions::default() };
        let mut there = BTreeSet::new();
        let mut page = ListOptions { limit: Some(500), ..selection.clone() };
        loop {
            let list = scene.ask(api.list(&page)).await?;
            there.extend(list.items.iter().map(|one| format!("configmap/{}", one.name())));
            match list.continue_token {
                Some(token) => page.continue_token = Some(token),
                None => break,
            }
        }
        scene.recorder().amend(|record| {
            for write in record.writes.iter_mut().filter(|write| write.writer == probe.name) {
                write.kept = there.contains(&write.object);
            }
        });
        scene.ask(api.delete_collection(&selection, &DeleteOptions::default())).await?;
    }
    Ok(())
}

/// How many writes of each writer were acknowledged and how many of them are there.
pub(crate) fn summary(writes: &[Write]) -> BTreeMap<&str, (usize, usize)> {
    let mut sums: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for write in writes {
        let sum = sums.entry(&write.writer).or_default();
        sum.0 += 1;
        sum.1 += usize::from(write.kept);
    }
    sums
}
