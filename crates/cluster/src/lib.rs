//! What a cluster is made of: certificates, kubeconfigs, static pods and add-ons, and its components.
//!
//! Read [`shape`] first, then [`boot`]: every component, composed on a [`platform`]. Nothing here knows in
//! which world it is: what is made is put onto machines, and sent to the API server, by others.

pub mod addons;
pub mod boot;
pub mod bring_up;
pub mod kubeconfig;
pub mod load_balancer;
pub mod machine_files;
pub mod pki;
pub mod platform;
pub mod shape;
pub mod simulated;
pub mod static_pods;
