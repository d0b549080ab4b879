//! From exec to /readyz.

use std::time::Instant;

use crate::api_server::ApiServer;
use crate::{Bench, Benchmark, figures, runtime};

pub const BENCHMARK: Benchmark =
    Benchmark { name: "api-server-start", about: "exec of kube-apiserver to /readyz ok, 9 starts", run };

fn run(bench: &mut Bench) -> Result<(), String> {
    let mut server = ApiServer::prepare(&bench.binary, "bench-start");
    let mut times = Vec::new();
    runtime().block_on(async {
        // The first start makes the store; the others open it.
        for _ in 0..9 {
            let started = Instant::now();
            server.start();
            server.ready().await?;
            times.push(started.elapsed());
            server.kill();
        }
        Ok::<_, String>(())
    })?;
    figures::print("exec of the API server to /readyz", &figures::time(figures::median(&mut times)), "150 ms");
    Ok(())
}
