//! One direction of a stream: what was sent arrives in order, later, or again after a loss.
//!
//! Nothing runs for it: who reads waits for the moment at which the first of the queue arrives. What is
//! lost is sent again after 200 ms, then after twice the time each (Linux `TCP_RTO_MIN`, `TCP_RTO_MAX`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::line::{Break, Line, Transit};
use crate::clock::{Sleep, nanos};

/// First pause before something lost is sent again.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Payload of a TCP segment on Ethernet: what is sent at one moment and fits shares one.
const SEGMENT: usize = 1448;
/// Longest such pause.
const RETRY_LAST: Duration = Duration::from_secs(120);

/// What a reader gets.
pub(crate) enum Received<T> {
    /// The next item.
    Item(T),
    /// The sender has closed.
    End,
    /// The connection has broken.
    Broken(Break),
}

struct Parcel<T> {
    /// `None`: the end.
    item: Option<T>,
    bytes: usize,
    /// When it arrives, or is sent again.
    at_ns: u64,
    is_lost: bool,
    retries: u32,
}

struct State<T> {
    queue: VecDeque<Parcel<T>>,
    bytes: usize,
    last_at_ns: u64,
    /// When the last segment was sent, and what is in it.
    segment: (u64, usize),
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// See the module.
pub(crate) struct Pipe<T> {
    /// The end of the connection that reads.
    to: usize,
    /// Bytes that may be on their way.
    window: usize,
    state: Mutex<State<T>>,
}

impl<T> Pipe<T> {
    pub(crate) fn new(to: usize, window: usize) -> Self {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            last_at_ns: 0,
            segment: (u64::MAX, 0),
            is_closed: false,
            reader: None,
            writer: None,
        };
        Self { to, window, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when there is room, or the connection has broken for the sender.
    pub(crate) fn poll_room(&self, line: &Line, context: &mut Context<'_>) -> Poll<Result<usize, Break>> {
        let from = 1 - self.to;
        if line.scope(from).is_dead() {
            return Poll::Pending;
        }
        if let Some(why) = line.broken(from) {
            return Poll::Ready(Err(why));
        }
        let mut state = self.state();
        if state.bytes < self.window {
            return Poll::Ready(Ok(self.window - state.bytes));
        }
        set_waker(&mut state.writer, context.waker());
        Poll::Pending
    }

    /// Sends an item, or the end. What a dead scope sends is discarded.
    pub(crate) fn send(&self, line: &Arc<Line>, item: Option<T>, bytes: usize) -> Result<(), Break> {
        let from = 1 - self.to;
        if line.scope(from).is_dead() {
            return Ok(());
        }
        if let Some(why) = line.broken(from) {
            return Err(why);
        }
        let now = line.now_ns();
        let travels_along = {
            let mut state = self.state();
            let (sent_ns, filled) = state.segment;
            let has_room = sent_ns == now && filled + bytes <= SEGMENT;
            state.segment = if has_room { (now, filled + bytes) } else { (now, bytes) };
            // Behind something lost one waits for it; there is no need to be lost oneself.
            has_room || state.queue.back().is_some_and(|last| last.is_lost)
        };
        let (at_ns, is_lost) = if travels_along {
            (now, false)
        } else {
            match line.transmit(from, bytes) {
                Transit::Arrives(delay) => (now.saturating_add(delay), false),
                Transit::Lost => (now.saturating_add(nanos(RETRY_FIRST)), true),
                Transit::Gone => {
                    line.break_end(from, Break::Reset);
                    return Err(Break::Reset);
                }
            }
        };
        let waker = {
            let mut state = self.state();
            if state.is_closed {
                return Ok(());
            }
            state.is_closed = item.is_none();
            let at_ns = at_ns.max(state.last_at_ns);
            state.last_at_ns = at_ns;
            state.bytes += bytes;
            state.queue.push_back(Parcel { item, bytes, at_ns, is_lost, retries: 0 });
            state.reader.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The next item that has arrived. `sleep` is the reader's, kept between polls.
    pub(crate) fn poll_receive(
        &self,
        line: &Arc<Line>,
        context: &mut Context<'_>,
        sleep: &mut Option<(u64, Sleep)>,
    ) -> Poll<Received<T>> {
        let scope = line.scope(self.to);
        if scope.is_dead() {
            return Poll::Pending;
        }
        loop {
            let now = line.now_ns();
            let mut state = self.state();
            let Some(first) = state.queue.front() else {
                return match line.broken(self.to) {
                    Some(why) => Poll::Ready(Received::Broken(why)),
                    None => {
                        set_waker(&mut state.reader, context.waker());
                        Poll::Pending
                    }
                };
            };
            if first.is_lost
                && let Some(why) = line.broken(self.to)
            {
                return Poll::Ready(Received::Broken(why));
            }
            if first.at_ns <= now {
                if first.is_lost {
                    let bytes = first.bytes;
                    drop(state);
                    self.send_again(line, bytes);
                    continue;
                }
                return Poll::Ready(self.take(state, line));
            }
            let at_ns = first.at_ns;
            set_waker(&mut state.reader, context.waker());
            drop(state);
            if sleep.as_ref().is_none_or(|(deadline, _)| *deadline != at_ns) {
                *sleep = Some((at_ns, Sleep::until(scope, at_ns)));
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

    fn take(&self, mut state: MutexGuard<'_, State<T>>, line: &Line) -> Received<T> {
        let parcel = state.queue.pop_front();
        let bytes = parcel.as_ref().map_or(0, |parcel| parcel.bytes);
        state.bytes -= bytes;
        let writer = state.writer.take();
        drop(state);
        line.note_read(self.to);
        if let Some(writer) = writer {
            writer.wake();
        }
        match parcel.and_then(|parcel| parcel.item) {
            Some(item) => Received::Item(item),
            None => Received::End,
        }
    }

    fn send_again(&self, line: &Arc<Line>, bytes: usize) {
        let from = 1 - self.to;
        let transit = line.transmit(from, bytes.min(SEGMENT));
        let now = line.now_ns();
        let mut state = self.state();
        let Some(first) = state.queue.front_mut() else { return };
        match transit {
            Transit::Arrives(delay) => {
                first.is_lost = false;
                first.at_ns = now.saturating_add(delay);
            }
            Transit::Lost | Transit::Gone => {
                first.retries += 1;
                first.at_ns = now.saturating_add(nanos(retry_pause(first.retries)));
            }
        }
        let at_ns = first.at_ns;
        state.last_at_ns = state.last_at_ns.max(at_ns);
    }

    /// Wakes both sides, so that they look at the connection again.
    pub(crate) fn wake(&self) {
        let (reader, writer) = {
            let mut state = self.state();
            (state.reader.take(), state.writer.take())
        };
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The pause before something that was lost is sent again for the `retries`-th time after the first.
pub(crate) fn retry_pause(retries: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << retries.min(12)).min(RETRY_LAST)
}

fn set_waker(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|old| old.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}
