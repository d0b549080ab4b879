//! `daruma status`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use daruma_api::core::v1::Node;
use daruma_api::meta::ObjectExt;
use daruma_client::ListOptions;
use daruma_cluster::simulated as simulated_nodes;
use daruma_host::supervisor::{Client, SupervisorError};
use daruma_world::machines::MachineError;
use serde_json::json;

use super::cluster_directory::ClusterDirectory;
use super::{Which, node};
use crate::components::hollow_nodes::SimulatedMachines;
use crate::components::hollow_nodes::protocol;

/// A server that does not answer by then counts as not answering.
const PATIENCE: Duration = Duration::from_secs(3);

/// Flags of `daruma status`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    pub which: Which,
    /// Print JSON.
    #[arg(short, long, value_parser = ["json"])]
    output: Option<String>,
}

/// Shows machines and nodes.
pub fn run(flags: &Flags) -> Result<()> {
    let directory = ClusterDirectory::of(&flags.which);
    let shape = directory.existing_shape()?;
    let machines = match Client::connect(&flags.which.root, &flags.which.name) {
        Ok(mut client) => client.status()?.machines,
        Err(SupervisorError::NotUp { .. }) => {
            println!("cluster {:?} is not running; `daruma up --name {}` brings it back", shape.name, shape.name);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let nodes = runtime.block_on(nodes(&directory));
    let simulated = (simulated_nodes::count(&shape) > 0).then(|| runtime.block_on(simulated(&directory)));
    if flags.output.is_some() {
        let nodes = nodes
            .as_ref()
            .map(|nodes| nodes.iter().map(|(name, ready)| json!({"name": name, "ready": ready})).collect::<Vec<_>>());
        let report = json!({
            "name": shape.name,
            "machines": machines,
            "apiServer": {"url": shape.api_server_url(), "answers": nodes.is_ok()},
            "nodes": nodes.unwrap_or_default(),
            "simulated": simulated.and_then(Result::ok),
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    print!("{}", node::table(&machines));
    if let Some(simulated) = simulated {
        match simulated {
            Ok(status) => print!("\n{}", node::simulated(&status)),
            Err(problem) => println!("\n{} simulated nodes: {problem}", simulated_nodes::count(&shape)),
        }
    }
    match nodes {
        Ok(nodes) => {
            let ready = nodes.iter().filter(|(_, ready)| *ready).count();
            println!("\nAPI server {} answers; {ready} of {} nodes Ready", shape.api_server_url(), nodes.len());
        }
        Err(problem) => println!("\nAPI server {} does not answer: {problem}", shape.api_server_url()),
    }
    Ok(())
}

async fn simulated(directory: &ClusterDirectory) -> Result<protocol::Status, String> {
    let world = daruma_host::world::real();
    let asked = world.timeout(PATIENCE, SimulatedMachines::of(directory.path()).status()).await;
    asked
        .map_err(|_| format!("their process has not answered within {PATIENCE:?}"))?
        .map_err(|error: MachineError| error.to_string())
}

async fn nodes(directory: &ClusterDirectory) -> Result<Vec<(String, bool)>, String> {
    let world = daruma_host::world::real();
    let client = directory.client(&world).map_err(|error| error.to_string())?;
    let listed = world.timeout(PATIENCE, client.cluster::<Node>().list(&ListOptions::default())).await;
    let nodes = listed.map_err(|_| format!("no answer within {PATIENCE:?}"))?.map_err(|error| error.to_string())?;
    let ready = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    Ok(nodes.items.iter().map(|node| (node.name().to_owned(), ready(node))).collect())
}
