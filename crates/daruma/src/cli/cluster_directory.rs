//! What a cluster keeps on the host: its shape, its authorities, its kubeconfigs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use daruma_client::{Client, RateLimit};
use daruma_cluster::pki::{Pair, Pki};
use daruma_cluster::shape::Shape;
use daruma_world::World;

use super::Which;
use crate::components::connection;

/// The directory of one cluster.
#[derive(Debug, Clone)]
pub struct ClusterDirectory {
    path: PathBuf,
    name: String,
}

impl ClusterDirectory {
    /// Name of the file that says how containers of simulated nodes behave.
    pub const BEHAVIOURS: &str = "behaviours.yaml";

    /// The directory of the chosen cluster; it need not exist.
    pub fn of(which: &Which) -> Self {
        Self { path: which.root.join(&which.name), name: which.name.clone() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// The kubeconfig of the user that sets the cluster up.
    pub fn super_admin(&self) -> PathBuf {
        self.path.join("super-admin.conf")
    }

    /// The kubeconfig of the load balancer.
    pub fn load_balancer(&self) -> PathBuf {
        self.path.join("load-balancer.conf")
    }

    /// How containers of simulated nodes behave; there where somebody has said so.
    pub fn behaviours(&self) -> PathBuf {
        self.path.join(Self::BEHAVIOURS)
    }

    /// The shape, where the cluster has been started before.
    pub fn shape(&self) -> Result<Option<Shape>> {
        let path = self.path.join("shape.json");
        match fs::read(&path) {
            Ok(content) => {
                let shape = serde_json::from_slice(&content);
                Ok(Some(shape.with_context(|| format!("{} is damaged; `daruma down` removes the cluster", path.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The shape of a cluster that must exist.
    pub fn existing_shape(&self) -> Result<Shape> {
        match self.shape()? {
            Some(shape) => Ok(shape),
            None => bail!("there is no cluster {:?}; start one with `daruma up --name {}`", self.name, self.name),
        }
    }

    /// Writes the shape, last of all files: a cluster with a shape is complete.
    pub fn write_shape(&self, shape: &Shape) -> Result<()> {
        self.write("shape.json", &serde_json::to_string_pretty(shape)?)
    }

    /// The cluster's authorities; made at the first call.
    pub fn pki(&self, world: &World) -> Result<Pki> {
        let names = ["pki/ca", "pki/front-proxy-ca", "pki/sa"];
        if self.path.join("pki/sa.key").exists() {
            let mut pairs = Vec::new();
            for name in names {
                let read = |suffix: &str| {
                    let path = self.path.join(format!("{name}.{suffix}"));
                    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
                };
                pairs.push(Pair { certificate: read("crt")?, key: read("key")? });
            }
            let [ca, front_proxy_ca, service_account] = <[Pair; 3]>::try_from(pairs).expect("one pair a name");
            return Ok(Pki { ca, front_proxy_ca, service_account });
        }
        let pki = Pki::create(world)?;
        for (name, pair) in names.iter().zip([&pki.ca, &pki.front_proxy_ca, &pki.service_account]) {
            self.write(&format!("{name}.crt"), &pair.certificate)?;
            self.write(&format!("{name}.key"), &pair.key)?;
        }
        Ok(pki)
    }

    /// Writes a file that only root may read, as a whole or not at all.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.path.join(name);
        let directory = path.parent().unwrap_or(&self.path);
        let doing = || format!("writing {}", path.display());
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).with_context(doing)?;
        let unfinished = path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished).with_context(doing)?;
        file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).with_context(doing)?;
        fs::rename(&unfinished, &path).with_context(doing)
    }

    /// A client with all rights.
    pub fn client(&self, world: &World) -> Result<Client> {
        connection::client(world, &self.super_admin(), "daruma", RateLimit::NONE)
    }
}
