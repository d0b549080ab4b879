//! How fast pods are created durably.

use std::time::Instant;

use crate::api_server::ApiServer;
use crate::{Bench, Benchmark, figures, runtime, simulated};

pub const BENCHMARK: Benchmark =
    Benchmark { name: "create-pods", about: "20,000 pods over 32 TLS connections, each answer durable", run };

const PODS: usize = 20_000;

fn run(bench: &mut Bench) -> Result<(), String> {
    let mut server = ApiServer::prepare(&bench.binary, "bench-create");
    server.start();
    runtime().block_on(async {
        server.ready().await?;
        simulated::namespace(&server, "bench").await?;
        let (before, started) = (figures::cpu(server.pid()), Instant::now());
        let mut times = simulated::create_pods(&server, "bench", PODS, 32, 0).await?;
        let took = started.elapsed();
        let rate = PODS as f64 / took.as_secs_f64();
        let cpu = figures::cpu(server.pid()).saturating_sub(before);
        figures::print("pods created over 32 connections", &format!("{rate:.0}/s"), "5000/s");
        figures::print("  p99 of a creation", &figures::time(figures::percentile(&mut times, 99)), "20 ms");
        figures::print("  median of a creation", &figures::time(figures::median(&mut times)), "");
        figures::print("  API server's processor time a pod", &format!("{} µs", cpu.as_micros() / PODS as u128), "");
        Ok(())
    })
}
