//! A machine's container engine, before the first power-on.

use super::Hull;
use crate::containers::{EngineConfig, SimRuntime};

/// Name of the engine's own service in [`daruma_world::machines::Program::Service`].
pub(super) const SERVICE: &str = "container-engine";

/// The engine; the machine's init configures it further.
pub(super) fn make(hull: &Hull) -> SimRuntime {
    SimRuntime::on_machine(EngineConfig { memory_bytes: Some(hull.spec.memory_bytes), ..EngineConfig::default() })
}
