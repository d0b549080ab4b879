//! Memory and processor time of a cluster that has nothing to do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::{Bench, Benchmark, figures};

pub const BENCHMARK: Benchmark =
    Benchmark { name: "idle", about: "a fresh three-node cluster after 30 s without work, then 30 s of watching it", run };

const WINDOW: Duration = Duration::from_secs(30);

fn run(bench: &mut Bench) -> Result<(), String> {
    let (cluster, _) = Cluster::up(&bench.binary, "idle")?;
    std::thread::sleep(WINDOW);
    let before: BTreeMap<u32, Duration> = cluster.processes().iter().map(|(pid, _)| (*pid, figures::cpu(*pid))).collect();
    std::thread::sleep(WINDOW);
    let processes = cluster.processes();
    let mut used = Duration::ZERO;
    let (mut control_plane, mut all, mut by_kind) = (0, 0, BTreeMap::<String, (u64, u64, Duration)>::new());
    for (pid, command) in &processes {
        let own = figures::cpu(*pid).saturating_sub(before.get(pid).copied().unwrap_or_default());
        used += own;
        let (rss, pss) = (figures::rss(*pid), figures::pss(*pid));
        all += pss;
        if ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]
            .iter()
            .any(|name| command.contains(&format!(" {name} ")))
        {
            control_plane += rss;
        }
        let kind = command.split_whitespace().find(|word| !word.contains('/')).unwrap_or("?").to_owned();
        let entry = by_kind.entry(kind).or_default();
        *entry = (entry.0 + 1, entry.1 + pss, entry.2 + own);
    }
    if control_plane == 0 {
        return Err(format!("the control plane is not among {processes:?}"));
    }
    figures::print("idle: API server + controllers + scheduler, RSS", &figures::megabytes(control_plane), "50 MB");
    figures::print(&format!("idle: all {} processes, PSS", processes.len()), &figures::megabytes(all), "200 MB");
    let part = used.as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
    figures::print("idle: processor of the whole cluster", &format!("{part:.1} %"), "3 %");
    for (kind, (count, pss, cpu)) in by_kind {
        let part = cpu.as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
        figures::print(&format!("  {count} × {kind}"), &format!("{}, {part:.1} %", figures::megabytes(pss)), "");
    }
    Ok(())
}
