//! What the store holds: visible state and history, and the writes on their way to them. Pure: the
//! clock's readings are given.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, Vector};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::backend::{Batch, Change, Lease, Loaded, Record};
use super::expiries::Expiries;
use super::history::{History, Item, key_value};
use super::snapshot::Snapshot;
use crate::{Expect, KeyValue, Outcome, StoreError, Write};

/// Where a writer waits for its answer.
pub(super) struct Reply {
    pub(super) sender: oneshot::Sender<Result<Outcome, StoreError>>,
    /// The writer's place in the queue.
    pub(super) _slot: OwnedSemaphorePermit,
}

impl Reply {
    /// Answers; a writer that is gone does not hear it.
    pub(super) fn answer(self, answer: Result<Outcome, StoreError>) {
        let _ = self.sender.send(answer);
    }
}

/// What becomes of a write at once.
pub(super) enum Submitted {
    /// It is refused; nothing that could still fail stands in its way.
    Answered(Outcome),
    /// Its answer comes with a commit.
    Queued,
}

/// A place in the queue.
enum Queued {
    /// A change to be committed.
    Change(Change, Reply),
    /// A conflict with a queued change: it is one only if that change is committed.
    Conflict(Arc<str>, Reply),
}

/// A waiting writer's answer if the commit succeeds.
pub(super) enum Waiting {
    Committed(u64, Reply),
    Conflict(Arc<str>, Reply),
}

impl Waiting {
    pub(super) fn fail(self, error: StoreError) {
        let (Self::Committed(_, reply) | Self::Conflict(_, reply)) = self;
        reply.answer(Err(error));
    }
}

/// A group of writes to be committed together.
pub(super) struct Group {
    pub(super) batch: Batch,
    pub(super) waiting: Vec<Waiting>,
}

pub(super) struct State {
    objects: OrdMap<Arc<str>, Record>,
    revision: u64,
    history: History,
    expiries: Expiries,
    /// The last change of each key that has one on its way; wins over `objects` in checks.
    pending: BTreeMap<Arc<str>, Change>,
    /// The last revision given out.
    last_revision: u64,
    queue: VecDeque<Queued>,
    /// Why no write is taken now.
    refusal: Option<String>,
    closed: bool,
}

impl State {
    pub(super) fn new(loaded: Loaded, history_bytes: usize, now: Duration, now_ms: i64) -> Self {
        let mut expiries = Expiries::default();
        for (key, record) in &loaded.records {
            if let Some(lease) = record.lease {
                // A clock that was set back must not make a key live longer than a new one would.
                let left_ms = u64::try_from(lease.expires_ms.saturating_sub(now_ms)).unwrap_or_default();
                let left = Duration::from_millis(left_ms).min(Duration::from_secs(lease.ttl_seconds));
                expiries.set(key, Some(now + left));
            }
        }
        Self {
            objects: loaded.records.into_iter().collect(),
            revision: loaded.revision,
            history: History::new(loaded.revision, history_bytes),
            expiries,
            pending: BTreeMap::new(),
            last_revision: loaded.revision,
            queue: VecDeque::new(),
            refusal: None,
            closed: false,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<KeyValue> {
        self.objects.get(key).map(|record| key_value(key, record))
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn key_count(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn history_bytes(&self) -> usize {
        self.history.bytes()
    }

    pub(super) fn history_len(&self) -> usize {
        self.history.items().len()
    }

    /// State and history. Takes constant time.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { history: self.history.items().clone(), ..self.present() }
    }

    /// The state without history.
    pub(super) fn present(&self) -> Snapshot {
        Snapshot { objects: self.objects.clone(), history: Vector::new(), oldest: self.history.oldest(), revision: self.revision }
    }

    pub(super) fn due(&self, now: Duration, limit: usize) -> Vec<(Arc<str>, u64)> {
        let due = self.expiries.due(now, limit);
        due.filter_map(|key| Some((key.clone(), self.objects.get(key)?.mod_revision))).collect()
    }

    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.expiries.next()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.refusal.get_or_insert_with(|| "the store is closed".into());
    }

    /// Checks a write against all before it and queues it.
    pub(super) fn submit(
        &mut self,
        key: Arc<str>,
        expect: Expect,
        write: Write,
        now_ms: i64,
        reply: Reply,
    ) -> Result<Submitted, StoreError> {
        if let Some(refusal) = &self.refusal {
            return Err(StoreError::Disk(refusal.clone()));
        }
        let pending = self.pending.get(&key);
        let current = match pending {
            Some(change) => change.record.as_ref(),
            None => self.objects.get(&key),
        };
        if !holds(expect, current) || (write == Write::Delete && current.is_none()) {
            if pending.is_none() {
                let current = current.map(|record| key_value(&key, record));
                return Ok(Submitted::Answered(Outcome::Conflict { current }));
            }
            self.queue.push_back(Queued::Conflict(key, reply));
            return Ok(Submitted::Queued);
        }
        let revision = self.last_revision + 1;
        let record = match write {
            Write::Delete => None,
            Write::Put { value, ttl_seconds } => Some(Record {
                value,
                create_revision: current.map_or(revision, |record| record.create_revision),
                mod_revision: revision,
                lease: ttl_seconds.filter(|seconds| *seconds > 0).map(|ttl_seconds| Lease {
                    ttl_seconds,
                    expires_ms: now_ms.saturating_add(i64::try_from(ttl_seconds).unwrap_or(i64::MAX).saturating_mul(1000)),
                }),
            }),
        };
        let replaces = current.map(|record| record.mod_revision);
        let change = Change { key: key.clone(), revision, record, replaces };
        self.last_revision = revision;
        self.pending.insert(key, change.clone());
        self.queue.push_back(Queued::Change(change, reply));
        Ok(Submitted::Queued)
    }

    /// Takes what waits, up to `limit`; `None` where nothing does.
    pub(super) fn take_group(&mut self, limit: usize) -> Option<Group> {
        if self.queue.is_empty() {
            return None;
        }
        let count = self.queue.len().min(limit.max(1));
        let mut group = Group { batch: Batch::default(), waiting: Vec::with_capacity(count) };
        for queued in self.queue.drain(..count) {
            group.waiting.push(match queued {
                Queued::Conflict(key, reply) => Waiting::Conflict(key, reply),
                Queued::Change(change, reply) => {
                    let revision = change.revision;
                    group.batch.changes.push(change);
                    Waiting::Committed(revision, reply)
                }
            });
        }
        Some(group)
    }

    /// Makes durable changes visible; gives them for the watchers.
    pub(super) fn apply(&mut self, changes: &[Change], now: Duration) -> Vec<Item> {
        let mut items = Vec::with_capacity(changes.len());
        for change in changes {
            let Change { key, revision, record, .. } = change.clone();
            let lease = record.as_ref().and_then(|record| record.lease);
            self.expiries.set(&key, lease.map(|lease| now.saturating_add(Duration::from_secs(lease.ttl_seconds))));
            let previous = match &record {
                Some(record) => self.objects.insert(key.clone(), record.clone()),
                None => self.objects.remove(&*key),
            };
            if self.pending.get(&key).is_some_and(|pending| pending.revision == revision) {
                self.pending.remove(&key);
            }
            let item = Item { key, revision, record, previous };
            self.history.push(item.clone());
            items.push(item);
            self.revision = revision;
        }
        items
    }

    /// After a failed commit: forgets every write on its way and takes no more; gives who waits.
    pub(super) fn fail(&mut self, why: &str) -> Vec<Waiting> {
        self.refusal = Some(why.to_owned());
        self.pending.clear();
        let queue = std::mem::take(&mut self.queue);
        queue
            .into_iter()
            .map(|queued| match queued {
                Queued::Conflict(key, reply) => Waiting::Conflict(key, reply),
                Queued::Change(change, reply) => Waiting::Committed(change.revision, reply),
            })
            .collect()
    }

    /// Takes writes again, at what is durable.
    pub(super) fn recover(&mut self) {
        self.last_revision = self.revision;
        self.refusal = self.closed.then(|| "the store is closed".into());
    }
}

fn holds(expect: Expect, current: Option<&Record>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Revision(revision) => current.is_some_and(|record| record.mod_revision == revision),
    }
}
