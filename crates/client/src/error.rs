//! What can go wrong between a component and the API.

use daruma_api::status::ApiError;

/// The request did not reach a server or the response broke off.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// A failed call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// The server could not be reached.
    #[error("{0}")]
    Transport(#[from] TransportError),
    /// The response could not be understood.
    #[error("cannot decode the response of {what}: {source}")]
    Decode {
        /// Which call.
        what: String,
        /// Why.
        source: std::sync::Arc<serde_json::Error>,
    },
}

impl ClientError {
    /// The server's answer, where there was one.
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }
    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.api().is_some_and(ApiError::is_not_found)
    }
    /// Whether a create met an existing object.
    pub fn is_already_exists(&self) -> bool {
        self.api().is_some_and(ApiError::is_already_exists)
    }
    /// Whether an update met a newer object.
    pub fn is_conflict(&self) -> bool {
        self.api().is_some_and(ApiError::is_conflict)
    }
    /// Whether a list or watch must start anew.
    pub fn is_expired(&self) -> bool {
        self.api().is_some_and(ApiError::is_expired)
    }
}
