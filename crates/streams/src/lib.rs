//! WebSocket and SPDY channels of exec, attach and port-forward, served over any byte stream.
//!
//! Invariant: this crate knows byte streams and process streams, no pods and no API.

mod bytes_over_websocket;
pub mod channels;
pub mod port_forward;
pub mod spdy;
mod spdy_process;
pub mod status;
pub mod upgrade;

pub use bytes_over_websocket::WebSocketBytes;
pub use spdy_process::serve_process_over_spdy;
