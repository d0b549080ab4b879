//! What a fault asks of the machines before anything is touched.

use daruma_world::machines::{Ability, LinkEffect, MachineError, Pressure, Program, Signal};

use crate::preflight::Supports;

/// An ability, owned.
#[derive(Debug, Clone, PartialEq)]
pub enum Need {
    /// Faults of links.
    Link(LinkEffect),
    /// Uses a machine up.
    Pressure(Pressure),
    /// Signals to a program.
    Signal(Program, Signal),
    /// Signals to the container engine, be it a service or a part of the kubelet.
    Engine(Signal),
    /// Holds a machine still.
    Hang,
    /// Moves a clock.
    ClockOffset,
    /// Half-done writes.
    TornWrites,
}

impl Need {
    /// Signals to containers, of whatever id.
    pub fn container(signal: Signal) -> Self {
        Self::Signal(Program::Container(String::new()), signal)
    }

    /// Signals to a service.
    pub fn service(name: &str, signal: Signal) -> Self {
        Self::Signal(Program::Service(name.to_owned()), signal)
    }

    /// Asks what the machines can do.
    ///
    /// # Errors
    /// What is missing.
    pub fn ask(&self, supports: Supports<'_>) -> Result<(), MachineError> {
        supports(&match self {
            Self::Engine(signal) => return super::container_engine::service(supports, *signal).map(drop),
            Self::Link(effect) => Ability::Link(*effect),
            Self::Pressure(pressure) => Ability::Pressure(*pressure),
            Self::Signal(program, signal) => Ability::Signal(program, *signal),
            Self::Hang => Ability::Hang,
            Self::ClockOffset => Ability::ClockOffset,
            Self::TornWrites => Ability::TornWrites,
        })
    }
}
