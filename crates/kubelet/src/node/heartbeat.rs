//! What lease and status have in common: calls with a time limit, repeated at once, on new connections.
//!
//! Source: kubernetes cmd/kubelet/app/server.go (heartbeatClientConfig, closeAllConns), pkg/kubelet/kubelet_node_status.go
//! (updateNodeStatus), component-helpers apimachinery/lease/controller.go (retryUpdateLease).

use daruma_client::{ClientError, TransportError};

use crate::shared::Shared;

/// Attempts before the next heartbeat is waited for (`nodeStatusUpdateRetry`, `maxUpdateRetries`).
pub const ATTEMPTS: u32 = 5;

/// A call of a heartbeat: it fails when it takes longer than the status' or the lease's period.
pub async fn limited<T>(shared: &Shared, call: impl Future<Output = Result<T, ClientError>> + Send) -> Result<T, ClientError> {
    let limit = shared.config.node_status_update_frequency.min(shared.config.node_lease_duration);
    let late = || TransportError("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
    shared.world.timeout(limit, call).await.unwrap_or_else(|_| Err(late().into()))
}

/// Tells of a failed attempt, the first being 0. After the second one no connection is believed in any longer, as one may
/// lead to where nobody answers, and the pings of HTTP/2 take longer to find that out.
pub fn failed(shared: &Shared, attempt: u32, what: &'static str, error: &ClientError) {
    tracing::debug!(%error, attempt, what, "a heartbeat failed");
    if attempt > 0 {
        shared.client.close_connections();
    }
}
