//! One pod on a chosen node: sandbox, network and one container.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Bench, Benchmark, figures};

pub const BENCHMARK: Benchmark = Benchmark {
    name: "pod-start",
    about: "a pod with a node name, from its creation to Running as a watch shows it, 9 pods one after the other",
    run,
};

fn run(bench: &mut Bench) -> Result<(), String> {
    let cluster = bench.cluster()?;
    let mut times = Vec::new();
    for round in 0..9 {
        let name = format!("single-{round}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": "worker-0", "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "app", "image": "gcr.io/google-samples/kubernetes-bootcamp:v1"}]},
        });
        let file = std::env::temp_dir().join(format!("daruma-bench-{}.json", std::process::id()));
        std::fs::write(&file, pod.to_string()).map_err(|error| error.to_string())?;
        // The API server proxies nothing here: one client that watches over one connection.
        times.push(watch_start(cluster, &name, &file)?);
        let _ = std::fs::remove_file(&file);
        cluster.kubectl(&["delete", "pod", &name, "--wait=true"])?;
    }
    figures::print("pod created to Running (sandbox, net, container)", &figures::time(figures::median(&mut times)), "50 ms");
    Ok(())
}

/// From the moment at which the watch shows the new pod to the one at which it shows it Running.
fn watch_start(cluster: &crate::cluster::Cluster, name: &str, file: &std::path::Path) -> Result<Duration, String> {
    use std::io::BufRead;
    let template = "--output=jsonpath={.metadata.name} {.status.phase}{\"\\n\"}";
    let mut watch = Command::new("kubectl")
        .args(["get", "pods", "--watch-only", template])
        .env("KUBECONFIG", cluster.kubeconfig())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    std::thread::sleep(Duration::from_millis(400));
    cluster.kubectl(&["create", "-f", &file.display().to_string()])?;
    let lines = std::io::BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    let (mut first, mut running) = (None, None);
    for line in lines.map_while(Result::ok).filter(|line| line.starts_with(name)) {
        let now = std::time::Instant::now();
        // What kubectl printed before this reads counts from here; creation is printed at once.
        let first = *first.get_or_insert(now);
        if line.ends_with("Running") {
            running = Some(now - first);
            break;
        }
    }
    let _ = watch.kill();
    let _ = watch.wait();
    running.ok_or_else(|| format!("the watch ended before {name} ran"))
}

/// Kept for other readers of events.
#[expect(dead_code, reason = "documents the form of what is read")]
fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}
