//! Events: what a component tells about an object.
//!
//! Source: client-go tools/record (repeats of an event are counted in one object). Decisions live in
//! `correlator`; this file queues events and carries them to the server.

mod correlator;
mod lru;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use daruma_api::core::v1::{Event, EventSource, ObjectReference};
use daruma_api::k8s_openapi::{Metadata, Resource};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::{ObjectMeta, Time};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{Client, ClientError, Patch, names};
use correlator::{Correlated, Correlator};

/// Events that may wait for the server before further ones are dropped (event.go maxQueuedEvents).
const QUEUE: usize = 1000;
/// Tries of one event (event.go maxTriesPerEvent).
const TRIES: u32 = 12;
/// Time between two tries (event.go defaultSleepDuration).
const PAUSE: Duration = Duration::from_secs(10);

/// Whether somebody should worry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    /// As it is spelled in `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an event may carry besides reason and message; `None` leaves what the recorder sets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventFields {
    /// `reportingComponent` instead of the recorder's component.
    pub reporting_component: Option<String>,
    /// `reportingInstance` instead of the recorder's host.
    pub reporting_instance: Option<String>,
    /// `action`, e.g. `Binding`.
    pub action: Option<String>,
    /// A second object that takes part.
    pub related: Option<ObjectReference>,
    /// `metadata.annotations`.
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Tells events about objects in the name of one component. Clones share one queue.
///
/// Telling never waits and never fails: an event is dropped, with a log line, where the queue is
/// full or the server refuses it.
#[derive(Clone)]
pub struct EventRecorder {
    client: Client,
    component: Arc<str>,
    host: Arc<str>,
    /// Boxed: an empty queue has room for a block of them.
    queue: mpsc::Sender<Box<Event>>,
    /// The nanoseconds in the name of the last event.
    last_stamp: Arc<AtomicI64>,
    /// Events dropped because too many were waiting.
    dropped: Arc<AtomicU64>,
}

impl EventRecorder {
    /// A recorder for `component`, on `host` where the component belongs to a node. Starts the task
    /// that sends; it ends when the last clone is gone and the queue is empty.
    pub fn new(client: &Client, component: &str, host: Option<&str>) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        let sink = Sink { client: client.clone(), correlator: Correlator::default() };
        client.world().spawn("events", sink.run(events));
        Self {
            client: client.clone(),
            component: component.into(),
            host: host.unwrap_or_default().into(),
            queue,
            last_stamp: Arc::default(),
            dropped: Arc::default(),
        }
    }

    /// Tells one event about `object`.
    pub fn event(&self, object: &ObjectReference, event_type: EventType, reason: &str, message: String) {
        self.event_with_fields(object, event_type, reason, message, EventFields::default());
    }

    /// Tells one event about `object` with further fields.
    pub fn event_with_fields(
        &self,
        object: &ObjectReference,
        event_type: EventType,
        reason: &str,
        message: String,
        fields: EventFields,
    ) {
        let now = self.client.world().now();
        let namespace = object.namespace.clone().filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".into());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(self.event_name(object.name.as_deref().unwrap_or_default(), now)),
                namespace: Some(namespace),
                annotations: fields.annotations,
                ..Default::default()
            },
            involved_object: object.clone(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            type_: Some(event_type.as_str().to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(self.component.to_string()),
                host: Some(self.host.to_string()).filter(|host| !host.is_empty()),
            }),
            reporting_component: fields.reporting_component.or_else(|| Some(self.component.to_string())),
            reporting_instance: fields.reporting_instance.or_else(|| Some(self.host.to_string())),
            action: fields.action,
            related: fields.related,
            ..Default::default()
        };
        if self.queue.try_send(Box::new(event)).is_err() {
            // Said ever more rarely: what drops one event drops thousands.
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(component = &*self.component, reason, dropped, "too many events are waiting, some are dropped");
            }
        }
    }

    /// `NAME.<hex nanoseconds>`, or a UUID where that is no valid name (client-go
    /// tools/record/util GenerateEventName). Within one instant of a virtual clock many events may
    /// be told, so the last digits of the nanoseconds are drawn.
    fn event_name(&self, object_name: &str, now: jiff::Timestamp) -> String {
        let random = &self.client.world().random;
        let drawn = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX).saturating_add(random.below(1_000_000) as i64);
        let next = |last: i64| Some(drawn.max(last.saturating_add(1)));
        let last = self.last_stamp.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        let name = format!("{object_name}.{:x}", drawn.max(last.saturating_add(1)));
        if is_subdomain(&name) { name } else { names::uuid(random.as_ref()) }
    }
}

/// A reference to `object` as events carry it.
pub fn object_reference<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: Some(object.name().to_owned()),
        namespace: metadata.namespace.clone().filter(|namespace| !namespace.is_empty()),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.len() <= 253
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            alphanumeric(bytes.first())
                && alphanumeric(bytes.last())
                && bytes.iter().all(|byte| *byte == b'-' || alphanumeric(Some(byte)))
        })
}

/// The sending end of the queue.
struct Sink {
    client: Client,
    correlator: Correlator,
}

impl Sink {
    async fn run(mut self, mut events: mpsc::Receiver<Box<Event>>) {
        while let Some(event) = events.recv().await {
            let now = self.client.world().monotonic();
            if let Some(correlated) = self.correlator.correlate(*event, now) {
                self.deliver(correlated).await;
            }
        }
    }

    /// Tries until the server has answered; everything behind waits.
    async fn deliver(&self, correlated: Correlated) {
        let world = self.client.world();
        let reason = correlated.event.reason.clone().unwrap_or_default();
        for attempt in 1..=TRIES {
            match self.send(&correlated).await {
                Ok(()) => return,
                Err(ClientError::Api(error)) => {
                    if error.is_already_exists() || error.is_namespace_terminating() {
                        tracing::debug!(%error, reason, "the server rejects an event");
                    } else {
                        tracing::warn!(%error, reason, "the server rejects an event");
                    }
                    return;
                }
                Err(error) => tracing::debug!(%error, reason, attempt, "cannot write an event"),
            }
            if attempt < TRIES {
                // The first pause is drawn so that many clients do not come back at once.
                let pause = if attempt == 1 { PAUSE.mul_f64(world.random.unit()) } else { PAUSE };
                world.sleep(pause).await;
            }
        }
        tracing::warn!(reason, tries = TRIES, "giving up on an event");
    }

    async fn send(&self, correlated: &Correlated) -> Result<(), ClientError> {
        let event = &correlated.event;
        let api = self.client.namespaced::<Event>(event.namespace());
        if correlated.repeats {
            let patch = json!({
                "count": event.count,
                "lastTimestamp": event.last_timestamp,
                "message": event.message,
            });
            match api.patch(event.name(), &Patch::Strategic(patch)).await {
                Ok(_) => return Ok(()),
                // It has outlived its time to live: it starts anew under its old name.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        api.post(event).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_names_are_checked() {
        for (name, valid) in [
            ("web-5d8f.17a2b3c4d5e6f708", true),
            ("worker-0.17a2", true),
            ("system:node.17a2", false),
            ("Upper.17a2", false),
            (".17a2", false),
            ("a..b", false),
        ] {
            assert_eq!(is_subdomain(name), valid, "{name}");
        }
    }
}
