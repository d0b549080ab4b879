//! What a machine is made of.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MachineError;

/// The description of one machine. It holds no state: a machine is on or off elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Name within the cluster, such as `worker-0`.
    pub name: String,
    /// The cluster that the machine belongs to.
    pub cluster: String,
    /// Host name inside the machine.
    pub hostname: String,
    /// CPU time in cores.
    pub cpus: f64,
    /// Memory in bytes, kernel memory included.
    pub memory_bytes: u64,
    /// Size of the disk in bytes; taken when the disk is first made.
    pub disk_bytes: u64,
    /// Address of the network card.
    pub address: Ipv4Addr,
    /// Length of the network prefix of `address`.
    pub prefix: u8,
    /// Default gateway, if any.
    pub gateway: Option<Ipv4Addr>,
    /// Hardware address of the network card; derived from the names when absent.
    pub mac: Option<[u8; 6]>,
    /// `/etc/machine-id`: 32 hexadecimal digits.
    pub machine_id: String,
    /// The firmware's identity of the machine.
    pub system_uuid: String,
    /// What PID 1 runs and restarts: program and arguments, as seen inside the machine.
    pub command: Vec<String>,
    /// What the command is called when it is stopped, started or signalled, e.g. `kubelet`.
    pub service: String,
    /// How long PID 1 waits before it starts a command again that has ended.
    pub restart_delay: Duration,
    /// Environment of the command, beside `PATH` and `HOME`.
    pub env: BTreeMap<String, String>,
    /// File inside the machine that receives the command's output.
    pub log_file: PathBuf,
    /// Files written to the disk at each power-on.
    pub seed_files: Vec<SeedFile>,
    /// Host files and directories shown inside the machine.
    pub binds: Vec<Bind>,
    /// How long a reset machine stays dark.
    pub boot_time: Duration,
    /// How long a shutdown waits for the command before it kills everything.
    pub shutdown_grace: Duration,
}

/// A file that is written before the command starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedFile {
    /// Absolute path inside the machine.
    pub path: PathBuf,
    /// The content.
    #[serde(with = "latin1")]
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Write it only when it is absent.
    pub once: bool,
}

/// A piece of the host's file system shown inside the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// File or directory of the host.
    pub host: PathBuf,
    /// Absolute path inside the machine; made where it is missing.
    pub machine: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
    /// Do without where the host does not have it when the machine boots.
    #[serde(default)]
    pub optional: bool,
}

impl MachineSpec {
    /// The hardware address of the network card: given, or a locally administered one that stays the same.
    pub fn mac(&self) -> [u8; 6] {
        self.mac.unwrap_or_else(|| {
            let hash = fnv(format!("{}/{}", self.cluster, self.name).as_bytes()).to_be_bytes();
            [0x02, 0xda, hash[4], hash[5], hash[6], hash[7]]
        })
    }

    /// Checks what the kernel would refuse late or misread.
    ///
    /// # Errors
    /// [`MachineError::Invalid`] with the first problem.
    pub fn check(&self) -> Result<(), MachineError> {
        let invalid = |problem: &str| Err(MachineError::Invalid { machine: self.name.clone(), problem: problem.to_owned() });
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.is_empty() || self.name.len() > 63 || !self.name.bytes().all(plain) {
            return invalid("its name must be of 1 to 63 lower-case letters, digits and hyphens");
        }
        if !(self.cpus >= 0.01 && self.cpus <= 4096.0) {
            return invalid("its cpus must be from 0.01 to 4096");
        }
        if self.memory_bytes < 16 << 20 {
            return invalid("its memory must be 16 MiB or more");
        }
        if self.disk_bytes < 32 << 20 {
            return invalid("its disk must be 32 MiB or more");
        }
        if self.machine_id.len() != 32 || !self.machine_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return invalid("its machine id must be 32 hexadecimal digits");
        }
        if self.command.is_empty() {
            return invalid("its command is empty");
        }
        let paths = self.seed_files.iter().map(|file| &file.path).chain(self.binds.iter().map(|bind| &bind.machine));
        if paths.chain([&self.log_file]).any(|path| !path.is_absolute()) {
            return invalid("its paths must be absolute");
        }
        Ok(())
    }
}

/// FNV-1a, for names that must stay the same between runs.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Bytes as a string of the characters U+0000 to U+00FF: compact for text, possible for everything.
mod latin1 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&bytes.iter().map(|byte| char::from(*byte)).collect::<String>())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.chars().map(|character| u8::try_from(character).map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::machine) fn spec() -> MachineSpec {
        MachineSpec {
            name: "worker-0".to_owned(),
            cluster: "demo".to_owned(),
            hostname: "worker-0".to_owned(),
            cpus: 1.0,
            memory_bytes: 1 << 30,
            disk_bytes: 1 << 30,
            address: Ipv4Addr::new(10, 88, 0, 20),
            prefix: 24,
            gateway: None,
            mac: None,
            machine_id: "0".repeat(32),
            system_uuid: String::new(),
            command: vec!["/usr/local/bin/daruma".to_owned()],
            service: "kubelet".to_owned(),
            restart_delay: Duration::from_secs(10),
            env: BTreeMap::new(),
            log_file: PathBuf::from("/var/log/kubelet.log"),
            seed_files: vec![SeedFile {
                path: PathBuf::from("/etc/a"),
                content: vec![0, 65, 200, 255],
                mode: 0o600,
                once: false,
            }],
            binds: Vec::new(),
            boot_time: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(10),
        }
    }

    #[test]
    fn travels_as_json() {
        let text = serde_json::to_string(&spec()).unwrap();
        assert_eq!(serde_json::from_str::<MachineSpec>(&text).unwrap(), spec());
    }

    #[test]
    fn names_the_first_problem() {
        type Change = fn(&mut MachineSpec);
        let cases: [(Change, &str); 5] = [
            (|spec| spec.name = "Worker".to_owned(), "machine Worker: its name must be"),
            (|spec| spec.cpus = f64::NAN, "machine worker-0: its cpus must be"),
            (|spec| spec.memory_bytes = 5, "machine worker-0: its memory must be"),
            (|spec| spec.machine_id = "x".to_owned(), "machine worker-0: its machine id"),
            (|spec| spec.seed_files[0].path = PathBuf::from("a"), "machine worker-0: its paths"),
        ];
        assert!(spec().check().is_ok());
        for (change, expected) in cases {
            let mut spec = spec();
            change(&mut spec);
            let problem = spec.check().unwrap_err().to_string();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }

    #[test]
    fn hardware_addresses_stay_and_differ() {
        let other = MachineSpec { name: "worker-1".to_owned(), ..spec() };
        assert_eq!(spec().mac(), spec().mac());
        assert_ne!(spec().mac(), other.mac());
        assert_eq!(spec().mac()[0] & 3, 2);
    }
}
