//! Network namespaces for tests.

use std::path::PathBuf;
use std::sync::mpsc;

use daruma_host::netlink::namespace::run_inside;

/// A network namespace that lives as long as this value: a thread that sits in it.
pub struct Namespace {
    /// Where it can be entered.
    pub path: PathBuf,
    _alive: mpsc::Sender<()>,
}

impl Namespace {
    /// A fresh one; `None` where this process may not make any (not root).
    pub fn new() -> Option<Self> {
        let (alive, end) = mpsc::channel::<()>();
        let (ready, made) = mpsc::channel();
        std::thread::Builder::new()
            .spawn(move || {
                let made = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok();
                let _ = ready.send(made.then(nix::unistd::gettid));
                let _ = end.recv();
            })
            .expect("a thread starts");
        let thread = made.recv().expect("the thread answers")?;
        Some(Self { path: PathBuf::from(format!("/proc/self/task/{thread}/ns/net")), _alive: alive })
    }

    /// Runs blocking work inside.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
        run_inside(Some(self.path.clone()), work).await
    }

    #[allow(dead_code, reason = "not every test reads the rules back")]
    /// What `nft list ruleset` says inside; `None` where the program is missing.
    pub async fn nft(&self) -> Option<String> {
        self.run(|| std::process::Command::new("nft").args(["list", "ruleset"]).output())
            .await
            .ok()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }
}
