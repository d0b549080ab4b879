//! Listens to a switch from inside.
#![expect(clippy::disallowed_methods, reason = "these tests run in real time")]

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};

/// An IPv4 packet that passed the switch.
#[derive(Debug, Clone)]
pub struct Packet {
    pub at: Instant,
    pub source: Ipv4Addr,
    pub tcp_flags: Option<u8>,
}

pub struct Capture {
    stop: Arc<AtomicBool>,
    listening: JoinHandle<Result<Vec<Packet>>>,
}

impl Capture {
    /// Listens in the namespace behind `path` until [`Self::stop`].
    pub fn start(path: &str) -> Result<Self> {
        let namespace = File::open(path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (ready, wait) = std::sync::mpsc::channel();
        let listening = std::thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            let heard = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll)?;
            ready.send(())?;
            let mut packets = Vec::new();
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                match recv(heard.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    Ok(count) => packets.extend(read(&buffer[..count])),
                    Err(_) => std::thread::sleep(Duration::from_micros(200)),
                }
            }
            Ok(packets)
        });
        wait.recv()?;
        Ok(Self { stop, listening })
    }

    pub fn stop(self) -> Result<Vec<Packet>> {
        self.stop.store(true, Ordering::Relaxed);
        self.listening.join().map_err(|_| anyhow!("the listener panicked"))?
    }
}

fn read(frame: &[u8]) -> Option<Packet> {
    let (ether_type, ip) = (frame.get(12..14)?, frame.get(14..)?);
    if ether_type != [8, 0] {
        return None;
    }
    let header = usize::from(ip.first()? & 15) * 4;
    let source = Ipv4Addr::from(*ip.get(12..16)?.first_chunk::<4>()?);
    let tcp_flags = if *ip.get(9)? == 6 { ip.get(header + 13).copied() } else { None };
    Some(Packet { at: Instant::now(), source, tcp_flags })
}
