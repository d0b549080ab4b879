//! What a cluster is made of: certificates, kubeconfigs, static pods and add-ons.
//!
//! Read [`shape`] first. Pure but for time and chance, which come from the world: what is made here is
//! put onto machines, and sent to the API server, by others.

pub mod addons;
pub mod kubeconfig;
pub mod pki;
pub mod shape;
pub mod static_pods;
