//! How long the story takes in the virtual world: `cargo run --release -p daruma-rehearsal --example story [SEEDS]`.
//!
//! A cluster comes up, four pods are force-deleted, reset and left behind by a worker without power, replaced after
//! five minutes, and find the worker again.
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::time::{Duration, Instant};

use daruma_api::core::v1::Pod;
use daruma_client::{DeleteOptions, ListOptions};
use daruma_rehearsal::{Options, VirtualCluster};
use serde_json::json;

fn main() {
    let seeds: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5);
    let invariants = std::env::args().nth(2).is_none_or(|text| text != "bare");
    for seed in 1..=seeds {
        let started = Instant::now();
        let cluster = VirtualCluster::start(Options { seed, invariants, ..Options::default() }).expect("a cluster");
        cluster.run(cluster.wait_ready()).expect("every node is Ready");
        let up = started.elapsed();
        cluster.run(day(&cluster));
        let virtual_time = cluster.world().monotonic();
        let (polls, entries) = (cluster.universe().polls(), cluster.log().len());
        println!(
            "seed {seed}: {:.3} s (up after {:.3} s), {:.0} virtual seconds, {polls} polls, {entries} log lines",
            started.elapsed().as_secs_f64(),
            up.as_secs_f64(),
            virtual_time.as_secs_f64(),
        );
        for violation in cluster.stop() {
            println!("  {violation}");
        }
    }
}

async fn day(cluster: &VirtualCluster) {
    let (client, machines, world) = (cluster.client(), cluster.machines(), cluster.world());
    let labels = json!({"app": "kubernetes-bootcamp"});
    let container = json!({"name": "kubernetes-bootcamp", "image": "gcr.io/google-samples/kubernetes-bootcamp:v1"});
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "kubernetes-bootcamp"},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    client.json(http::Method::POST, path, "application/json", Some(deployment.to_string().into())).await.expect("created");
    world.sleep(Duration::from_secs(20)).await;
    let pods = client.namespaced::<Pod>("default");
    let first = pods.list(&ListOptions::default()).await.expect("a list").items.swap_remove(0);
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    pods.delete(&first.metadata.name.unwrap_or_default(), &now).await.expect("deleted");
    world.sleep(Duration::from_secs(20)).await;
    machines.reset("worker-1").await.expect("it is on");
    world.sleep(Duration::from_secs(30)).await;
    machines.power_off("worker-1", false).await.expect("it is on");
    world.sleep(Duration::from_secs(380)).await;
    machines.power_on("worker-1").await.expect("it is off");
    world.sleep(Duration::from_secs(60)).await;
}
