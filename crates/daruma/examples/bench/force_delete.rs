//! A force deletion to its replacement Running.

use std::time::Instant;

use crate::deployment::IMAGE;
use crate::{Bench, Benchmark, figures};

pub const BENCHMARK: Benchmark =
    Benchmark { name: "force-delete", about: "kubectl delete --force of one of four pods to four Running again, 5 times", run };

fn run(bench: &mut Bench) -> Result<(), String> {
    let cluster = bench.cluster()?;
    cluster.kubectl(&["create", "deployment", "forced", IMAGE, "--replicas=4"])?;
    cluster.four_running("forced")?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let pods = cluster.running("forced")?;
        let victim = pods[0]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let started = Instant::now();
        cluster.kubectl(&["delete", "pod", &victim, "--grace-period=0", "--force", "--wait=false"])?;
        cluster.four_running("forced")?;
        times.push(started.elapsed());
    }
    cluster.kubectl(&["delete", "deployment", "forced", "--wait=false"])?;
    figures::print("force delete to the replacement Running", &figures::time(figures::median(&mut times)), "500 ms");
    Ok(())
}
