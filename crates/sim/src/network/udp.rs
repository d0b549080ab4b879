//! UDP: datagrams arrive once or not at all.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use daruma_world::net::Datagrams;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Space, endpoint, socket_address};
use crate::clock::Sleep;
use crate::scope::{Attachment, ScopeInner};

/// Datagrams that may wait in a socket; more are lost.
const QUEUE: usize = 512;
/// Longest datagram.
const MOST_BYTES: usize = 65_507;

/// One bound socket.
pub(crate) struct UdpInner {
    scope: Arc<ScopeInner>,
    space: Arc<Space>,
    at: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(u64, Bytes, SocketAddr)>,
    receiving: Option<Waker>,
}

impl UdpInner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, at_ns: u64, content: Bytes, from: SocketAddr) {
        let waker = {
            let mut state = self.state();
            if state.queue.len() >= QUEUE {
                return;
            }
            // A jittering link may let a later one overtake.
            let place = state.queue.iter().rposition(|(at, _, _)| *at <= at_ns).map_or(0, |place| place + 1);
            state.queue.insert(place, (at_ns, content, from));
            state.receiving.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_receive(&self, context: &mut Context<'_>, sleep: &mut Option<(u64, Sleep)>) -> Poll<(Bytes, SocketAddr)> {
        if self.scope.is_dead() {
            return Poll::Pending;
        }
        loop {
            let mut state = self.state();
            state.receiving = Some(context.waker().clone());
            let Some(first) = state.queue.front().map(|(at, _, _)| *at) else { return Poll::Pending };
            if first <= self.scope.core.now_ns()
                && let Some((_, content, from)) = state.queue.pop_front()
            {
                return Poll::Ready((content, from));
            }
            drop(state);
            if sleep.as_ref().is_none_or(|(deadline, _)| *deadline != first) {
                *sleep = Some((first, Sleep::until(&self.scope, first)));
            }
            if let Some((_, waiting)) = sleep
                && Pin::new(waiting).poll(context).is_ready()
            {
                *sleep = None;
                continue;
            }
            return Poll::Pending;
        }
    }

    /// Sends one datagram; what becomes of it nobody learns, but for the lack of a route.
    fn send(&self, content: &[u8], to: SocketAddr) -> io::Result<usize> {
        if content.len() > MOST_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a datagram of {} bytes is too long", content.len()),
            ));
        }
        let to = endpoint(to)?;
        let network = &self.scope.network;
        let route = match network.route_datagram(&self.space, self.at.port(), to) {
            Ok(route) => route,
            Err(super::Astray::Unreachable) => return Err(super::Astray::Unreachable.error(to)),
            Err(_) => return Ok(content.len()),
        };
        let (_, mut chance) = network.new_line_id();
        if let Some(delay) = network.cross(&route.hops, true, content.len(), &mut chance)
            && let Some(receiver) = route.space.udp_socket(route.to)
        {
            let at_ns = network.core.now_ns().saturating_add(delay);
            receiver.push(at_ns, Bytes::copy_from_slice(content), socket_address(route.source));
        }
        Ok(content.len())
    }
}

impl Attachment for UdpInner {
    fn died(&self, _: &ScopeInner) {
        self.space.unbind_udp(self.at.port(), |one| std::ptr::eq(Arc::as_ptr(one), self));
    }
}

/// A bound socket in the hands of a process.
pub(crate) struct UdpSocket {
    inner: Arc<UdpInner>,
    attachment: u64,
}

impl UdpSocket {
    pub(crate) fn bind(scope: &Arc<ScopeInner>, at: SocketAddr) -> io::Result<Self> {
        let space = scope.space();
        let make = |_: Option<Ipv4Addr>, at| {
            Arc::new(UdpInner { scope: scope.clone(), space: space.clone(), at, state: Mutex::default() })
        };
        let inner = space.bind_udp(at, make)?;
        let weak: Weak<dyn Attachment> = Arc::downgrade(&inner) as Weak<dyn Attachment>;
        let attachment = scope.attach(weak);
        Ok(Self { inner, attachment })
    }
}

impl Datagrams for UdpSocket {
    fn recv_from<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        async move {
            let mut sleep = None;
            let (content, from) = poll_fn(|context| self.inner.poll_receive(context, &mut sleep)).await;
            let count = content.len().min(buffer.len());
            buffer[..count].copy_from_slice(&content[..count]);
            Ok((count, from))
        }
        .boxed()
    }

    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        async move {
            if self.inner.scope.is_dead() {
                return std::future::pending().await;
            }
            self.inner.send(data, to)
        }
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.at)
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.inner.died(&self.inner.scope);
        self.inner.scope.detach(self.attachment);
    }
}
