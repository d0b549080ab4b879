//! A connection between two processes: what it takes to get through, and how each end learns that the
//! other is gone.
//!
//! A killed process's kernel says so at once. A machine without power, hung or cut off says nothing: the
//! other end finds out by asking (HTTP/2 PING after 30 s without a word, given up after 15 s, as our real
//! transport does; TCP keep-alive after 30 s, given up after six times 15 s). Nothing is asked while all is
//! well: watching starts when something has happened to an end or to the way between them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use daruma_world::machines::PowerState;

use super::Network;
use crate::clock::{Sleep, nanos};
use crate::place::Place;
use crate::random::SplitMix;
use crate::scope::{Attachment, Scope, ScopeInner};

/// Silence after which an end asks whether the other is there.
const ASK_AFTER: Duration = Duration::from_secs(30);
/// How long a client of HTTP/2 waits for the answer.
const PING_LIMIT: Duration = Duration::from_secs(15);
/// How long a kernel does: six probes, 15 s apart.
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(90);

/// The end that opened the connection.
pub(crate) const CLIENT: usize = 0;
/// The end that accepted it.
pub(crate) const SERVER: usize = 1;

/// What travels on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes. Kernels keep it alive.
    Stream,
    /// HTTP requests. The client's pings are answered by the server's process.
    Http,
}

/// Why a connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// The other end's kernel knows nothing of it.
    Reset,
    /// The other end has not answered in time.
    TimedOut,
}

impl Break {
    pub(crate) fn error(self) -> io::Error {
        match self {
            Self::Reset => io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer"),
            Self::TimedOut => io::Error::new(io::ErrorKind::TimedOut, "keep-alive timed out"),
        }
    }
}

/// What became of something sent.
pub(crate) enum Transit {
    /// It arrives after so many nanoseconds.
    Arrives(u64),
    /// Nothing is heard of it.
    Lost,
    /// The other end refuses it.
    Gone,
}

/// A stream or request on the connection.
pub(crate) trait Part: Send + Sync {
    /// The connection has broken for one of its ends.
    fn broken(&self, end: usize);
}

struct End {
    scope: Arc<ScopeInner>,
    place: Arc<Place>,
    boot: u64,
}

impl End {
    /// Whether its kernel still has the connection.
    fn knows(&self) -> bool {
        self.place.power() != PowerState::Off && self.place.boots() == self.boot && !self.scope.is_dead()
    }
}

/// See the module.
pub(crate) struct Line {
    this: Weak<Self>,
    pub(crate) network: Arc<Network>,
    kind: Kind,
    ends: [End; 2],
    hops: Vec<Arc<Place>>,
    state: Mutex<State>,
}

struct State {
    chance: SplitMix,
    broken: [Option<Break>; 2],
    /// The process has closed its end.
    closed: [bool; 2],
    last_read_ns: [u64; 2],
    watching: [bool; 2],
    attachments: [u64; 2],
    parts: BTreeMap<u64, Weak<dyn Part>>,
    last_part: u64,
}

impl State {
    /// Whether an end has closed the connection or given it up; its kernel refuses what arrives from then on.
    fn has_forgotten(&self, end: usize) -> bool {
        self.closed[end] || self.broken[end].is_some()
    }
}

impl Line {
    pub(crate) fn new(
        network: &Arc<Network>,
        kind: Kind,
        client: &Arc<ScopeInner>,
        server: &Arc<ScopeInner>,
        hops: Vec<Arc<Place>>,
        chance: SplitMix,
    ) -> Arc<Self> {
        let end = |scope: &Arc<ScopeInner>| End { scope: scope.clone(), place: scope.place.clone(), boot: scope.place.boots() };
        let now = network.core.now_ns();
        let state = State {
            chance,
            broken: [None; 2],
            closed: [false; 2],
            last_read_ns: [now; 2],
            watching: [false; 2],
            attachments: [0; 2],
            parts: BTreeMap::new(),
            last_part: 0,
        };
        let line = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            network: network.clone(),
            kind,
            ends: [end(client), end(server)],
            hops,
            state: Mutex::new(state),
        });
        let weak: Weak<dyn Attachment> = Arc::downgrade(&line) as Weak<dyn Attachment>;
        let attachments = [client.attach(weak.clone()), server.attach(weak)];
        line.state().attachments = attachments;
        line
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.network.core.now_ns()
    }

    pub(crate) fn scope(&self, end: usize) -> &Arc<ScopeInner> {
        &self.ends[end].scope
    }

    /// Why the connection is of no use to an end.
    pub(crate) fn broken(&self, end: usize) -> Option<Break> {
        self.state().broken[end]
    }

    /// Whether an end may go on using it.
    pub(crate) fn is_usable(&self, end: usize) -> bool {
        let state = self.state();
        state.broken[end].is_none() && !state.closed[end]
    }

    /// Has a stream or request told when the connection breaks.
    pub(crate) fn add_part(&self, part: Weak<dyn Part>) -> u64 {
        let mut state = self.state();
        state.last_part += 1;
        let id = state.last_part;
        state.parts.insert(id, part);
        id
    }

    pub(crate) fn remove_part(&self, id: u64) {
        let part = self.state().parts.remove(&id);
        drop(part);
    }

    /// An end has received something.
    pub(crate) fn note_read(&self, end: usize) {
        let now = self.now_ns();
        self.state().last_read_ns[end] = now;
    }

    /// Sends something of this size from an end to the other.
    pub(crate) fn transmit(self: &Arc<Self>, from: usize, bytes: usize) -> Transit {
        let (has_forgotten, transit) = {
            let mut state = self.state();
            if state.broken[from].is_some() || state.closed[1 - from] {
                return Transit::Gone;
            }
            (state.has_forgotten(1 - from), self.network.cross(&self.hops, from == CLIENT, bytes, &mut state.chance))
        };
        match transit {
            Some(_) if has_forgotten || !self.ends[1 - from].knows() => Transit::Gone,
            Some(delay) => Transit::Arrives(delay),
            None => {
                self.watch(from);
                Transit::Lost
            }
        }
    }

    /// Whether the other end hears what an end says now.
    pub(crate) fn is_heard(&self, from: usize) -> bool {
        !self.network.is_cut(&self.hops, from == CLIENT)
    }

    fn is_reachable(&self, from: usize) -> bool {
        !self.network.is_cut(&self.hops, from == CLIENT) && !self.network.is_cut(&self.hops, from != CLIENT)
    }

    /// Whether the other end would answer an end that asks.
    fn answers(&self, asking: usize) -> bool {
        let peer = &self.ends[1 - asking];
        let needs_process = self.kind == Kind::Http && asking == CLIENT;
        peer.knows()
            && !self.state().has_forgotten(1 - asking)
            && self.is_reachable(asking)
            && !(needs_process && self.network.core.is_paused(&peer.scope))
    }

    /// Makes the connection useless for an end.
    pub(crate) fn break_end(&self, end: usize, why: Break) {
        let parts: Vec<Arc<dyn Part>> = {
            let mut state = self.state();
            if state.broken[end].is_some() || state.closed[end] {
                return;
            }
            state.broken[end] = Some(why);
            state.parts.values().filter_map(Weak::upgrade).collect()
        };
        for part in parts {
            part.broken(end);
        }
        // Who gives up closes, and the other end hears of it if it can.
        if why == Break::TimedOut && self.is_reachable(end) && self.ends[1 - end].knows() {
            self.break_end(1 - end, Break::Reset);
        }
    }

    /// A process closes its end; the other one is told by what it reads, or when it writes.
    pub(crate) fn close_quietly(&self, end: usize) {
        self.state().closed[end] = true;
    }

    /// A process closes its end, and all that goes on there is over.
    pub(crate) fn close(self: &Arc<Self>, end: usize) {
        let was_closed = std::mem::replace(&mut self.state().closed[end], true);
        if !was_closed {
            self.part_with(end);
        }
    }

    /// The other end learns that this one is gone, now or by asking.
    fn part_with(self: &Arc<Self>, end: usize) {
        if self.ends[end].place.power() == PowerState::On && self.is_reachable(end) {
            self.break_end(1 - end, Break::Reset);
        } else {
            self.watch(1 - end);
        }
    }

    /// Starts finding out whether the other end still answers, unless that is being done.
    fn watch(self: &Arc<Self>, end: usize) {
        let Some(outside) = self.network.core.outside() else { return };
        {
            let mut state = self.state();
            if state.watching[end] || state.broken[end].is_some() || state.closed[end] || self.ends[end].scope.is_dead() {
                return;
            }
            state.watching[end] = true;
        }
        let line = self.clone();
        let clock = outside.clone();
        Scope { inner: outside }.spawn("keep-alive", async move {
            if let Some(why) = line.find_out(end, &clock).await {
                line.break_end(end, why);
            }
        });
    }

    /// Asks when an end would; gives why it gives up, if it does.
    async fn find_out(&self, end: usize, clock: &Arc<ScopeInner>) -> Option<Break> {
        let limit = if self.kind == Kind::Http && end == CLIENT { PING_LIMIT } else { KEEP_ALIVE_LIMIT };
        let now = self.now_ns();
        let silent = now - self.state().last_read_ns[end].min(now);
        let periods = silent.div_ceil(nanos(ASK_AFTER)).max(1);
        let ask_at = (now - silent).saturating_add(nanos(ASK_AFTER).saturating_mul(periods));
        let mut why = None;
        for at in [ask_at, ask_at.saturating_add(nanos(limit))] {
            Sleep::until(clock, at).await;
            let own = &self.ends[end];
            let cannot_ask = own.place.power() != PowerState::On || self.network.core.is_paused(&own.scope);
            if own.scope.is_dead() || cannot_ask || self.answers(end) {
                self.state().watching[end] = false;
                return None;
            }
            let peer = &self.ends[1 - end];
            let is_gone = !peer.knows() || self.state().has_forgotten(1 - end);
            if is_gone && peer.place.power() == PowerState::On && self.is_reachable(end) {
                why = Some(Break::Reset);
                break;
            }
            why = Some(Break::TimedOut);
        }
        let mut state = self.state();
        state.watching[end] = false;
        // A connection on which nothing is asked for is not pinged; the next request finds out.
        let is_idle = self.kind == Kind::Http && end == CLIENT && state.parts.is_empty();
        if is_idle && why == Some(Break::TimedOut) { None } else { why }
    }

    /// Watches where the other end does not answer now.
    pub(crate) fn suspect(self: &Arc<Self>, end: usize) {
        if !self.answers(end) {
            self.watch(end);
        }
    }
}

impl Attachment for Line {
    fn died(&self, scope: &ScopeInner) {
        let Some(line) = self.this.upgrade() else { return };
        for end in [CLIENT, SERVER] {
            if std::ptr::eq(Arc::as_ptr(&self.ends[end].scope), scope) {
                line.part_with(end);
            }
        }
    }

    fn disturbed(&self) {
        let Some(line) = self.this.upgrade() else { return };
        for end in [CLIENT, SERVER] {
            line.suspect(end);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let attachments = self.state().attachments;
        for (end, attachment) in self.ends.iter().zip(attachments) {
            end.scope.detach(attachment);
        }
    }
}
