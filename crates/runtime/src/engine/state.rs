//! What the engine remembers of sandboxes and containers, in memory and on the machine's disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daruma_world::containers::{Container, ContainerConfig, ContainerState, Sandbox, SandboxConfig};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A sandbox on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What it was made from.
    pub config: Arc<SandboxConfig>,
    /// Creation time.
    pub created_at: jiff::Timestamp,
    /// Its shim runs, as far as is known.
    pub ready: bool,
    /// Pod addresses.
    pub addresses: Vec<IpAddr>,
}

impl SandboxRecord {
    /// As the engine's callers see it.
    pub fn view(&self) -> Sandbox {
        Sandbox {
            id: self.id.clone(),
            config: self.config.clone(),
            ready: self.ready,
            created_at: self.created_at,
            addresses: self.addresses.clone(),
        }
    }
}

/// A container on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its sandbox.
    pub sandbox_id: String,
    /// What it was made from.
    pub config: Arc<ContainerConfig>,
    /// The image's name.
    pub image_ref: String,
    /// The image's digest reference or id.
    pub image_id: String,
    /// Key of the image in the store.
    pub image_key: String,
    /// Creation time.
    pub created_at: jiff::Timestamp,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Absolute path of its log.
    pub log_path: PathBuf,
}

impl ContainerRecord {
    /// As the engine's callers see it.
    pub fn view(&self) -> Container {
        Container {
            id: self.id.clone(),
            sandbox_id: self.sandbox_id.clone(),
            config: self.config.clone(),
            image_ref: self.image_ref.clone(),
            image_id: self.image_id.clone(),
            created_at: self.created_at,
            state: self.state.clone(),
            log_path: self.log_path.clone(),
        }
    }

    /// Whether its main process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    /// Marks a container whose end nobody saw: power was cut, or its shim was killed.
    pub fn lose(&mut self, now: jiff::Timestamp) {
        let started_at = match &self.state {
            ContainerState::Exited { .. } => return,
            ContainerState::Running { started_at } => Some(*started_at),
            ContainerState::Created => None,
        };
        self.state = ContainerState::Exited {
            started_at,
            finished_at: now,
            exit_code: 255,
            reason: "Error".to_owned(),
            message: "the container was lost: its machine or its shim ended before it".to_owned(),
        };
    }
}

/// Everything, in memory.
#[derive(Debug, Default)]
pub struct State {
    /// By id.
    pub sandboxes: BTreeMap<String, SandboxRecord>,
    /// By id.
    pub containers: BTreeMap<String, ContainerRecord>,
    /// Sandboxes whose shim is ending because it was told to.
    pub stopping: BTreeSet<String>,
}

/// Name of the record in a sandbox's or container's directory.
const RECORD: &str = "record.json";

/// Writes a record so that a reader finds the old or the new one, also after a power cut; one
/// journal commit carries content and rename.
pub fn save<T: Serialize>(directory: &Path, record: &T, durable: bool) -> io::Result<()> {
    let temporary = directory.join("record.tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(record).map_err(io::Error::other)?)?;
    if durable {
        file.sync_data()?;
    }
    fs::rename(&temporary, directory.join(RECORD))?;
    if durable {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Reads every record below `directory`. What a power cut left unreadable is removed.
pub fn load<T: DeserializeOwned>(directory: &Path) -> io::Result<Vec<T>> {
    let mut records = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        match fs::read(entry.join(RECORD))
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
        {
            Ok(record) => records.push(record),
            Err(error) => {
                tracing::warn!(directory = %entry.display(), %error, "removing an incomplete record");
                fs::remove_dir_all(&entry)?;
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_torn_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let record = SandboxRecord {
            id: "a".to_owned(),
            config: Arc::default(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            ready: true,
            addresses: vec!["10.244.0.2".parse().unwrap()],
        };
        save(&dir.path().join("a"), &record, true).unwrap();
        fs::write(dir.path().join("b").join(RECORD), "").unwrap();
        let loaded: Vec<SandboxRecord> = load(dir.path()).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].view(), record.view());
        assert!(!dir.path().join("b").exists());
    }
}
