//! What a power cut takes back.
//!
//! The model: what was written without `durable` reaches the platter 5 to 30 s later (Linux
//! `dirty_writeback_centisecs` and `dirty_expire_centisecs`, ext4's commit interval), in the order in which
//! it was done. So after a power cut the files are as they were at a moment drawn between 5 and 30 s
//! before it, and renames are never half done. On top of that comes every durable write since.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::node::{Node, Way};
use crate::clock::nanos;
use crate::random::SplitMix;

/// What is younger is lost.
const SAFE_NEVER: Duration = Duration::from_secs(5);
/// What is older is safe.
const SAFE_ALWAYS: Duration = Duration::from_secs(30);
/// Moments that are kept lie at least so far apart.
const GRAIN: Duration = Duration::from_secs(1);

/// A write that survives.
pub(super) struct Durable {
    pub(super) at_ns: u64,
    pub(super) way: Way,
    pub(super) node: Node,
}

/// The last 30 s of a file system.
#[derive(Default)]
pub(super) struct Past {
    /// The root as it was until a change at that time.
    roots: VecDeque<(u64, Arc<Node>)>,
    durable: VecDeque<Durable>,
}

impl Past {
    /// To be called before every change.
    pub(super) fn remember(&mut self, now_ns: u64, root: &Arc<Node>) {
        self.forget(now_ns);
        if self.roots.back().is_none_or(|(at, _)| at + nanos(GRAIN) <= now_ns) {
            self.roots.push_back((now_ns, root.clone()));
        }
    }

    fn forget(&mut self, now_ns: u64) {
        let oldest = now_ns.saturating_sub(nanos(SAFE_ALWAYS));
        while self.roots.front().is_some_and(|(at, _)| *at < oldest) {
            self.roots.pop_front();
        }
        while self.durable.front().is_some_and(|write| write.at_ns < oldest) {
            self.durable.pop_front();
        }
    }

    pub(super) fn remember_durable(&mut self, write: Durable) {
        self.durable.push_back(write);
    }

    /// All of it is on the platter now.
    pub(super) fn clear(&mut self) {
        self.roots.clear();
        self.durable.clear();
    }

    /// The root that a power cut leaves and the durable writes that come on top of it, in order.
    pub(super) fn cut(&mut self, now_ns: u64, root: &Arc<Node>, chance: &mut SplitMix) -> (Arc<Node>, Vec<Durable>) {
        self.forget(now_ns);
        let age = nanos(SAFE_NEVER) + chance.below(nanos(SAFE_ALWAYS.saturating_sub(SAFE_NEVER)));
        let moment = now_ns.checked_sub(age);
        let then = match moment {
            Some(moment) => self.roots.iter().find(|(at, _)| *at > moment),
            None => self.roots.front(),
        };
        let then = then.map_or(root, |(_, root)| root).clone();
        self.roots.clear();
        let durable = std::mem::take(&mut self.durable).into_iter();
        (then, durable.filter(|write| moment.is_none_or(|moment| write.at_ns > moment)).collect())
    }
}
