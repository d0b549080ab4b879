//! What `daruma up` does between switching the machines on and "every node is Ready".

use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use daruma_client::Client;
use daruma_cluster::shape::Shape;
use daruma_cluster::{addons, bring_up};
use daruma_host::machines::SupervisedMachines;
use daruma_host::supervisor::State;
use daruma_world::World;
use indicatif::{ProgressBar, ProgressStyle};

use super::Which;

/// How often things are looked at.
const STEP: Duration = Duration::from_millis(25);
/// How often the machines are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Tells a person what is going on, on the standard error.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shown to people only.
    pub fn new(visible: bool) -> Self {
        let bar = if visible { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// What is going on now.
    pub fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Creates the add-ons as soon as the API server answers, then waits for the nodes.
///
/// # Errors
/// The API refused an add-on, or a machine does not stay on.
pub async fn until_ready(client: &Client, shape: &Shape, progress: &Progress, which: &Which) -> Result<()> {
    let addons = addons::objects(shape);
    let say = |what: &str| progress.say(what);
    let ready = bring_up::until_ready(client, shape, &addons, STEP, &say);
    tokio::select! {
        biased;
        result = ready => Ok(result?),
        error = a_machine_ends(client.world(), which) => Err(error),
    }
}

/// Completes when a machine has gone off by itself.
async fn a_machine_ends(world: &World, which: &Which) -> Error {
    loop {
        world.sleep(LOOK).await;
        let machines = match SupervisedMachines::connect(&which.root, &which.name) {
            Ok(machines) => machines,
            Err(error) => return Error::new(error).context("the supervisor has ended"),
        };
        let Ok(status) = machines.status().await else { continue };
        for machine in status.machines {
            if let (State::Off, Some(why)) = (machine.state, machine.last_end) {
                let log = which.root.join(&which.name).join("supervisor.log");
                return anyhow!("{} does not stay on: {why}; {} tells more", machine.name, log.display());
            }
        }
    }
}
