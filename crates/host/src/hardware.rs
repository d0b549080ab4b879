//! The machine under a component, as the files of the machine tell it.
#![expect(clippy::disallowed_methods, reason = "reading kernel files blocks for microseconds and runs on tokio's threads")]

use std::fs;
use std::io;
use std::net::IpAddr;

use daruma_world::hardware::{Facts, Hardware, Load};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::machine::{CARD, FACTS_FILE, MachineFacts, usage};

/// The machine that this process runs in.
#[derive(Debug, Clone)]
pub struct MachineHardware {
    facts: Facts,
}

impl MachineHardware {
    /// Reads what stays the same until power-off.
    ///
    /// # Errors
    /// When this process does not run inside a machine.
    pub fn read() -> io::Result<Self> {
        let file = FACTS_FILE;
        let told = fs::read(file)
            .map_err(|error| io::Error::new(error.kind(), format!("this is no machine of a cluster: {file}: {error}")))?;
        let told: MachineFacts = serde_json::from_slice(&told)?;
        let usage = usage::read()?;
        let system = nix::sys::utsname::uname()?;
        let facts = Facts {
            hostname: system.nodename().to_string_lossy().into_owned(),
            machine_id: line("/etc/machine-id")?,
            system_uuid: told.system_uuid,
            boot_id: told.boot_id,
            kernel_version: system.release().to_string_lossy().into_owned(),
            os_image: pretty_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            architecture: architecture(&system.machine().to_string_lossy()),
            cpu_millis: if usage.cpu_millis == 0 { told.cpu_millis } else { usage.cpu_millis },
            memory_bytes: usage.memory_limit_bytes.min(told.memory_bytes),
            addresses: vec![IpAddr::V4(told.address)],
        };
        Ok(Self { facts })
    }
}

impl Hardware for MachineHardware {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn load(&self) -> BoxFuture<'static, io::Result<Load>> {
        async { tokio::task::spawn_blocking(load).await.map_err(io::Error::other)? }.boxed()
    }
}

fn load() -> io::Result<Load> {
    let usage = usage::read()?;
    let (network_rx_bytes, network_tx_bytes) = card_bytes(&fs::read_to_string("/proc/net/dev")?, CARD);
    Ok(Load {
        cpu_ns: usage.cpu_ns,
        memory_usage_bytes: usage.memory_bytes,
        memory_working_set_bytes: usage.memory_bytes.saturating_sub(usage.inactive_file_bytes),
        memory_rss_bytes: usage.anonymous_bytes,
        page_faults: usage.page_faults,
        major_page_faults: usage.major_page_faults,
        network_rx_bytes,
        network_tx_bytes,
        tasks: usage.tasks,
        tasks_max: usage.tasks_max,
    })
}

fn line(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// Bytes received and sent, from the text of `/proc/net/dev`.
fn card_bytes(text: &str, card: &str) -> (u64, u64) {
    let figures = text.lines().find_map(|line| line.trim_start().strip_prefix(card)?.strip_prefix(':'));
    let figures: Vec<u64> = figures.unwrap_or_default().split_whitespace().map(|figure| figure.parse().unwrap_or(0)).collect();
    (figures.first().copied().unwrap_or(0), figures.get(8).copied().unwrap_or(0))
}

fn pretty_name(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Kubernetes names architectures as Go does.
fn architecture(machine: &str) -> String {
    match machine {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_card_among_others() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n  eth0: 900 3 0 0 0 0 0 0 700 2 0 0 0 0 0 0\n";
        assert_eq!(card_bytes(text, "eth0"), (900, 700));
        assert_eq!(card_bytes(text, "eth1"), (0, 0));
    }

    #[test]
    fn reads_names_as_kubernetes_shows_them() {
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n"), "Debian GNU/Linux 13 (trixie)");
        assert_eq!(architecture("x86_64"), "amd64");
    }
}
