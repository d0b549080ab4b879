//! The part of SPDY/3.1 that exec, attach and port-forward use.
//!
//! Source: the SPDY Protocol draft 3.1. Flow control is not exerted: the clients (moby/spdystream) do not
//! either; a slow stream holds up the connection instead.

mod frame;
mod headers;
mod session;

pub use frame::{Frame, FrameError};
pub use headers::{HeaderReader, write_headers};
pub use session::{IncomingStream, Session, StreamSender};
