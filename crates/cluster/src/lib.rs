//! What a cluster is made of and in which order it starts: certificates, kubeconfigs, static pods,
//! add-ons, and the components as services on a given world.
//!
//! Read [`shape`] first, then [`boot`].

pub mod addons;
pub mod boot;
pub mod kubeconfig;
pub mod pki;
pub mod shape;
pub mod static_pods;
