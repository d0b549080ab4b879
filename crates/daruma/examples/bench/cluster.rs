//! A real cluster for a benchmark: `daruma up`, the real kubectl, `daruma down` at the end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A cluster that goes down with the value.
pub struct Cluster {
    binary: PathBuf,
    root: PathBuf,
    name: String,
}

impl Cluster {
    /// Starts one controller and two workers that boot at once; how long `daruma up` took.
    pub fn up(binary: &Path, name: &str) -> Result<(Self, Duration), String> {
        Self::up_with(binary, name, &[])
    }

    /// The same, with further flags.
    pub fn up_with(binary: &Path, name: &str, flags: &[&str]) -> Result<(Self, Duration), String> {
        let name = format!("bench-{name}-{}", std::process::id() % 10_000);
        let cluster = Self { binary: binary.into(), root: std::env::temp_dir().join(format!("daruma-{name}")), name };
        let took = cluster.start(flags)?;
        Ok((cluster, took))
    }

    fn start(&self, flags: &[&str]) -> Result<Duration, String> {
        let started = Instant::now();
        self.run(&self.binary, &[&["up", "--boot-time=0s"], flags].concat())?;
        Ok(started.elapsed())
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(program)
            .args(arguments)
            .env("DARUMA_NAME", &self.name)
            .env("DARUMA_ROOT", &self.root)
            .env("KUBECONFIG", self.kubeconfig())
            .output()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{arguments:?}: {out}{err}")) }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join(&self.name).join("kubeconfig")
    }

    /// Runs daruma.
    pub fn daruma(&self, arguments: &[&str]) -> Result<String, String> {
        self.run(&self.binary, arguments)
    }

    /// Runs kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.run(Path::new("kubectl"), arguments)
    }

    /// Pods of a Deployment that are Running and Ready and not on their way out.
    pub fn running(&self, app: &str) -> Result<Vec<Value>, String> {
        let list = self.kubectl(&["get", "pods", "-l", &format!("app={app}"), "-o", "json"])?;
        let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        let mut pods = list["items"].as_array().cloned().unwrap_or_default();
        pods.retain(|pod| {
            pod["status"]["containerStatuses"][0]["ready"] == true
                && pod["status"]["phase"] == "Running"
                && pod["metadata"]["deletionTimestamp"].is_null()
        });
        Ok(pods)
    }

    /// Waits until `done`; how long that took.
    pub fn wait(&self, limit: Duration, mut done: impl FnMut(&Self) -> Result<bool, String>) -> Result<Duration, String> {
        let started = Instant::now();
        while !done(self)? {
            if started.elapsed() > limit {
                return Err(format!("not within {limit:?}: {}", self.kubectl(&["get", "pods", "-A", "-o", "wide"])?));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(started.elapsed())
    }

    /// Waits for exactly four running pods of the Deployment.
    pub fn four_running(&self, app: &str) -> Result<Duration, String> {
        self.wait(Duration::from_secs(60), |cluster| Ok(cluster.running(app)?.len() == 4))
    }

    /// Every process of this cluster: those whose command is this binary and that belong to its
    /// machines or are its supervisor, found as descendants of the supervisor.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let mut all = std::collections::BTreeMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            all.insert(pid, (parent.unwrap_or_default(), command));
        }
        let root = self.root.display().to_string();
        let mut chosen: std::collections::BTreeSet<u32> =
            all.iter().filter(|(_, (_, command))| command.contains(&root)).map(|(pid, _)| *pid).collect();
        loop {
            let more: Vec<u32> = all
                .iter()
                .filter(|(pid, (parent, _))| chosen.contains(parent) && !chosen.contains(pid))
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                break;
            }
            chosen.extend(more);
        }
        chosen.into_iter().map(|pid| (pid, all[&pid].1.clone())).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(why) = self.daruma(&["down"]) {
            eprintln!("daruma down: {why}");
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
