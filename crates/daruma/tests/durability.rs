//! What was acknowledged stays: the API server is killed, and its machine's power is cut, under load.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]

mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::api_server::ApiServer;
use harness::calls;
use harness::load::{Load, Outcome};
use harness::{Cluster, Test};
use http::Method;

const KILLS: u64 = 200;
const POWER_CUTS: u64 = 20;
const WRITERS: u64 = 8;

const TESTS: &[Test] = &[
    Test { needs_cluster: false, ..harness::test("kill_the_api_server", kill_the_api_server) },
    harness::test("cut_the_power", cut_the_power),
];

fn main() {
    harness::main(TESTS);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[track_caller]
fn check(what: &str, outcome: &Outcome, started: Instant, least: usize) {
    let Outcome { acknowledged, seen, lists, unknown, complaints } = outcome;
    eprintln!(
        "{what} in {:?}: {acknowledged} acknowledged, {seen} watched, {lists} lists, {unknown} lost answers",
        started.elapsed()
    );
    assert!(complaints.is_empty(), "{} complaints: {:#?}", complaints.len(), &complaints[..complaints.len().min(20)]);
    assert!(*acknowledged >= least, "too little load to tell anything");
}

fn kill_the_api_server() {
    runtime().block_on(async {
        let started = Instant::now();
        let mut server = ApiServer::prepare(&harness::binary(), "durability");
        server.start();
        server.ready().await.expect("the API server starts");
        let load = Load::start(WRITERS, server.connector()).await;
        let mut slowest = Duration::ZERO;
        for round in 0..KILLS {
            // 100 to 200 ms, so that kills meet every phase of a commit.
            tokio::time::sleep(Duration::from_millis(100 + round * 37 % 101)).await;
            server.kill();
            load.restarted();
            server.start();
            slowest = slowest.max(server.ready().await.expect("the API server starts again"));
            if round % 10 == 9 {
                load.check().await;
            }
        }
        eprintln!("slowest start: {slowest:?}");
        let outcome = load.finish().await;
        check(&format!("{KILLS} kills"), &outcome, started, 20 * KILLS as usize);
    });
}

fn cut_the_power() {
    let cluster = Cluster::up("power", &["--workers=0", "--boot-time=100ms"]);
    runtime().block_on(async {
        let started = Instant::now();
        let path = cluster.kubeconfig();
        let load = Load::start(WRITERS, Arc::new(move || calls::connect(&path))).await;
        for round in 0..POWER_CUTS {
            let before = load.acknowledged();
            tokio::time::sleep(Duration::from_millis(800 + round * 137 % 400)).await;
            assert!(load.acknowledged() > before, "the writers write");
            cluster.daruma(&["node", "reset", "controller-0"]);
            load.restarted();
            let off = Instant::now();
            loop {
                let transport = calls::connect(&cluster.kubeconfig());
                let answer =
                    tokio::time::timeout(Duration::from_millis(500), calls::call(&transport, Method::GET, "/readyz", b"")).await;
                if let Ok(Ok((status, _))) = &answer
                    && status.is_success()
                {
                    break;
                }
                assert!(off.elapsed() < Duration::from_secs(30), "no API server after the power cut: {answer:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            eprintln!("power cut {round}: ready again after {:?}", off.elapsed());
            load.check().await;
        }
        let outcome = load.finish().await;
        check(&format!("{POWER_CUTS} power cuts"), &outcome, started, 50 * POWER_CUTS as usize);
    });
}
