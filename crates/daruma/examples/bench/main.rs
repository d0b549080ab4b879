//! Figures of speed and size, as medians, with what is asked of them beside: `cargo xtask bench [NAME…]`.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time on real processes")]

#[path = "../../tests/harness/api_server.rs"]
mod api_server;
#[path = "../../tests/harness/calls.rs"]
mod calls;

mod api_server_start;
mod cluster;
mod cluster_up;
mod create_pods;
mod deployment;
mod figures;
mod force_delete;
mod idle;
mod lists;
mod pod_start;
mod recovery_overhead;
mod scheduling;
mod simulated;
mod story_sim;
mod watchers;
mod zone_outage;

use std::path::PathBuf;
use std::process::ExitCode;

use cluster::Cluster;

/// One benchmark.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Bench) -> Result<(), String>,
}

/// Every benchmark, in the order in which they run.
const ALL: &[Benchmark] = &[
    api_server_start::BENCHMARK,
    create_pods::BENCHMARK,
    lists::BENCHMARK,
    watchers::BENCHMARK,
    scheduling::BENCHMARK,
    cluster_up::BENCHMARK,
    deployment::BENCHMARK,
    force_delete::BENCHMARK,
    pod_start::BENCHMARK,
    idle::BENCHMARK,
    recovery_overhead::BENCHMARK,
    story_sim::STORY,
    story_sim::SEEDS,
    zone_outage::BENCHMARK,
];

/// What benchmarks share: the binary, and one cluster that starts when the first one wants it.
struct Bench {
    binary: PathBuf,
    cluster: Option<Cluster>,
}

impl Bench {
    /// The shared cluster of one controller and two workers.
    fn cluster(&mut self) -> Result<&Cluster, String> {
        let cluster = match self.cluster.take() {
            Some(cluster) => cluster,
            None => Cluster::up(&self.binary, "shared")?.0,
        };
        Ok(self.cluster.insert(cluster))
    }
}

/// A runtime for the clients of one benchmark.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn main() -> ExitCode {
    // As every process of the product.
    daruma_host::memory::share_one_arena();
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let mut binary = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.parent()?.join("daruma")));
    if let Some(at) = names.iter().position(|name| name == "--binary") {
        names.remove(at);
        binary = (at < names.len()).then(|| PathBuf::from(names.remove(at)));
    }
    let Some(binary) = binary.filter(|path| path.is_file()) else {
        eprintln!("usage: bench [--binary PATH] [NAME…]; the binary is not there");
        return ExitCode::from(2);
    };
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|benchmark| benchmark.name != name.as_str())) {
        let known: Vec<&str> = ALL.iter().map(|benchmark| benchmark.name).collect();
        eprintln!("there is no benchmark {unknown:?}; there are {}", known.join(", "));
        return ExitCode::from(2);
    }
    // The real world wants to be asked for where tasks can run.
    let world = runtime();
    let _inside = world.enter();
    println!("{}", figures::HEADER);
    let mut bench = Bench { binary, cluster: None };
    let mut failed = false;
    for benchmark in ALL.iter().filter(|it| names.is_empty() || names.iter().any(|name| name == it.name)) {
        eprintln!("# {}: {}", benchmark.name, benchmark.about);
        if let Err(why) = (benchmark.run)(&mut bench) {
            println!("{}: failed: {why}", benchmark.name);
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
