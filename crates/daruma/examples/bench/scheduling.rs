//! Pods of Deployments, and a waiting backlog, bound to simulated nodes by the real scheduler.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::calls::{self, Lines};
use crate::simulated::{self, Kubelets};
use crate::{Bench, Benchmark, figures, runtime};

pub const BENCHMARK: Benchmark =
    Benchmark { name: "scheduling", about: "5,000 pods on 100 simulated nodes, client limits raised to 10,000/s", run };

const NODES: usize = 100;
const DEPLOYMENTS: usize = 10;
const REPLICAS: usize = 500;
const LIMIT: Duration = Duration::from_secs(45);

fn run(bench: &mut Bench) -> Result<(), String> {
    for (what, asked, backlog) in
        [("5,000 pods of 10 Deployments, bound", "1500/s", false), ("a backlog of 5,000 pods, bound", "2000/s", true)]
    {
        let mut server = ApiServer::prepare(&bench.binary, "bench-scheduling");
        server.start();
        runtime().block_on(async {
            server.ready().await?;
            simulated::namespace(&server, "bench").await?;
            let kubelets = Kubelets::start(&server, NODES).await?;
            let limits = ["--kube-api-qps=10000".to_owned(), "--kube-api-burst=10000".into(), "--leader-elect=false".into()];
            // The node lifecycle controller takes the taint of a new node away.
            let own = [&limits[..], &["--use-service-account-credentials=true".to_owned()]].concat();
            server.component("kube-controller-manager", "system:kube-controller-manager", &own);
            let (all, first_to_last) = if backlog {
                simulated::create_pods(&server, "bench", DEPLOYMENTS * REPLICAS, 16, 0).await?;
                tokio::time::sleep(Duration::from_secs(8)).await;
                let started = Instant::now();
                server.component("kube-scheduler", "system:kube-scheduler", &limits);
                until_bound(&server, started).await?
            } else {
                server.component("kube-scheduler", "system:kube-scheduler", &limits);
                tokio::time::sleep(Duration::from_secs(8)).await;
                let transport = server.transport();
                let started = Instant::now();
                for index in 0..DEPLOYMENTS {
                    let path = "/apis/apps/v1/namespaces/bench/deployments";
                    calls::ensure(&transport, path, &deployment(index)).await?;
                }
                until_bound(&server, started).await?
            };
            let pods = (DEPLOYMENTS * REPLICAS) as f64;
            figures::print(what, &format!("{:.0}/s", pods / first_to_last.as_secs_f64()), asked);
            figures::print("  from the first request to the last binding", &figures::time(all), "");
            drop(kubelets);
            Ok::<_, String>(())
        })?;
    }
    Ok(())
}

fn deployment(index: usize) -> Value {
    let labels = json!({"app": format!("app-{index}")});
    let mut pod: Value = serde_json::from_slice(&simulated::pod("template", 0)).expect("our own JSON");
    pod["metadata"] = json!({"labels": labels});
    json!({
        "metadata": {"name": format!("app-{index}")},
        "spec": {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": {"metadata": pod["metadata"], "spec": pod["spec"]}},
    })
}

/// From `started` to the last binding, and from the first to the last.
async fn until_bound(server: &ApiServer, started: Instant) -> Result<(Duration, Duration), String> {
    let mut names = std::collections::BTreeSet::new();
    let mut first = None;
    let wanted = DEPLOYMENTS * REPLICAS;
    let watch = async {
        let path = "/api/v1/namespaces/bench/pods?watch=1&fieldSelector=spec.nodeName!%3D";
        let mut lines = Lines::open(&server.transport(), path).await.map_err(|(_, error)| error)?;
        while let Some(line) = lines.next().await {
            let event: Value = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
            first.get_or_insert_with(Instant::now);
            names.insert(event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned());
            if names.len() >= wanted {
                return Ok(Instant::now());
            }
        }
        Err("the watch broke off".to_owned())
    };
    match tokio::time::timeout(LIMIT, watch).await {
        Ok(Ok(end)) => Ok((end - started, end - first.unwrap_or(started))),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let pods = calls::json(&server.transport(), Method::GET, "/api/v1/namespaces/bench/pods", &Value::Null).await?;
            let there = pods["items"].as_array().map_or(0, Vec::len);
            Err(format!("{} of {wanted} bound after {LIMIT:?}, {there} created; {}", names.len(), server.log("kube-scheduler")))
        }
    }
}
