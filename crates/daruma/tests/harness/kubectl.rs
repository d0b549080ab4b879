//! The real kubectl and an API server alone, without a cluster.

#![allow(dead_code, reason = "every test binary uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::api_server::ApiServer;

/// An API server alone and a kubectl that talks to it.
pub struct Setting {
    /// The server.
    pub server: ApiServer,
    /// Where kubectl reads how to reach it.
    pub kubeconfig: PathBuf,
}

impl Setting {
    /// Starts the server.
    pub fn new(name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = runtime.block_on(async {
            let mut server = ApiServer::prepare(&super::binary(), name);
            server.start();
            server.ready().await.expect("the API server starts");
            server
        });
        let kubeconfig = server.kubeconfig();
        Self { server, kubeconfig }
    }

    /// Writes a file for `-f`.
    pub fn manifest(&self, content: &str) -> PathBuf {
        let path = self.server.file("manifest.yaml");
        fs::write(&path, content).expect("a file");
        path
    }

    /// Runs kubectl.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        Command::new("kubectl").env("KUBECONFIG", &self.kubeconfig).args(arguments).output().expect("kubectl starts")
    }

    /// Runs kubectl, which succeeds; gives what it says.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}: {out}{err}");
        format!("{out}{err}")
    }

    /// Runs kubectl, which fails; gives the error.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(!output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// A path as kubectl takes it.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
