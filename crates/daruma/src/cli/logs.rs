//! `daruma logs`: works without an API server, because it reads the machines' own files.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use daruma_cluster::simulated;
use daruma_host::supervisor::{Client, MachineStatus};

use super::Which;

/// Flags of `daruma logs`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    which: Which,
    /// A component of kube-system, e.g. kube-apiserver, or a machine, e.g. worker-0, or `supervisor`.
    #[arg(value_name = "COMPONENT|NODE")]
    of: String,
    /// Only this many of the last lines of each log.
    #[arg(long)]
    tail: Option<usize>,
}

/// Prints logs.
pub fn run(flags: &Flags) -> Result<()> {
    let Which { name, root } = &flags.which;
    if flags.of == "supervisor" {
        return print(&daruma_host::supervisor::Files::of(root, name).log, flags.tail, false);
    }
    let status = Client::connect(root, name)?.status()?;
    if let Some(machine) = status.machine(&flags.of) {
        return print(&inside(machine, "/var/log/kubelet.log")?, flags.tail, false);
    }
    if simulated::is_name(&flags.of) {
        bail!("the kubelets of simulated nodes write to the supervisor's log: `daruma logs supervisor`");
    }
    let mut found = false;
    for machine in status.machines.iter().filter(|machine| machine.pid.is_some()) {
        for log in component_logs(&inside(machine, "/var/log/pods")?, &flags.of)? {
            found = true;
            eprintln!("==> {}: {} <==", machine.name, log.strip_prefix(inside(machine, "/var/log/pods")?)?.display());
            print(&log, flags.tail, true)?;
        }
    }
    if !found {
        let machines: Vec<&str> = status.machines.iter().map(|machine| machine.name.as_str()).collect();
        bail!(
            "no component {:?} has a log on a running machine; machines are {}, components are named as their pods in kube-system",
            flags.of,
            machines.join(", ")
        );
    }
    Ok(())
}

/// A path of a running machine, seen from the host.
fn inside(machine: &MachineStatus, path: &str) -> Result<PathBuf> {
    match machine.pid {
        Some(pid) => Ok(PathBuf::from(format!("/proc/{pid}/root{path}"))),
        None => bail!("{} is off; its files can be read when it is on", machine.name),
    }
}

/// The newest log of every container of pods in kube-system whose name begins with `component`.
fn component_logs(pods: &Path, component: &str) -> Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for pod in entries(pods)? {
        let name = pod.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.strip_prefix("kube-system_").is_none_or(|name| !name.starts_with(component)) {
            continue;
        }
        for container in entries(&pod)? {
            let number = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_string_lossy().parse::<u32>().ok());
            if let Some(newest) = entries(&container)?.into_iter().filter(|path| number(path).is_some()).max_by_key(number) {
                logs.push(newest);
            }
        }
    }
    Ok(logs)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("reading {}", directory.display())),
    };
    paths.sort();
    Ok(paths)
}

/// Prints a file; a container's log without the time and stream of each line.
fn print(path: &Path, tail: Option<usize>, container: bool) -> Result<()> {
    let file = fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let lines: Vec<Vec<u8>> = BufReader::new(file).split(b'\n').collect::<io::Result<_>>()?;
    let skip = tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    let mut out = io::stdout().lock();
    for line in &lines[skip..] {
        let text = if container { line.splitn(4, |byte| *byte == b' ').nth(3).unwrap_or(line) } else { line };
        out.write_all(text)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
