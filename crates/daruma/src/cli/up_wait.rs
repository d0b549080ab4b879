//! What `daruma up` does between switching the machines on and "every node is Ready".

use std::time::Duration;

use anyhow::Result;
use daruma_client::Client;
use daruma_cluster::{addons, bring_up};
use daruma_cluster::shape::Shape;
use indicatif::{ProgressBar, ProgressStyle};

/// How often things are looked at.
const STEP: Duration = Duration::from_millis(25);

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
pub async fn until_ready(client: &Client, shape: &Shape, progress: &Progress) -> Result<()> {
    Ok(bring_up::until_ready(client, shape, &addons::objects(shape), STEP, &|what| progress.say(what)).await?)
}
