//! Containers on Linux: the embedded engine with its per-pod shims, its image store and the
//! built-in images.
//!
//! Invariant: this crate knows no Kubernetes objects; it implements
//! [`daruma_world::containers::ContainerRuntime`].

// The kernel's interfaces for name spaces, mounts and forks are C; every block says why it is sound.
#![allow(unsafe_code, reason = "this is one of the two crates that talk to the kernel directly")]

pub mod builtin;
pub mod cgroups;
pub mod engine;
pub mod images;
pub mod shim;
mod terminal;

pub use engine::{EmbeddedEngine, EngineConfig};
pub use shim::shim_main;
