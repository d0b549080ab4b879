//! `daruma up` to three nodes Ready.

use crate::cluster::Cluster;
use crate::{Bench, Benchmark, figures};

pub const BENCHMARK: Benchmark =
    Benchmark { name: "up", about: "daruma up to three nodes Ready, boot time 0, 3 clusters one after the other", run };

fn run(bench: &mut Bench) -> Result<(), String> {
    let mut times = Vec::new();
    for round in 0..3 {
        let (cluster, took) = Cluster::up(&bench.binary, &format!("up{round}"))?;
        times.push(took);
        drop(cluster);
    }
    figures::print("daruma up to three nodes Ready", &figures::time(figures::median(&mut times)), "3 s");
    Ok(())
}
