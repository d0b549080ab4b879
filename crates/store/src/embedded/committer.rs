//! The task that makes writes durable in groups: while one commit runs, the next group gathers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::Inner;
use super::backend::{Backend, Batch, Change};
use super::state::Waiting;
use crate::{Outcome, StoreError};

/// Pause before a failed backend is tried again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(inner: Arc<Inner>, backend: Arc<dyn Backend>) {
    loop {
        let queued = inner.queued.notified();
        let group = {
            let mut state = inner.write_state();
            let group = state.take_group(inner.options.batch);
            if group.is_none() && state.is_closed() {
                break;
            }
            group
        };
        let Some(group) = group else {
            queued.await;
            continue;
        };
        let batch = Arc::new(group.batch);
        match commit(&inner, &backend, &batch).await {
            Ok(()) => {
                make_visible(&inner, &batch.changes);
                answer(&inner, group.waiting);
                // Writers that go on at once come into the next group.
                let_others_go_first().await;
            }
            Err(why) => {
                tracing::error!(%why, "a commit failed");
                refuse(&inner, group.waiting, &why);
                recover(&inner, &backend, &batch).await;
            }
        }
    }
    inner.lock_watchers().close();
    drop(backend);
    inner.ended.store(true, Ordering::Release);
    inner.ended_notify.notify_one();
}

/// Gives way once to every task that is ready now.
async fn let_others_go_first() {
    let mut gave_way = false;
    std::future::poll_fn(|context| {
        if gave_way {
            return Poll::Ready(());
        }
        gave_way = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn commit(inner: &Inner, backend: &Arc<dyn Backend>, batch: &Arc<Batch>) -> Result<(), String> {
    if batch.changes.is_empty() {
        return Ok(());
    }
    let (backend, batch) = (backend.clone(), batch.clone());
    inner.world.blocking(move || backend.commit(&batch)).await.map_err(|error| error.to_string())
}

fn make_visible(inner: &Inner, changes: &[Change]) {
    if changes.is_empty() {
        return;
    }
    let now = inner.world.monotonic();
    let (items, is_sooner) = {
        let mut state = inner.write_state();
        let next = state.next_expiry();
        let items = state.apply(changes, now);
        (items, state.next_expiry().is_some_and(|deadline| next.is_none_or(|next| deadline < next)))
    };
    inner.lock_watchers().tell(&items);
    if is_sooner {
        inner.leases_changed.notify_one();
    }
}

fn answer(inner: &Inner, waiting: Vec<Waiting>) {
    for writer in waiting {
        match writer {
            Waiting::Committed(revision, reply) => reply.answer(Ok(Outcome::Committed { revision })),
            Waiting::Conflict(key, reply) => {
                let current = inner.read_state().get(&key);
                reply.answer(Ok(Outcome::Conflict { current }));
            }
        }
    }
}

/// Fails the group and everything behind it.
fn refuse(inner: &Inner, waiting: Vec<Waiting>, why: &str) {
    let behind = inner.write_state().fail(why);
    for writer in waiting.into_iter().chain(behind) {
        writer.fail(StoreError::Disk(why.to_owned()));
    }
}

/// Waits until the backend answers again. What it has of the failed batch was never acknowledged,
/// but it is there and will stay, so it becomes visible.
async fn recover(inner: &Inner, backend: &Arc<dyn Backend>, batch: &Batch) {
    loop {
        let reader = backend.clone();
        let seen = inner.world.blocking(move || reader.revision()).await;
        let visible = inner.read_state().revision();
        match seen {
            Ok(durable) if (visible..=batch.revision()).contains(&durable) => {
                let kept: Vec<Change> = batch.changes.iter().filter(|change| change.revision <= durable).cloned().collect();
                make_visible(inner, &kept);
                inner.write_state().recover();
                tracing::info!(kept = kept.len(), "the store takes writes again");
                return;
            }
            Ok(durable) => tracing::error!(durable, visible, "the backend holds a revision that it cannot have"),
            Err(error) => tracing::debug!(%error, "the backend does not answer yet"),
        }
        if inner.read_state().is_closed() {
            return;
        }
        inner.world.sleep(PAUSE).await;
    }
}
