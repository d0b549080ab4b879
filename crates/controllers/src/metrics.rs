//! Counters of the work queues, in the Prometheus text format.
//!
//! Source of the names: kubernetes staging/src/k8s.io/component-base/metrics/prometheus/workqueue.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use crate::shell::Queue;

/// The queues whose figures are shown. Clones share the list.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    queues: Arc<Mutex<Vec<Queue>>>,
}

impl Metrics {
    pub(crate) fn register(&self, queue: &Queue) {
        self.queues.lock().expect("no panic while held").push(queue.clone());
    }

    /// All figures.
    pub(crate) fn text(&self) -> String {
        let mut queues = self.queues.lock().expect("no panic while held").clone();
        queues.sort_by_key(Queue::name);
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Queue) -> u64| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for queue in &queues {
                let _ = writeln!(text, "{name}{{name=\"{}\"}} {}", queue.name(), value(queue));
            }
        };
        family("workqueue_adds_total", "counter", "Total number of adds handled by workqueue", &|queue| queue.adds());
        family("workqueue_depth", "gauge", "Current depth of workqueue", &|queue| queue.depth());
        family("workqueue_retries_total", "counter", "Total number of retries handled by workqueue", &|queue| queue.retries());
        text
    }
}
