//! What a container's start is made of: image, configuration and sandbox put together. Pure.

use std::path::{Path, PathBuf};

use daruma_world::containers::{ContainerConfig, ContainerError, Mount, Propagation, Result, SandboxConfig};

use crate::images::ImageRecord;
use crate::shim::protocol::{PidNamespace, ProcessSpec};

/// Search path where the image names none: containerd `pkg/oci/spec.go` defaultUnixEnv.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Entry point and arguments, as Kubernetes combines them: `command` replaces both of the image's.
pub fn command_line(image: &ImageRecord, config: &ContainerConfig) -> Result<Vec<String>> {
    let (entry, args) = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => (&config.command, &config.args),
        (true, false) => (&image.config.entrypoint, &config.args),
        (true, true) => (&image.config.entrypoint, &image.config.cmd),
    };
    let argv: Vec<String> = entry.iter().chain(args).cloned().collect();
    if argv.is_empty() {
        return Err(ContainerError::Start("no command specified".to_owned()));
    }
    Ok(argv)
}

/// The environment: default path, image, host name, terminal, then the container's own; later ones win.
pub fn environment(image: &ImageRecord, hostname: &str, config: &ContainerConfig) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    let mut set = |entry: String| {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        let same = |known: &&mut String| known.split('=').next() == Some(name.as_str());
        match env.iter_mut().find(same) {
            Some(known) => *known = entry,
            None => env.push(entry),
        }
    };
    set(DEFAULT_PATH.to_owned());
    image.config.env.iter().cloned().for_each(&mut set);
    if config.tty {
        set("TERM=xterm".to_owned());
    }
    if !hostname.is_empty() {
        set(format!("HOSTNAME={hostname}"));
    }
    config.env.iter().map(|(name, value)| format!("{name}={value}")).for_each(&mut set);
    env
}

/// Where the process begins.
fn working_dir(image: &ImageRecord, config: &ContainerConfig) -> PathBuf {
    let named = config.working_dir.clone().filter(|path| !path.as_os_str().is_empty());
    let image = Some(PathBuf::from(&image.config.working_dir)).filter(|path| !path.as_os_str().is_empty());
    Path::new("/").join(named.or(image).unwrap_or_default())
}

/// The main process.
pub fn process(
    image: &ImageRecord,
    hostname: &str,
    config: &ContainerConfig,
    oom_score_adj: i32,
    procs_files: Vec<PathBuf>,
) -> Result<ProcessSpec> {
    let mut security = config.security.clone();
    if security.privileged {
        // What `privileged` is defined as.
        security.no_new_privileges = false;
    }
    Ok(ProcessSpec {
        argv: command_line(image, config)?,
        env: environment(image, hostname, config),
        cwd: working_dir(image, config),
        image_user: image.config.user.clone(),
        security,
        tty: config.tty,
        oom_score_adj,
        procs_files,
    })
}

/// The pod's mounts, with the sandbox's own files where the pod has none for them.
pub fn mounts(sandbox_dir: &Path, config: &ContainerConfig) -> Vec<Mount> {
    let mut mounts = config.mounts.clone();
    for (name, target, fallback) in [("resolv.conf", "/etc/resolv.conf", true), ("hostname", "/etc/hostname", false)] {
        if mounts.iter().any(|mount| mount.container_path == Path::new(target)) {
            continue;
        }
        let mut source = sandbox_dir.join(name);
        if !source.exists() {
            source = PathBuf::from(target);
            if !fallback || !source.exists() {
                continue;
            }
        }
        let read_only = config.security.read_only_root;
        mounts.push(Mount { host_path: source, container_path: target.into(), read_only, propagation: Propagation::Private });
    }
    mounts
}

/// Which processes the container sees.
pub fn pid_namespace(sandbox: &SandboxConfig) -> PidNamespace {
    match (sandbox.shared.pid, sandbox.shared.pod_pid) {
        (true, _) => PidNamespace::Machine,
        (false, true) => PidNamespace::Pod,
        (false, false) => PidNamespace::Own,
    }
}

/// A signal by name (`SIGTERM`, `TERM`) or number; SIGTERM where unknown.
pub fn signal_number(name: &str) -> i32 {
    if let Ok(number) = name.parse::<i32>() {
        return number;
    }
    let name = name.to_ascii_uppercase();
    let whole = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    if let Some(offset) = whole.strip_prefix("SIGRTMIN") {
        return 34 + offset.trim_start_matches('+').parse::<i32>().unwrap_or(0);
    }
    whole.parse::<nix::sys::signal::Signal>().map_or(libc::SIGTERM, |signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageConfig;

    fn image() -> ImageRecord {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        ImageRecord {
            config: ImageConfig {
                entrypoint: strings(&["/e"]),
                cmd: strings(&["c"]),
                env: strings(&["A=1", "B=2"]),
                ..ImageConfig::default()
            },
            ..ImageRecord::default()
        }
    }

    #[test]
    fn commands() {
        let check = |command: &[&str], args: &[&str], wanted: &[&str]| {
            let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            let config = ContainerConfig { command: strings(command), args: strings(args), ..ContainerConfig::default() };
            assert_eq!(command_line(&image(), &config).unwrap(), wanted);
        };
        check(&[], &[], &["/e", "c"]);
        check(&[], &["x"], &["/e", "x"]);
        check(&["/n"], &[], &["/n"]);
        check(&["/n"], &["x"], &["/n", "x"]);
        assert!(command_line(&ImageRecord::default(), &ContainerConfig::default()).is_err());
    }

    #[test]
    fn environments() {
        let config = ContainerConfig {
            env: vec![("B".to_owned(), "3".to_owned()), ("C".to_owned(), "x=y".to_owned())],
            ..ContainerConfig::default()
        };
        assert_eq!(environment(&image(), "h", &config), [DEFAULT_PATH, "A=1", "B=3", "HOSTNAME=h", "C=x=y"]);
    }

    #[test]
    fn signals() {
        for (name, wanted) in [("SIGTERM", 15), ("QUIT", 3), ("9", 9), ("SIGRTMIN+3", 37), ("nonsense", 15)] {
            assert_eq!(signal_number(name), wanted, "{name}");
        }
    }
}
