//! Starting a supervisor that outlives its starter, and tidying up after one that was killed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cluster::take_lock;
use super::{Client, SUPERVISOR_MODE, SupervisorConfig, SupervisorError};
use crate::machine::subnet::{Subnet, uplink_name};
use crate::machine::{Doing, cgroup, switch};

/// The program whose supervisor mode is started.
#[derive(Debug, Clone)]
pub struct Program {
    /// The binary.
    pub path: PathBuf,
    /// Arguments before the path of the configuration.
    pub arguments: Vec<String>,
}

impl Program {
    /// This binary's own supervisor mode.
    pub fn this() -> Self {
        Self { path: PathBuf::from("/proc/self/exe"), arguments: vec![SUPERVISOR_MODE.to_owned()] }
    }
}

/// Starts the supervisor as a process of its own session and waits until every machine is booting.
///
/// # Errors
/// [`SupervisorError::UpAlready`] when one runs; what the new one said when it could not start.
pub fn launch(config: &SupervisorConfig, program: &Program) -> Result<Client, SupervisorError> {
    let files = config.files();
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&files.directory)
        .doing(|| format!("making {}", files.directory.display()))?;
    // Refused here already, so that a running supervisor's configuration is not overwritten.
    if take_lock(config)?.is_none() {
        let pid = fs::read_to_string(&files.pid).unwrap_or_default().trim().to_owned();
        return Err(SupervisorError::UpAlready { cluster: config.cluster.clone(), pid });
    }
    write_config(config).doing(|| format!("writing {}", files.config.display()))?;
    let log = File::options().append(true).create(true).mode(0o600).open(&files.log);
    let log = log.doing(|| format!("opening {}", files.log.display()))?;
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).arg(&files.config).current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    detach(&mut command);
    let mut child = command.spawn().doing(|| format!("starting {}", program.path.display()))?;
    let mut told = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut told).doing(|| "listening to the supervisor".to_owned())?;
    }
    if told.trim() == "ready" {
        return Client::connect(&config.root, &config.cluster);
    }
    let status = child.wait().doing(|| "waiting for the supervisor".to_owned())?;
    let problem = if told.trim().is_empty() { format!("it ended with {status}") } else { told.trim().to_owned() };
    Err(SupervisorError::NotStarted { cluster: config.cluster.clone(), problem })
}

fn detach(command: &mut Command) {
    #[expect(unsafe_code, reason = "a new session between fork and exec")]
    // SAFETY: setsid is safe to call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
}

/// Seed files may hold keys, so only the owner may read it.
fn write_config(config: &SupervisorConfig) -> io::Result<()> {
    let path = config.files().config;
    let unfinished = path.with_extension("json.new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&serde_json::to_vec(config)?)?;
    fs::rename(unfinished, path)
}

/// Removes what a killed supervisor left on the host: processes, control groups, link and route. With
/// `remove_files`, the machines' disks and the supervisor's files too. Harmless when nothing is left.
///
/// # Errors
/// [`SupervisorError::UpAlready`] when a supervisor runs: ask that one.
pub fn clean(root: &Path, cluster: &str, remove_files: bool) -> Result<(), SupervisorError> {
    let network = Subnet::chosen(root, cluster);
    let subnet = network.unwrap_or(Subnet { network: std::net::Ipv4Addr::UNSPECIFIED });
    let (cluster_name, beside) = (cluster.to_owned(), Vec::new());
    let config = SupervisorConfig { cluster: cluster_name, root: root.to_owned(), machines: Vec::new(), subnet, beside };
    let files = config.files();
    if !files.directory.exists() {
        return Ok(());
    }
    let Some(_lock) = take_lock(&config)? else {
        let pid = fs::read_to_string(&files.pid).unwrap_or_default().trim().to_owned();
        return Err(SupervisorError::UpAlready { cluster: cluster.to_owned(), pid });
    };
    cgroup::clean(&cgroup::cluster_directory(root, cluster))?;
    if let Some(subnet) = network {
        switch::clean(&uplink_name(root, cluster), subnet)?;
    }
    for path in [&files.socket, &files.pid, &files.config] {
        // Absent files are what is wanted.
        let _ = fs::remove_file(path);
    }
    if remove_files {
        match fs::remove_dir_all(&files.machines) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).doing(|| format!("removing {}", files.machines.display())).map_err(Into::into);
            }
            _ => {}
        }
        for path in [files.log, files.faults, files.directory.join("subnet")] {
            let _ = fs::remove_file(path);
        }
        // Others may keep files here; an empty directory goes.
        let _ = fs::remove_dir(files.directory);
    }
    Ok(())
}
