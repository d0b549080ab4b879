//! Reads much at once where much arrives.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes of one read from a socket that has much to give.
const BULK: usize = 128 * 1024;

/// A socket below TLS. rustls asks for 4 kB at a time; a peer that sends more than that is read in large pieces, which
/// are handed on in small ones. A silent socket keeps no buffer, and what fits into one read takes no detour.
pub(super) struct Bulk<S> {
    inner: S,
    /// What was read ahead, its first `taken` bytes handed on already.
    ahead: Vec<u8>,
    taken: usize,
    /// The last read took all it could, so there may be more.
    more: bool,
}

impl<S> Bulk<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, ahead: Vec::new(), taken: 0, more: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bulk<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.taken == this.ahead.len() {
            this.taken = 0;
            if !this.more {
                this.ahead = Vec::new();
                ready!(Pin::new(&mut this.inner).poll_read(cx, out))?;
                this.more = out.remaining() == 0;
                return Poll::Ready(Ok(()));
            }
            this.ahead.clear();
            this.ahead.reserve(BULK);
            let read = pin!(this.inner.read_buf(&mut this.ahead)).poll(cx);
            this.more = this.ahead.len() > out.remaining();
            if this.ahead.is_empty() {
                this.ahead = Vec::new();
            }
            ready!(read)?;
        }
        let length = out.remaining().min(this.ahead.len() - this.taken);
        out.put_slice(&this.ahead[this.taken..this.taken + length]);
        this.taken += length;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bulk<S> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what is left, as much at once as is wanted, and waits where a gap is due.
    struct Source {
        data: Vec<u8>,
        given: usize,
        gap_at: usize,
        reads: usize,
    }

    impl AsyncRead for Source {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.reads += 1;
            if self.given == self.gap_at {
                self.gap_at = usize::MAX;
                return Poll::Pending;
            }
            let end = self.data.len().min(self.given + out.remaining());
            let end = if self.given < self.gap_at { end.min(self.gap_at) } else { end };
            out.put_slice(&self.data[self.given..end]);
            self.given = end;
            Poll::Ready(Ok(()))
        }
    }

    /// Reads all of `length` bytes with a gap, 4 kB at a time; how many reads of the socket that took.
    fn check(length: usize, gap_at: usize) -> usize {
        let data: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let mut bulk = Bulk::new(Source { data: data.clone(), given: 0, gap_at, reads: 0 });
        let mut context = Context::from_waker(std::task::Waker::noop());
        let (mut read, mut space, mut waited) = (Vec::new(), [0; 4096], false);
        loop {
            let mut out = ReadBuf::new(&mut space);
            match Pin::new(&mut bulk).poll_read(&mut context, &mut out) {
                Poll::Pending => {
                    assert!(!std::mem::replace(&mut waited, true), "one gap");
                    assert_eq!((read.len(), bulk.ahead.capacity()), (gap_at, 0), "all handed on, nothing kept");
                }
                Poll::Ready(result) => result.expect("the source has no errors"),
            }
            if out.filled().is_empty() && read.len() == length {
                break;
            }
            read.extend_from_slice(out.filled());
        }
        assert_eq!(waited, gap_at < length);
        assert!(read == data, "the same bytes in the same order");
        bulk.inner.reads
    }

    #[test]
    fn much_is_read_at_once_and_little_as_before() {
        for (length, gap_at, reads) in [
            (0, usize::MAX, 1),
            (100, usize::MAX, 2),
            // The first message, the gap, the second one, the end.
            (200, 100, 4),
            // 4 kB, then 128 kB at a time, then the end.
            (4096 + 3 * BULK, usize::MAX, 5),
            (4096 + 3 * BULK + 1, usize::MAX, 6),
            (600_000, 300_000, 10),
        ] {
            assert_eq!(check(length, gap_at), reads, "{length} bytes with a gap at {gap_at}");
        }
    }
}
