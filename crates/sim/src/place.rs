//! Where scopes are: a machine, or the outside.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use daruma_world::machines::PowerState;

use crate::disk::SimDisk;

/// A machine as its scopes, its disk and the network know it; it stays over power-offs.
pub(crate) struct Place {
    /// `None` outside.
    pub(crate) name: Option<String>,
    /// Number in this universe; 0 is the outside.
    pub(crate) index: u32,
    pub(crate) address: Ipv4Addr,
    pub(crate) disk: Arc<SimDisk>,
    offset_ms: AtomicI64,
    power: AtomicU8,
    boots: AtomicU64,
    /// Bytes received and sent on the network card since power-on.
    pub(crate) rx_bytes: AtomicU64,
    pub(crate) tx_bytes: AtomicU64,
}

impl Place {
    pub(crate) fn new(name: Option<String>, index: u32, address: Ipv4Addr, disk: Arc<SimDisk>) -> Arc<Self> {
        let power = if name.is_none() { PowerState::On } else { PowerState::Off };
        let place = Self {
            name,
            index,
            address,
            disk,
            offset_ms: AtomicI64::new(0),
            power: AtomicU8::new(0),
            boots: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
        };
        place.set_power(power);
        Arc::new(place)
    }

    pub(crate) fn is_outside(&self) -> bool {
        self.name.is_none()
    }

    pub(crate) fn power(&self) -> PowerState {
        match self.power.load(Ordering::Acquire) {
            0 => PowerState::Off,
            1 => PowerState::On,
            _ => PowerState::Hung,
        }
    }

    pub(crate) fn set_power(&self, power: PowerState) {
        let number = match power {
            PowerState::Off => 0,
            PowerState::On => 1,
            PowerState::Hung => 2,
        };
        self.power.store(number, Ordering::Release);
    }

    /// How often it was given power.
    pub(crate) fn boots(&self) -> u64 {
        self.boots.load(Ordering::Acquire)
    }

    /// Counts a power-on.
    pub(crate) fn begin_boot(&self) -> u64 {
        self.rx_bytes.store(0, Ordering::Relaxed);
        self.tx_bytes.store(0, Ordering::Relaxed);
        self.boots.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }
}
