//! One active instance among several, by a Lease.
//!
//! Source: client-go tools/leaderelection and tools/leaderelection/resourcelock (LeaseLock). As there,
//! another holder's lease runs out by this machine's own clock, counted from the moment a change of
//! the lease was last *seen*: clocks need not agree. A lease is not given back at the end
//! (ReleaseOnCancel is false), so a successor waits until it has run out.
//!
//! Invariant: this is no fence. A leader that hangs longer than its lease may wake up beside its successor.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::coordination::v1::{Lease, LeaseSpec};
use daruma_api::metav1::{MicroTime, ObjectMeta};
use daruma_world::World;

use crate::events::{EventRecorder, EventType, object_reference};
use crate::{Api, Client, ClientError};

/// Spread of the pause between two tries to become leader (leaderelection.go JitterFactor).
const JITTER: f64 = 1.2;

/// Who wants which lease, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderElectionConfig {
    /// Name of the Lease, e.g. `kube-scheduler`.
    pub lease_name: String,
    /// Namespace of the Lease, e.g. `kube-system`.
    pub namespace: String,
    /// Who this is, e.g. `HOSTNAME_UUID`; unique among the candidates.
    pub identity: String,
    /// How long others leave the lease alone after its last renewal.
    pub lease_duration: Duration,
    /// How long the leader tries to renew before it gives up; shorter than `lease_duration`.
    pub renew_deadline: Duration,
    /// Pause between two tries.
    pub retry_period: Duration,
}

impl LeaderElectionConfig {
    /// With the durations that the real components default to: 15 s, 10 s and 2 s
    /// (component-base config/v1alpha1 defaults.go).
    pub fn new(namespace: &str, lease_name: &str, identity: &str) -> Self {
        Self {
            lease_name: lease_name.into(),
            namespace: namespace.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// How leadership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderElectionOutcome {
    /// The lease could not be renewed in time. The work has been dropped; real components exit now.
    Lost,
}

/// Waits until this candidate is leader, then runs `on_started` as a task until the lease is lost.
/// The work's own end does not end leadership. Dropping the returned future drops the work too.
pub async fn run<F, W>(client: Client, config: LeaderElectionConfig, on_started: F) -> LeaderElectionOutcome
where
    F: FnOnce() -> W + Send,
    W: Future<Output = ()> + Send + 'static,
{
    run_with_events(client, config, None, on_started).await
}

/// As [`run`], and tells `LeaderElection` events about the lease.
pub async fn run_with_events<F, W>(
    client: Client,
    config: LeaderElectionConfig,
    recorder: Option<EventRecorder>,
    on_started: F,
) -> LeaderElectionOutcome
where
    F: FnOnce() -> W + Send,
    W: Future<Output = ()> + Send + 'static,
{
    let world = client.world().clone();
    let mut candidate = Candidate::new(&client, config, recorder);
    candidate.acquire(&world).await;
    candidate.tell("became leader");
    let work = world.spawn("leader", on_started()).abort_on_drop();
    candidate.renew(&world).await;
    drop(work);
    candidate.tell("stopped leading");
    LeaderElectionOutcome::Lost
}

/// Pause between two tries while no server has answered.
const UNANSWERED: Duration = Duration::from_millis(50);

/// The lease as last seen, and when.
struct Seen {
    lease: Arc<Lease>,
    at: Duration,
}

struct Candidate {
    api: Api<Lease>,
    config: LeaderElectionConfig,
    recorder: Option<EventRecorder>,
    seen: Option<Seen>,
}

/// What to do about the lease.
#[derive(Debug, PartialEq)]
enum Step {
    /// Somebody else holds it.
    Wait,
    /// Write this.
    Write(Box<LeaseSpec>),
}

impl Candidate {
    fn new(client: &Client, config: LeaderElectionConfig, recorder: Option<EventRecorder>) -> Self {
        Self { api: client.namespaced(&config.namespace), config, recorder, seen: None }
    }

    async fn acquire(&mut self, world: &World) {
        tracing::info!(lease = self.config.lease_name, identity = self.config.identity, "waiting to become leader");
        while !self.try_acquire_or_renew(world).await {
            // Until the server has answered once this is a component that waits for its dependency.
            let period = if self.seen.is_none() { UNANSWERED.min(self.config.retry_period) } else { self.config.retry_period };
            world.sleep(period + period.mul_f64(JITTER * world.random.unit())).await;
        }
        tracing::info!(lease = self.config.lease_name, identity = self.config.identity, "became leader");
    }

    /// Renews for as long as it works.
    async fn renew(&mut self, world: &World) {
        loop {
            let (period, deadline) = (self.config.retry_period, self.config.renew_deadline);
            let until_renewed = async {
                while !self.try_acquire_or_renew(world).await {
                    world.sleep(period).await;
                }
            };
            if world.timeout(deadline, until_renewed).await.is_err() {
                tracing::warn!(lease = self.config.lease_name, "lost the lease: no renewal within the deadline");
                return;
            }
            world.sleep(period).await;
        }
    }

    /// One try; whether this candidate holds the lease now.
    async fn try_acquire_or_renew(&mut self, world: &World) -> bool {
        match self.attempt(world).await {
            Ok(holds) => holds,
            Err(error) => {
                tracing::debug!(lease = self.config.lease_name, %error, "cannot acquire or renew the lease");
                false
            }
        }
    }

    async fn attempt(&mut self, world: &World) -> Result<bool, ClientError> {
        // The holder writes at once, taking the lease for what it was after the last renewal.
        if let Some(seen) = &self.seen
            && self.is_held_by_me(&seen.lease)
            && is_current(seen, world.monotonic())
        {
            let lease = with_spec(&seen.lease, renewed(&self.config, Some(&seen.lease), world.now()));
            match self.call(world, self.api.update(&lease)).await {
                Ok(lease) => {
                    self.observe(lease, world.monotonic());
                    return Ok(true);
                }
                Err(error) => tracing::debug!(lease = self.config.lease_name, %error, "reading the lease anew"),
            }
        }
        match self.call(world, self.api.find(&self.config.lease_name)).await? {
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.config.lease_name.clone()),
                        namespace: Some(self.config.namespace.clone()),
                        ..Default::default()
                    },
                    spec: Some(renewed(&self.config, None, world.now())),
                };
                let lease = self.call(world, self.api.create(&lease)).await?;
                self.observe(lease, world.monotonic());
                Ok(true)
            }
            Some(lease) => {
                self.observe(Arc::new(lease), world.monotonic());
                let Some(seen) = &self.seen else { return Ok(false) };
                let Step::Write(spec) = plan(&self.config, seen, world.monotonic(), world.now()) else { return Ok(false) };
                let lease = with_spec(&seen.lease, *spec);
                let lease = self.call(world, self.api.update(&lease)).await?;
                self.observe(lease, world.monotonic());
                Ok(true)
            }
        }
    }

    /// Bounds one call as the real components' lease client is bounded: half the renew deadline, at
    /// least a second (resourcelock interface.go NewFromKubeconfig).
    async fn call<T>(&self, world: &World, call: impl Future<Output = Result<T, ClientError>> + Send) -> Result<T, ClientError> {
        let limit = (self.config.renew_deadline / 2).max(Duration::from_secs(1));
        match world.timeout(limit, call).await {
            Ok(result) => result,
            Err(elapsed) => Err(crate::TransportError(elapsed.to_string()).into()),
        }
    }

    /// Remembers the lease; the time counts from its last change.
    fn observe(&mut self, lease: Arc<Lease>, now: Duration) {
        match &mut self.seen {
            Some(seen) if seen.lease.spec == lease.spec => seen.lease = lease,
            seen => *seen = Some(Seen { lease, at: now }),
        }
    }

    fn is_held_by_me(&self, lease: &Lease) -> bool {
        holder(lease) == self.config.identity
    }

    fn tell(&self, what: &str) {
        if let (Some(recorder), Some(seen)) = (&self.recorder, &self.seen) {
            let message = format!("{} {what}", self.config.identity);
            recorder.event(&object_reference(seen.lease.as_ref()), EventType::Normal, "LeaderElection", message);
        }
    }
}

/// What to do about a lease that was read at `monotonic`.
fn plan(config: &LeaderElectionConfig, seen: &Seen, monotonic: Duration, now: jiff::Timestamp) -> Step {
    let holder = holder(&seen.lease);
    if !holder.is_empty() && holder != config.identity && is_current(seen, monotonic) {
        return Step::Wait;
    }
    Step::Write(Box::new(renewed(config, Some(&seen.lease), now)))
}

/// The lease's specification in this candidate's hands.
fn renewed(config: &LeaderElectionConfig, old: Option<&Lease>, now: jiff::Timestamp) -> LeaseSpec {
    let old_spec = old.and_then(|lease| lease.spec.as_ref());
    let transitions = old_spec.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    let keeps = old.is_some_and(|lease| holder(lease) == config.identity);
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(config.lease_duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: old_spec.filter(|_| keeps).and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(micros(now)))),
        renew_time: Some(MicroTime(micros(now))),
        lease_transitions: Some(if keeps || old.is_none() { transitions } else { transitions.saturating_add(1) }),
        ..old_spec.cloned().unwrap_or_default()
    }
}

/// Cuts off what a lease cannot carry, so that what comes back compares equal to what was sent.
fn micros(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn with_spec(lease: &Lease, spec: LeaseSpec) -> Lease {
    Lease { metadata: lease.metadata.clone(), spec: Some(spec) }
}

/// Whether the lease has not run out, by the duration it names itself.
fn is_current(seen: &Seen, monotonic: Duration) -> bool {
    let seconds = seen.lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    seen.at + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()) > monotonic
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(holder: &str, seen_secs: u64, now_secs: u64, expected: Option<(i32, bool)>) {
        let config = LeaderElectionConfig::new("kube-system", "kube-scheduler", "me");
        let start = jiff::Timestamp::UNIX_EPOCH;
        let lease = Lease {
            metadata: ObjectMeta::default(),
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                lease_transitions: Some(3),
                acquire_time: Some(MicroTime(start)),
                renew_time: Some(MicroTime(start)),
                ..Default::default()
            }),
        };
        let seen = Seen { lease: Arc::new(lease), at: Duration::from_secs(seen_secs) };
        let now = start + Duration::from_secs(100);
        let got = match plan(&config, &seen, Duration::from_secs(now_secs), now) {
            Step::Wait => None,
            Step::Write(spec) => {
                assert_eq!(spec.holder_identity.as_deref(), Some("me"));
                assert_eq!(spec.renew_time, Some(MicroTime(now)));
                Some((spec.lease_transitions.unwrap_or_default(), spec.acquire_time == Some(MicroTime(start))))
            }
        };
        assert_eq!(got, expected, "holder {holder}, seen at {seen_secs} s, now {now_secs} s");
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_mine_or_has_run_out() {
        check("other", 10, 24, None);
        check("other", 10, 25, Some((4, false)));
        check("", 10, 11, Some((4, false)));
        check("me", 10, 11, Some((3, true)));
        check("me", 10, 99, Some((3, true)));
    }
}
