//! The sockets of a transport's connections, so that it can close them while others read and write.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The sockets of a transport's connections, as client-go's connrotation.Dialer keeps them (kubernetes cmd/kubelet/app,
/// closeAllConns). A socket is in it for as long as it is open.
#[derive(Clone, Default)]
pub(super) struct Sockets(Arc<Mutex<BTreeSet<RawFd>>>);

impl Sockets {
    /// Ends all connections.
    pub(super) fn shut_down(&self) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in open.iter() {
            // Whoever reads or writes gets the end of the stream. One that is closed already needs no closing.
            let _ = nix::sys::socket::shutdown(*socket, nix::sys::socket::Shutdown::Both);
        }
    }
}

/// A connection that its transport can close.
pub(super) struct Tracked {
    inner: TcpStream,
    sockets: Sockets,
}

impl Tracked {
    pub(super) fn new(inner: TcpStream, sockets: Sockets) -> Self {
        sockets.0.lock().unwrap_or_else(PoisonError::into_inner).insert(inner.as_raw_fd());
        Self { inner, sockets }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        // Before the socket itself is closed, so that its number is not taken for another's.
        self.sockets.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.inner.as_raw_fd());
    }
}

impl AsyncRead for Tracked {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, out)
    }
}

impl AsyncWrite for Tracked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
