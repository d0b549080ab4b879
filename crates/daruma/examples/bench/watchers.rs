//! One event to 1,000 watchers.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::calls::{self, Lines};
use crate::{Bench, Benchmark, figures, runtime};

pub const BENCHMARK: Benchmark =
    Benchmark { name: "watchers", about: "an event to 1,000 watch streams over 20 TLS connections, 20 events", run };

const STREAMS: usize = 1000;
const CONNECTIONS: usize = 20;
const EVENTS: u64 = 20;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn run(bench: &mut Bench) -> Result<(), String> {
    let mut server = ApiServer::prepare(&bench.binary, "bench-watchers");
    server.start();
    runtime().block_on(async {
        server.ready().await?;
        let transport = server.transport();
        let begin = Instant::now();
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let list = calls::json(&transport, Method::GET, MAPS, &Value::Null).await?;
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let path = format!("{MAPS}?watch=1&resourceVersion={revision}");
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS {
            let transport = server.transport();
            for _ in 0..STREAMS / CONNECTIONS {
                let mut lines = Lines::open(&transport, &path).await.map_err(|(_, error)| error)?;
                let send = send.clone();
                tasks.push(tokio::spawn(async move {
                    while lines.next().await.is_some() {
                        let _ = send.send(begin.elapsed());
                    }
                }));
            }
        }
        let (mut times, mut last) = (Vec::new(), Vec::new());
        for event in 0..EVENTS {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let map = json!({"metadata": {"name": format!("event-{event}")}, "data": {"padding": "x".repeat(1000)}});
            let started = begin.elapsed();
            calls::ensure(&transport, MAPS, &map).await?;
            let mut own = Vec::new();
            for _ in 0..STREAMS {
                let arrived = tokio::time::timeout(Duration::from_secs(10), receive.recv()).await;
                let arrived = arrived.map_err(|_| format!("only {} of {STREAMS} watchers saw an event", own.len()))?;
                own.push(arrived.unwrap_or_default().saturating_sub(started));
            }
            last.push(figures::percentile(&mut own, 100));
            times.extend(own);
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let name = "an event to 1,000 watchers, p99 (write included)";
        figures::print(name, &figures::time(figures::percentile(&mut times, 99)), "50 ms");
        figures::print("  to the last of them, median", &figures::time(figures::median(&mut last)), "");
        figures::print("  RSS with 1,000 watchers", &figures::megabytes(figures::rss(server.pid())), "");
        Ok(())
    })
}
