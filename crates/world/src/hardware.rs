//! The machine as its operating system describes it.

use std::net::IpAddr;

use futures::future::BoxFuture;

/// What stays the same from power-on to power-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Host name.
    pub hostname: String,
    /// Stays over reboots (`/etc/machine-id`).
    pub machine_id: String,
    /// The firmware's identity of the machine; stays over reboots.
    pub system_uuid: String,
    /// New at each power-on.
    pub boot_id: String,
    /// Kernel release, as `uname -r` prints it.
    pub kernel_version: String,
    /// Human-readable name of the operating system image.
    pub os_image: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// CPU time the machine may use, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Addresses of the machine's network card, primary first.
    pub addresses: Vec<IpAddr>,
}

/// What the machine as a whole uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// CPU time used since power-on, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use in bytes, page cache included.
    pub memory_usage_bytes: u64,
    /// Memory in use less inactive page cache, in bytes.
    pub memory_working_set_bytes: u64,
    /// Anonymous memory in bytes.
    pub memory_rss_bytes: u64,
    /// Page faults and major page faults since power-on.
    pub page_faults: u64,
    /// Major page faults since power-on.
    pub major_page_faults: u64,
    /// Bytes received on the network card since power-on.
    pub network_rx_bytes: u64,
    /// Bytes sent on the network card since power-on.
    pub network_tx_bytes: u64,
    /// Processes and threads running.
    pub tasks: u64,
    /// Most processes and threads that may run at once.
    pub tasks_max: u64,
}

/// The machine under a component.
pub trait Hardware: Send + Sync {
    /// What stays the same until power-off.
    fn facts(&self) -> Facts;
    /// What is used now.
    fn load(&self) -> BoxFuture<'static, std::io::Result<Load>>;
}
