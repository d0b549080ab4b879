//! One watch's end of the cache.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Change, Filter};
use crate::storage::{Head, Item};

/// Changes that may wait for one watcher before it is closed.
pub const CAPACITY: usize = 1000;

/// What a change is to one watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// New, or newly selected.
    Added,
    /// Changed.
    Modified,
    /// Gone, or no longer selected.
    Deleted,
}

impl EventType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A change on its way to watchers; encoded at most once for each event type.
#[derive(Debug)]
pub struct Delivery {
    /// The change.
    pub change: Arc<Change>,
    frames: [OnceLock<Bytes>; 3],
}

impl Delivery {
    /// Wraps a change.
    pub fn new(change: Arc<Change>) -> Self {
        Self { change, frames: Default::default() }
    }

    /// The line of a watch that shows whole objects. In another version than the stored one it is made for each watcher.
    pub fn frame(&self, event_type: EventType, head: &Head) -> Bytes {
        let Some(item) = self.change.shown(event_type) else { return Bytes::new() };
        if !head.is_stored() {
            return whole_frame(event_type, item, self.change.revision, head);
        }
        self.frames[event_type as usize].get_or_init(|| whole_frame(event_type, item, self.change.revision, head)).clone()
    }
}

/// A line of a watch: `{"type":…,"object":…}` and a newline.
pub fn whole_frame(event_type: EventType, item: &Item, revision: u64, head: &Head) -> Bytes {
    let mut out = Vec::with_capacity(item.value.len() + 96);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event_type.as_str().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    head.splice(&item.value, revision, &mut out);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}

/// The receiving end: first what happened before it was registered, then what happens.
#[derive(Debug)]
pub struct Watcher {
    pub(super) backlog: VecDeque<Arc<Change>>,
    pub(super) receiver: mpsc::Receiver<Arc<Delivery>>,
    /// Changes up to here are not shown (a client may start ahead of what was seen).
    pub(super) after: u64,
    pub(super) filter: Arc<Filter>,
}

impl Watcher {
    /// The next change that the filter lets through, with what it means here; `None` when closed.
    pub async fn next(&mut self) -> Option<(EventType, Arc<Delivery>)> {
        loop {
            let delivery = match self.backlog.pop_front() {
                Some(change) => Arc::new(Delivery::new(change)),
                None => self.receiver.recv().await?,
            };
            if delivery.change.revision <= self.after {
                continue;
            }
            if let Some(event_type) = delivery.change.seen_through(&self.filter) {
                return Some((event_type, delivery));
            }
        }
    }
}
