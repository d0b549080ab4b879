//! Where pods come from: the API and manifest files.

mod api;
mod files;
mod manifest;

pub use api::watch;
pub use files::run as run_files;

/// Hash of a static pod.
pub const ANNOTATION_HASH: &str = "kubernetes.io/config.hash";
/// Where a pod comes from.
pub const ANNOTATION_SOURCE: &str = "kubernetes.io/config.source";
/// When a static pod was first read.
pub const ANNOTATION_SEEN: &str = "kubernetes.io/config.seen";
/// Marks a mirror pod; its value is the static pod's hash.
pub const ANNOTATION_MIRROR: &str = "kubernetes.io/config.mirror";
