//! Memory and disk over time: limits of containers, and the machine's own.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use crate::behaviour::Behaviour;

/// How often a container whose use grows is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Reason of a container that the kernel has killed for want of memory.
const OOM_KILLED: &str = "OOMKilled";
const KILLED: i32 = 137;

impl Inner {
    /// Kills a container that is above its own limit; whether it was.
    fn check_limit(self: &Arc<Self>, id: &str) -> bool {
        let now = self.age_clock();
        let is_above = self.state().containers.get(id).is_some_and(|record| {
            record.is_running()
                && record.container.config.resources.memory_limit_bytes.is_some_and(|limit| record.memory(now) > limit)
        });
        if is_above {
            self.finish(id, KILLED, OOM_KILLED);
        }
        is_above
    }

    /// Has the kernel kill containers until the rest fits into the machine's memory.
    pub(super) fn relieve_machine(self: &Arc<Self>) {
        while let Some(victim) = self.victim() {
            self.finish(&victim, KILLED, OOM_KILLED);
        }
    }

    /// Whom the kernel kills next, where memory is exceeded: who uses most of it, shifted by
    /// `oom_score_adj` thousandths of the whole (Linux `oom_badness`).
    fn victim(&self) -> Option<String> {
        let total = self.config().memory_bytes?;
        let now = self.age_clock();
        let state = self.state();
        let used = state.strain.memory_bytes + state.containers.values().map(|record| record.memory(now)).sum::<u64>();
        if used <= total {
            return None;
        }
        let badness = |bytes: u64, adj: i32| bytes as i64 + i64::from(adj) * (total / 1000) as i64;
        let killable = state.containers.iter().filter(|(_, record)| {
            record.is_running() && record.memory(now) > 0 && record.container.config.resources.oom_score_adj > -1000
        });
        let worst =
            killable.max_by_key(|(_, record)| badness(record.memory(now), record.container.config.resources.oom_score_adj));
        worst.map(|(id, _)| id.clone())
    }

    /// Follows what a container uses, as long as that changes; a steady one costs nothing.
    pub(super) fn watch_use(self: &Arc<Self>, id: &str, behaviour: &Arc<Behaviour>) {
        if self.check_limit(id) {
            return;
        }
        self.relieve_machine();
        if behaviour.disk.is_some() {
            self.settle_disk();
        }
        let last_growth = behaviour.memory_growth.last().map(|point| point.after);
        let last_write = behaviour.disk.map(|disk| disk.over).filter(|over| !over.is_zero());
        let Some(until) = last_growth.max(last_write) else { return };
        let (engine, id_of_task, behaviour) = (Arc::downgrade(self), id.to_owned(), behaviour.clone());
        self.spawn_in(id, "container-use", move |world| {
            Box::pin(async move {
                loop {
                    let Some(engine) = engine.upgrade() else { return };
                    let now = world.monotonic();
                    let known = engine
                        .state()
                        .containers
                        .get(&id_of_task)
                        .map(|record| (record.age(now), record.container.config.resources.memory_limit_bytes));
                    let Some((age, limit)) = known else { return };
                    if age >= until {
                        return;
                    }
                    let crossing = limit.and_then(|limit| behaviour.memory_exceeds(limit, age));
                    // Right behind the crossing the limit is exceeded; on it, it is not yet.
                    let crossing = crossing.map_or(until, |at| at + Duration::from_millis(1));
                    let next = (age + LOOK_EVERY).min(until).min(crossing.max(age + Duration::from_millis(1)));
                    engine.reach_age(&world, &id_of_task, next).await;
                    if engine.check_limit(&id_of_task) {
                        return;
                    }
                    engine.relieve_machine();
                    if behaviour.disk.is_some() {
                        engine.settle_disk();
                    }
                }
            })
        });
    }
}
