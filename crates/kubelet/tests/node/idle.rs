//! What nodes cost that have nothing to do.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use daruma_world::{Clock, Task, Tasks, World};
use futures::future::BoxFuture;
use serde_json::json;

use super::Node;
use super::api::Api;

/// Counts what goes to sleep.
struct CountingClock {
    clock: Arc<dyn Clock>,
    sleeps: Arc<AtomicU64>,
}

impl Clock for CountingClock {
    fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }
    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
        self.clock.sleep(duration)
    }
}

type Polls = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// Counts polls by the tasks' names.
struct CountingTasks {
    tasks: Arc<dyn Tasks>,
    polls: Polls,
}

struct Counted {
    name: &'static str,
    future: BoxFuture<'static, ()>,
    polls: Polls,
}

impl Future for Counted {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        *self.polls.lock().expect("no panic").entry(self.name).or_default() += 1;
        self.future.as_mut().poll(context)
    }
}

impl Tasks for CountingTasks {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        self.tasks.spawn(name, Box::pin(Counted { name, future, polls: self.polls.clone() }))
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.tasks.blocking(work)
    }
}

/// Runs so many nodes for an hour in which nothing happens; prints what they did and gives the timers of a node.
fn idle(nodes: u8, pods: u8) -> f64 {
    daruma_sim::run(1, |world| async move {
        let (sleeps, polls) = (Arc::new(AtomicU64::new(0)), Polls::default());
        let counting = World {
            clock: Arc::new(CountingClock { clock: world.clock.clone(), sleeps: sleeps.clone() }),
            tasks: Arc::new(CountingTasks { tasks: world.tasks.clone(), polls: polls.clone() }),
            ..world.clone()
        };
        let api = Api::default();
        api.put("configmaps", json!({"metadata": {"name": "kube-root-ca.crt", "namespace": "default"}, "data": {"ca.crt": "x"}}));
        for number in 0..nodes {
            let node = Node::named(&counting, &api, &format!("n{number}"), number);
            node.start("b1");
            for pod in 0..pods {
                let volumes = json!([{"name": "v", "configMap": {"name": "kube-root-ca.crt"}}]);
                node.pod_named(
                    &format!("n{number}-p{pod}"),
                    json!({"volumes": volumes, "containers": [{"name": "a", "image": "web"}]}),
                );
            }
        }
        world.sleep(Duration::from_secs(120)).await;
        let ready = (0..nodes).all(|number| {
            let pod = api.get("pods", &format!("default/n{number}-p0")).unwrap_or_default();
            pod["status"]["phase"] == "Running"
        });
        assert!(ready, "every pod runs");
        sleeps.store(0, Ordering::Relaxed);
        polls.lock().expect("no panic").clear();
        api.take_requests();
        world.sleep(Duration::from_secs(3600)).await;
        let (timers, requests) = (sleeps.load(Ordering::Relaxed), api.take_requests());
        let polls = polls.lock().expect("no panic").clone();
        println!("{nodes} nodes of {pods} pods, one hour: {timers} timers\npolls: {polls:?}\nrequests: {requests:?}");
        for quiet in ["pod worker", "pod status", "probe", "events"] {
            assert_eq!(polls.get(quiet), None, "{quiet}");
        }
        timers as f64 / f64::from(nodes)
    })
}

/// An hour has 360 ticks and 353 to 360 renewals of the lease, each with a limit for its answer; the rest are watches that are
/// renewed after five to ten minutes, two timers each, and a list of all containers every five minutes.
#[test]
fn an_hour_of_idle_nodes() {
    let timers = idle(10, 20);
    assert!((1050.0..1220.0).contains(&timers), "{timers} timers an hour");
}

/// The same at scale; takes a while unoptimised.
#[test]
#[ignore = "for measuring: cargo nextest run -p daruma-kubelet --run-ignored only --no-capture"]
fn an_hour_of_two_hundred_idle_nodes() {
    let timers = idle(200, 20);
    assert!((1050.0..1220.0).contains(&timers), "{timers} timers an hour");
}
