//! HTTP as the API speaks it: what a request asks for and how an answer looks.
//!
//! Invariant: nothing here knows a store or a kind.

pub mod accept;
pub mod answer;
pub mod body;
pub mod query;
pub mod request_info;

pub use accept::{Accept, Format, IncludeObject, Shape};
pub use query::Query;
pub use request_info::RequestInfo;
