//! An API server alone, as a process of the test: loopback, a free port, a directory of its own.

#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::disallowed_methods, reason = "it waits for a real process")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use daruma_cluster::kubeconfig;
use daruma_cluster::pki::Pki;
use daruma_cluster::shape::Shape;
use daruma_host::https::{ClientIdentity, HttpsTransport, TlsTrust};
use daruma_world::World;
use http::{Method, StatusCode};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::calls;

/// How long a process that is asked to end may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server and all that it needs; the process ends and the directory goes with the value.
pub struct ApiServer {
    binary: PathBuf,
    directory: PathBuf,
    pki: Pki,
    world: World,
    admin: ClientIdentity,
    port: u16,
    child: Option<Child>,
    others: Vec<Child>,
}

impl ApiServer {
    /// Lays out certificates in a new directory; nothing runs yet.
    pub fn prepare(binary: &Path, name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("daruma-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a temporary directory");
        let world = daruma_host::world::real();
        let pki = Pki::create(&world).expect("authorities");
        let network = Ipv4Addr::new(10, 88, 0, 0);
        let shape = Shape {
            name: name.into(),
            network,
            machines: Shape::place(network, 1, 0),
            simulated: 0,
            simulated_gone: Default::default(),
            cpu_millis: 1000,
            memory_bytes: 1 << 30,
            disk_bytes: 1 << 30,
            boot_time_ms: 0,
            node_monitor_grace_period: "50s".into(),
            default_toleration_seconds: 300,
            settings: BTreeMap::new(),
        };
        let serving = pki.api_server(&world, &shape).expect("a certificate");
        let admin = pki.super_admin(&world).expect("a certificate");
        for (file, content) in [
            ("ca.crt", &pki.ca.certificate),
            ("server.crt", &serving.certificate),
            ("server.key", &serving.key),
            ("sa.pub", &pki.service_account.certificate),
            ("sa.key", &pki.service_account.key),
        ] {
            fs::write(directory.join(file), content).expect("a file");
        }
        let admin = ClientIdentity::Certificate { certificate: admin.certificate, key: admin.key };
        // The kernel's choice; taken up again by the server a moment later.
        let port = free_port();
        Self { binary: binary.into(), directory, pki, world, admin, port, child: None, others: Vec::new() }
    }

    /// Starts the process.
    pub fn start(&mut self) {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.directory.join(name).display());
        let arguments = [
            "kube-apiserver".to_owned(),
            "--advertise-address=10.88.0.10".into(),
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={}", self.port),
            file("data-dir", "store"),
            file("client-ca-file", "ca.crt"),
            file("tls-cert-file", "server.crt"),
            file("tls-private-key-file", "server.key"),
            file("service-account-key-file", "sa.pub"),
            file("service-account-signing-key-file", "sa.key"),
            "--max-requests-inflight=4000".into(),
            "--max-mutating-requests-inflight=2000".into(),
        ];
        self.child = Some(self.spawn(&arguments, "kube-apiserver"));
    }

    fn spawn(&self, arguments: &[String], name: &str) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.join(format!("{name}.log")));
        let log = log.expect("a log file");
        let mut command = Command::new(&self.binary);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().expect("daruma starts")
    }

    /// A kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        let pair = self.pki.super_admin(&self.world).expect("a certificate");
        let url = format!("https://127.0.0.1:{}", self.port);
        let path = self.directory.join("kubeconfig");
        let config = kubeconfig::with_certificate("daruma", &url, &self.pki.ca.certificate, "admin", &pair);
        fs::write(&path, config).expect("a file");
        path
    }

    /// Starts another component with a kubeconfig for `user`; it ends with the API server's value.
    pub fn component(&mut self, name: &str, user: &str, flags: &[String]) -> u32 {
        let pair = self.pki.component(&self.world, user).expect("a certificate");
        let url = format!("https://127.0.0.1:{}", self.port);
        let config = kubeconfig::with_certificate("bench", &url, &self.pki.ca.certificate, user, &pair);
        let path = self.directory.join(format!("{name}.conf"));
        fs::write(&path, config).expect("a file");
        let mut arguments = vec![name.to_owned(), format!("--kubeconfig={}", path.display())];
        arguments.push(format!("--secure-port={}", free_port()));
        arguments.extend_from_slice(flags);
        let child = self.spawn(&arguments, name);
        let pid = child.id();
        self.others.push(child);
        pid
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The running process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// A file of its directory, such as the authority's certificate.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A connection of its own, as a member of system:masters.
    pub fn transport(&self) -> HttpsTransport {
        self.connector()()
    }

    /// Makes connections for as long as anyone wants.
    pub fn connector(&self) -> Arc<dyn Fn() -> HttpsTransport + Send + Sync> {
        let (trust, admin, port) = (TlsTrust::Ca(self.pki.ca.certificate.clone()), self.admin.clone(), self.port);
        Arc::new(move || HttpsTransport::new("127.0.0.1", port, &trust, &admin, false).expect("certificates of our own"))
    }

    /// Waits until /readyz says ok; how long that took.
    pub async fn ready(&mut self) -> Result<Duration, String> {
        let started = Instant::now();
        let transport = self.transport();
        loop {
            let last = match calls::call(&transport, Method::GET, "/readyz", b"").await {
                Ok((StatusCode::OK, _)) => return Ok(started.elapsed()),
                Ok((status, body)) => format!("{status}: {}", String::from_utf8_lossy(&body)),
                Err(error) => error,
            };
            let gone = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if gone.is_some() || started.elapsed() > Duration::from_secs(20) {
                return Err(format!("not ready: {last}; {gone:?}; {}", self.log("kube-apiserver")));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The end of a component's log.
    pub fn log(&self, name: &str) -> String {
        let log = fs::read_to_string(self.directory.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.others.drain(..).chain(self.child.take()).for_each(end);
        if std::env::var_os("DARUMA_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Asks a process to end, as its supervisor would (one that is watched at its work writes down what was seen), and kills it
/// where it does not.
fn end(mut child: Child) {
    let pid = Pid::from_raw(child.id().cast_signed());
    let asked = Instant::now();
    let is_asked = signal::kill(pid, Signal::SIGTERM).is_ok();
    while is_asked && asked.elapsed() < PATIENCE && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
