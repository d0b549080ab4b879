//! The task that deletes keys whose time to live has passed, by writes like any other.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, select};

use super::Inner;
use crate::{Expect, Write};

/// Keys deleted at once.
const GROUP: usize = 256;
/// Pause after a failed write.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        let changed = inner.leases_changed.notified();
        let now = inner.world.monotonic();
        let (due, next) = {
            let state = inner.read_state();
            if state.is_closed() {
                return;
            }
            (state.due(now, GROUP), state.next_expiry())
        };
        if !due.is_empty() {
            // A key that was written meanwhile has a new deadline; its deletion fails, as it must.
            let deletions =
                due.into_iter().map(|(key, revision)| inner.clone().write(key, Expect::Revision(revision), Write::Delete));
            if join_all(deletions).await.iter().any(Result::is_err) {
                inner.world.sleep(PAUSE).await;
            }
            continue;
        }
        match next {
            None => changed.await,
            Some(next) => {
                let sleep = inner.world.sleep(next.saturating_sub(now));
                futures::pin_mut!(changed);
                select(changed, sleep).await;
            }
        }
    }
}
