//! LIST of 10,000 pods, and the memory of a server that stores 12,000.

use std::time::{Duration, Instant};

use daruma_client::{Transport, empty_body};
use daruma_host::https::HttpsTransport;
use http::Request;
use http_body_util::BodyExt;

use crate::api_server::ApiServer;
use crate::{Bench, Benchmark, figures, runtime, simulated};

pub const BENCHMARK: Benchmark =
    Benchmark { name: "lists", about: "LIST of 10,000 pods of 4.8 kB over TLS; memory with 12,000 pods", run };

/// Fills a stored pod up to about 4.8 kB, what a running pod of a real cluster takes.
const PADDING: usize = 3500;

fn run(bench: &mut Bench) -> Result<(), String> {
    let mut server = ApiServer::prepare(&bench.binary, "bench-lists");
    server.start();
    runtime().block_on(async {
        server.ready().await?;
        for (namespace, pods) in [("bench", 10_000), ("other", 2000)] {
            simulated::namespace(&server, namespace).await?;
            simulated::create_pods(&server, namespace, pods, 16, PADDING).await?;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        figures::print("API server's RSS with 12,000 pods", &figures::megabytes(figures::rss(server.pid())), "200 MB");
        figures::reset_peak(server.pid());
        let transport = server.transport();
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..7 {
            let started = Instant::now();
            bytes = list(&transport).await?;
            times.push(started.elapsed());
        }
        let size = format!("LIST of 10,000 pods ({:.1} MB)", bytes as f64 / 1e6);
        figures::print(&size, &figures::time(figures::median(&mut times)), "50 ms");
        let four: Vec<_> = (0..4).map(|_| server.transport()).collect();
        futures::future::try_join_all(four.iter().map(list)).await?;
        figures::print("API server's peak RSS, four lists at once", &figures::megabytes(figures::peak(server.pid())), "200 MB");
        Ok(())
    })
}

async fn list(transport: &HttpsTransport) -> Result<u64, String> {
    let request = Request::builder().uri("/api/v1/namespaces/bench/pods").header("Accept", "application/json");
    let request = request.body(empty_body()).expect("a request");
    let mut body = transport.call(request).await.map_err(|error| error.to_string())?.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}
