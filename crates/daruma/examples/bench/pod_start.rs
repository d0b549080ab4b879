//! One pod on a chosen node: sandbox, network and one container.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::calls::{self, Lines};
use crate::{Bench, Benchmark, figures, runtime};

pub const BENCHMARK: Benchmark = Benchmark {
    name: "pod-start",
    about: "a pod with a node name, from the answer to its creation to Running as a watch shows it, 9 pods one after the other",
    run,
};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn run(bench: &mut Bench) -> Result<(), String> {
    let cluster = bench.cluster()?;
    let transport = calls::connect(&cluster.kubeconfig());
    let mut times = Vec::new();
    runtime().block_on(async {
        for round in 0..9 {
            let name = format!("single-{round}");
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"nodeName": "worker-0",
                    "containers": [{"name": "app", "image": "gcr.io/google-samples/kubernetes-bootcamp:v1"}]},
            });
            let path = format!("{PODS}?watch=1&fieldSelector=metadata.name%3D{name}");
            let mut lines = Lines::open(&transport, &path).await.map_err(|(_, error)| error)?;
            calls::json(&transport, Method::POST, PODS, &pod).await?;
            let started = Instant::now();
            let running = async {
                while let Some(line) = lines.next().await {
                    let event: Value = serde_json::from_slice(&line).unwrap_or_default();
                    if event["object"]["status"]["phase"] == "Running" {
                        return Ok(started.elapsed());
                    }
                }
                Err("the watch broke off".to_owned())
            };
            let running = tokio::time::timeout(Duration::from_secs(20), running).await;
            times.push(running.map_err(|_| format!("{name} did not run within 20 s"))??);
            let now = json!({"gracePeriodSeconds": 0});
            calls::json(&transport, Method::DELETE, &format!("{PODS}/{name}"), &now).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok::<_, String>(())
    })?;
    figures::print("a pod's sandbox, network and one container", &figures::time(figures::median(&mut times)), "50 ms");
    figures::print("  the slowest of them", &figures::time(figures::percentile(&mut times, 100)), "");
    Ok(())
}
