//! Where a drill is played.

use std::sync::Arc;

use daruma_client::Client;
use daruma_world::World;
use daruma_world::machines::Machines;

/// Which world a stage belongs to; for reports, and for faults that one world alone can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WorldKind {
    /// Real machines.
    Real,
    /// Simulated machines under a virtual clock.
    Sim,
}

/// A running cluster and the hand on its switches. Cheap to clone.
#[derive(Clone)]
pub struct Stage {
    /// Which world it is.
    pub kind: WorldKind,
    /// The world of the one who watches, outside of the cluster: clock, tasks, chance, sockets.
    pub world: World,
    /// The API as cluster-admin, not limited in its rate.
    pub client: Client,
    /// The machines.
    pub machines: Arc<dyn Machines>,
}
