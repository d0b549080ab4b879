//! A new Deployment to four Running.

use std::time::{Duration, Instant};

use crate::{Bench, Benchmark, figures};

pub const BENCHMARK: Benchmark =
    Benchmark { name: "deployment", about: "kubectl create deployment to four pods Running and Ready, 5 times", run };

pub const IMAGE: &str = "--image=gcr.io/google-samples/kubernetes-bootcamp:v1";

fn run(bench: &mut Bench) -> Result<(), String> {
    let cluster = bench.cluster()?;
    let mut times = Vec::new();
    for round in 0..5 {
        let app = format!("app-{round}");
        let started = Instant::now();
        cluster.kubectl(&["create", "deployment", &app, IMAGE, "--replicas=4"])?;
        cluster.four_running(&app)?;
        times.push(started.elapsed());
        cluster.kubectl(&["delete", "deployment", &app, "--wait=false"])?;
        cluster.kubectl(&["delete", "pods", "-l", &format!("app={app}"), "--grace-period=1"])?;
        std::thread::sleep(Duration::from_millis(500));
    }
    figures::print("create deployment to four Running", &figures::time(figures::median(&mut times)), "1 s");
    Ok(())
}
