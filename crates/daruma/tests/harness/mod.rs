//! A real cluster for a test: the built binary, the real kubectl, torn down in any case.

#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod api_server;
pub mod calls;
pub mod kubectl;
pub mod load;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A cluster that goes down with the test.
pub struct Cluster {
    name: String,
    root: PathBuf,
}

/// One test of a binary.
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// Whether it starts a cluster; it is skipped where none can run.
    pub needs_cluster: bool,
    /// Whether it is run on demand only (`--run-ignored`).
    pub slow: bool,
    /// Panics when it fails.
    pub run: fn(),
}

/// A test that needs a cluster.
pub const fn test(name: &'static str, run: fn()) -> Test {
    Test { name, needs_cluster: true, slow: false, run }
}

/// Runs the tests of a binary as the test runners expect it. What cannot run here counts as skipped.
pub fn main(tests: &'static [Test]) {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Clusters share one kernel and few cores.
    arguments.test_threads = Some(1);
    let problem = cannot_run();
    if let Some(problem) = &problem {
        eprintln!("tests that need a cluster are skipped, because this host cannot run one:\n{problem}");
    }
    let trial = |test: &'static Test| {
        let skipped = test.slow || (test.needs_cluster && problem.is_some());
        let run = || {
            (test.run)();
            Ok(())
        };
        libtest_mimic::Trial::test(test.name, run).with_ignored_flag(skipped)
    };
    libtest_mimic::run(&arguments, tests.iter().map(trial).collect()).exit();
}

/// The binary under test: the optimised one where `cargo xtask ci` names it, else the one built with the tests.
pub fn binary() -> PathBuf {
    std::env::var_os("DARUMA_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_daruma").into(), PathBuf::from)
}

/// Why this host cannot run a cluster, if it cannot.
fn cannot_run() -> Option<String> {
    let output = Command::new(binary()).arg("doctor").output().expect("daruma starts");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Cluster {
    /// Starts a cluster of one controller and two workers; `flags` are added to `daruma up`.
    pub fn up(test: &str, flags: &[&str]) -> Self {
        Self::up_where(test, flags, &[])
    }

    /// The same with these variables in the environment of `daruma up`.
    pub fn up_where(test: &str, flags: &[&str], environment: &[(&str, &std::path::Path)]) -> Self {
        let name = format!("{test}{}", std::process::id() % 10_000);
        let cluster = Self { root: std::env::temp_dir().join(format!("daruma-{name}")), name };
        let started = Instant::now();
        let mut command = cluster.command(binary());
        command.arg("up").args(flags).envs(environment.iter().copied());
        text(command.output().expect("daruma starts"), &[&["up"], flags].concat());
        eprintln!("cluster {} was up after {:?}", cluster.name, started.elapsed());
        cluster
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join(&self.name).join("kubeconfig")
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("DARUMA_NAME", &self.name).env("DARUMA_ROOT", &self.root);
        command.env("KUBECONFIG", self.root.join(&self.name).join("kubeconfig"));
        command
    }

    /// Runs daruma and gives what it printed; fails the test when it fails.
    pub fn daruma(&self, arguments: &[&str]) -> String {
        text(self.command(binary()).args(arguments).output().expect("daruma starts"), arguments)
    }

    /// Runs daruma, whatever becomes of it.
    pub fn try_daruma(&self, arguments: &[&str]) -> Output {
        self.command(binary()).args(arguments).output().expect("daruma starts")
    }

    /// Runs kubectl and gives what it printed; fails the test when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        text(self.try_kubectl(arguments), arguments)
    }

    /// Runs kubectl, whatever becomes of it.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.command("kubectl").args(arguments).output().expect("kubectl starts")
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &Value) {
        let mut command = self.command("kubectl");
        let mut child = command.args(["apply", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        std::io::Write::write_all(&mut stdin, manifest.to_string().as_bytes()).expect("kubectl reads");
        drop(stdin);
        assert!(child.wait().expect("kubectl ends").success(), "cannot apply {manifest}");
    }

    /// What kubectl prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.kubectl(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&output).expect("kubectl prints JSON")
    }

    /// Starts `kubectl … --watch`.
    pub fn watch(&self, arguments: &[&str]) -> Watch {
        let mut command = self.command("kubectl");
        let child = command.args(arguments).arg("--watch").stdout(Stdio::piped()).spawn().expect("kubectl starts");
        let watch = Watch { child };
        // What happens from now on must not be missed: the first rows are there once it watches.
        std::thread::sleep(Duration::from_millis(500));
        watch
    }

    /// Directory of all clusters, and the name of this one.
    pub fn place(&self) -> (&std::path::Path, &str) {
        (&self.root, &self.name)
    }

    /// Pods of the story's Deployment, in name order.
    pub fn pods(&self) -> Vec<Value> {
        self.pods_of("app=kubernetes-bootcamp")
    }

    /// Pods with these labels, in name order.
    pub fn pods_of(&self, labels: &str) -> Vec<Value> {
        let list = self.json(&["get", "pods", "-l", labels]);
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Fetches `http://ADDRESS:PORT/` from the host within two seconds.
    pub fn fetch(address: &str, port: u64) -> Option<String> {
        let url = format!("http://{address}:{port}/");
        let output = Command::new("curl").args(["--silent", "--fail", "--max-time", "2", &url]).output().expect("curl starts");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The machine's address.
    pub fn address(&self, node: &str) -> String {
        let node = self.json(&["get", "node", node]);
        let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
        let internal = addresses.iter().find(|address| address["type"] == "InternalIP").expect("an InternalIP");
        internal["address"].as_str().expect("a text").to_owned()
    }
}

/// A kubectl that watches.
pub struct Watch {
    child: Child,
}

impl Watch {
    /// Ends it and gives what it printed.
    pub fn end(mut self) -> String {
        self.child.kill().expect("it runs");
        let mut text = String::new();
        self.child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("a text");
        self.child.wait().expect("it ends");
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for arguments in [&["get", "nodes,pods", "-A", "-o", "wide"][..], &["get", "events", "-A"]] {
                let output = self.try_kubectl(arguments);
                eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            }
        }
        let output = self.try_daruma(&["down"]);
        eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // The directory of all clusters belongs to this test; it is empty now.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn text(output: Output, arguments: &[&str]) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Looks every 100 ms until `look` gives something; fails after `limit` with the last complaint.
#[track_caller]
pub fn wait<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> (T, Duration) {
    let started = Instant::now();
    loop {
        match look() {
            Ok(found) => return (found, started.elapsed()),
            Err(complaint) => assert!(started.elapsed() < limit, "{what}: not within {limit:?}; last: {complaint}"),
        }
        #[expect(clippy::disallowed_methods, reason = "a black-box test waits for a real cluster")]
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// `READY`, `STATUS` and `RESTARTS` as kubectl computes them from one pod.
pub fn is_running(pod: &Value) -> bool {
    let ready = pod["status"]["containerStatuses"][0]["ready"] == true;
    ready && pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running"
}

/// The text at a JSON pointer; empty where there is none.
pub fn at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
