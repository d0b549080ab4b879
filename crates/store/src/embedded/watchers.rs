//! Who is told of changes.

use tokio::sync::mpsc;

use super::history::Item;
use crate::Event;

/// Batches that may wait for a slow receiver before it is closed.
const BACKLOG: usize = 1024;

struct Watcher {
    prefix: String,
    /// What is up to here it has been told already.
    after: u64,
    sender: mpsc::Sender<Vec<Event>>,
}

/// The open watches.
#[derive(Default)]
pub(super) struct Watchers(Vec<Watcher>);

impl Watchers {
    /// Opens a watch that has `missed` these events up to `after` (inclusive).
    pub(super) fn add(&mut self, prefix: &str, after: u64, missed: Vec<Event>) -> mpsc::Receiver<Vec<Event>> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        if !missed.is_empty() {
            sender.try_send(missed).expect("a new channel has room, and its receiver is here");
        }
        self.0.push(Watcher { prefix: prefix.to_owned(), after, sender });
        receiver
    }

    /// Tells everybody; closes who is too slow and forgets who is gone.
    pub(super) fn tell(&mut self, items: &[Item]) {
        self.0.retain(|watcher| {
            let wanted = items.iter().filter(|item| item.revision > watcher.after && item.key.starts_with(&watcher.prefix));
            let events: Vec<Event> = wanted.map(Item::to_event).collect();
            if events.is_empty() {
                return !watcher.sender.is_closed();
            }
            watcher.sender.try_send(events).is_ok()
        });
    }

    /// Closes every watch.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
