//! Connections that have become something else than HTTP (exec, attach, port-forward), joined across the wall between the
//! worlds: the one end is a socket of a real client, the other a stream of the virtual world.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use daruma_world::World;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::front::{OneWaiting, QUIET, Waiting};

/// Passes bytes both ways until both ends have said goodbye, or one is lost. A task of the virtual world.
///
/// While bytes pass, somebody is waiting for them, so that the clock of a paused world moves for them as it does for
/// requests; a connection that is silent lets it stand.
pub async fn join(world: World, outer: OnUpgrade, inner: OnUpgrade, waiting: Waiting) {
    let (outer, inner) = match futures::future::try_join(outer, inner).await {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not come about");
            return;
        }
    };
    let traffic = Arc::new(Traffic::default());
    let mut outer = TokioIo::new(outer);
    let mut inner = Noticed { stream: TokioIo::new(inner), traffic: traffic.clone(), waiting };
    inner.notice();
    let passing = tokio::io::copy_bidirectional(&mut outer, &mut inner);
    let watching = traffic.watch(&world);
    futures::pin_mut!(passing, watching);
    // How such a connection ends is the business of its two ends.
    futures::future::select(passing, watching).await;
}

/// Whether anything has passed of late.
#[derive(Default)]
struct Traffic {
    passed: AtomicBool,
    begun: Notify,
    held: Mutex<Option<OneWaiting>>,
}

impl Traffic {
    /// Lets go of the clock whenever nothing has passed for [`QUIET`]. Never ends.
    async fn watch(&self, world: &World) {
        loop {
            self.begun.notified().await;
            while self.passed.swap(false, Ordering::Relaxed) {
                world.sleep(QUIET).await;
            }
            self.held.lock().expect("no panic while held").take();
        }
    }
}

/// The virtual end, which tells when bytes pass.
struct Noticed<S> {
    stream: S,
    traffic: Arc<Traffic>,
    waiting: Waiting,
}

impl<S> Noticed<S> {
    fn notice(&self) {
        self.traffic.passed.store(true, Ordering::Relaxed);
        let mut held = self.traffic.held.lock().expect("no panic while held");
        if held.is_none() {
            *held = Some(self.waiting.one_more());
            self.traffic.begun.notify_one();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noticed<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.notice();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noticed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, data);
        if polled.is_ready() {
            self.notice();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
