//! watch: events from a revision on, initial events, bookmarks.
//!
//! Rules: kubernetes apiserver pkg/endpoints/handlers/watch.go and pkg/storage/cacher.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daruma_api::status::{ApiError, FieldError};
use daruma_client::{Body, BodyError, stream_body};
use daruma_world::World;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use http::{Response, StatusCode};

use super::list::parse_version;
use crate::cache::{Delivery, EventType, Feed, Watcher};
use crate::call::Call;
use crate::http::{Shape, answer};
use crate::registry::Resource;
use crate::show::Painter;
use crate::storage::Item;

/// How often a watch hears of the revision reached (apiserver cacher `defaultBookmarkFrequency`).
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Shortest life of a watch without `timeoutSeconds`; the longest is twice that (`MinRequestTimeout`).
const MIN_LIFE_SECONDS: u64 = 1800;

/// Opens a watch.
///
/// # Errors
/// 400 and 422 for bad parameters; a revision that is gone comes as an `ERROR` event.
pub async fn watch(call: &Call, resource: &Arc<Resource>) -> Result<Response<Body>, ApiError> {
    let painter = call.painter(resource)?;
    let filter = Arc::new(call.filter(resource)?);
    let version = parse_version(&call.query)?;
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let initial = initial_events(call)?;
    let server = &call.server;
    server.feed.load(&resource.prefix, &resource.cache).await?;
    match version {
        None => server.feed.wait_until_current().await?,
        Some(version) if initial == Some(true) => server.feed.wait_for(version).await?,
        Some(_) => {}
    }
    let from_now = initial == Some(true) || (version.unwrap_or(0) == 0 && initial.is_none());
    let mut first = VecDeque::new();
    let (watcher, end) = if from_now {
        let (snapshot, watcher) = resource.cache.watch_from_now(&filter, server.feed.seen());
        first.extend(snapshot.select(&filter, "").cloned());
        (watcher, snapshot.revision)
    } else {
        let from = match version {
            Some(version) if version > 0 => version,
            _ => server.feed.seen(),
        };
        match resource.cache.watch(from, &filter) {
            Ok(watcher) => (watcher, 0),
            Err(too_old) => return Ok(error_event(&ApiError::expired(too_old.to_string()))),
        }
    };
    if !server.registry.is_current(resource) {
        // It was taken away or replaced after the request had come; nobody would ever end this watch.
        return Ok(answer::with_type(StatusCode::OK, "application/json", daruma_client::empty_body()));
    }
    let life = match call.query.number("timeoutSeconds").and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) if seconds > 0 => seconds,
        _ => MIN_LIFE_SECONDS + server.world.random.below(MIN_LIFE_SECONDS),
    };
    let stream = WatchStream {
        world: server.world.clone(),
        feed: server.feed.clone(),
        painter,
        first,
        end_of_first: (initial == Some(true) && bookmarks).then_some(end),
        watcher,
        columns: true,
        deadline: server.world.sleep(Duration::from_secs(life)),
        bookmark: bookmarks.then(|| server.world.sleep(BOOKMARK_INTERVAL)),
        due: None,
        gauge: server.metrics.watch_opened(resource.plural()),
    };
    let frames = futures::stream::unfold(stream, |mut stream| async move {
        let frame = stream.next().await?;
        Some((Ok::<_, BodyError>(frame), stream))
    });
    Ok(answer::with_type(StatusCode::OK, "application/json", stream_body(frames)))
}

/// `sendInitialEvents` with its conditions (apimachinery pkg/apis/meta/internalversion/validation).
fn initial_events(call: &Call) -> Result<Option<bool>, ApiError> {
    let rule = call.query.text("resourceVersionMatch");
    let asked = call.query.text("sendInitialEvents").map(|_| call.query.flag("sendInitialEvents"));
    let wrong = match (asked, rule) {
        (None, None) | (Some(_), Some("NotOlderThan")) => return Ok(asked),
        (None, Some(_)) => FieldError::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (Some(_), None) => FieldError::forbidden(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (Some(_), Some(other)) => FieldError::not_supported("resourceVersionMatch", format!("{other:?}"), &["NotOlderThan"]),
    };
    Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &[wrong]))
}

fn error_event(error: &ApiError) -> Response<Body> {
    let line = format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", answer::status_json(error));
    answer::with_type(StatusCode::OK, "application/json", daruma_client::full_body(line))
}

struct WatchStream {
    world: World,
    feed: Arc<Feed>,
    painter: Painter,
    first: VecDeque<Arc<Item>>,
    end_of_first: Option<u64>,
    watcher: Watcher,
    columns: bool,
    deadline: BoxFuture<'static, ()>,
    bookmark: Option<BoxFuture<'static, ()>>,
    /// The revision of a bookmark that is to be sent next.
    due: Option<u64>,
    #[expect(dead_code, reason = "counts this watch while it lives")]
    gauge: crate::metrics::OpenWatch,
}

enum Happening {
    Event(EventType, Arc<Delivery>),
    Bookmark,
    End,
}

impl WatchStream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(item) = self.first.pop_front() {
            return Some(self.item_frame(EventType::Added, &item, item.revision));
        }
        if let Some(revision) = self.end_of_first.take() {
            return Some(self.bookmark_frame(revision, true));
        }
        if self.due.is_none() {
            match self.happening().await {
                Happening::Event(event_type, delivery) => return Some(self.frame(event_type, &delivery)),
                Happening::Bookmark => {
                    self.bookmark = Some(self.world.sleep(BOOKMARK_INTERVAL));
                    self.due = Some(self.feed.seen());
                }
                Happening::End => return None,
            }
        }
        // Every change up to the revision seen is in the channel by now; it goes first.
        match self.watcher.next().now_or_never() {
            Some(Some((event_type, delivery))) => Some(self.frame(event_type, &delivery)),
            Some(None) => None,
            None => self.due.take().map(|revision| self.bookmark_frame(revision, false)),
        }
    }

    async fn happening(&mut self) -> Happening {
        let event = std::pin::pin!(self.watcher.next());
        let pending: &mut BoxFuture<'static, ()> = &mut (Box::pin(futures::future::pending()) as BoxFuture<'static, ()>);
        let timers = select(&mut self.deadline, self.bookmark.as_mut().unwrap_or(pending));
        match select(event, timers).await {
            Either::Left((Some((event_type, delivery)), _)) => Happening::Event(event_type, delivery),
            Either::Left((None, _)) | Either::Right((Either::Left(_), _)) => Happening::End,
            Either::Right((Either::Right(_), _)) => Happening::Bookmark,
        }
    }

    fn frame(&mut self, event_type: EventType, delivery: &Delivery) -> Bytes {
        if self.painter.shape == Shape::Object {
            return delivery.frame(event_type, &self.painter.resource.head);
        }
        match delivery.change.shown(event_type) {
            Some(item) => self.item_frame(event_type, item, delivery.change.revision),
            None => Bytes::new(),
        }
    }

    fn item_frame(&mut self, event_type: EventType, item: &Item, revision: u64) -> Bytes {
        if self.painter.shape == Shape::Object {
            return crate::cache::whole_frame(event_type, item, revision, &self.painter.resource.head);
        }
        let columns = std::mem::replace(&mut self.columns, false);
        let object = self.painter.at(self.world.now()).one_with_columns(&item.value, revision, columns);
        let mut out = Vec::with_capacity(object.len() + 32);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(event_type.as_str().as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        out.extend_from_slice(&object);
        out.extend_from_slice(b"}\n");
        Bytes::from(out)
    }

    fn bookmark_frame(&self, revision: u64, end_of_initial_events: bool) -> Bytes {
        let annotations = if end_of_initial_events { ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" } else { "" };
        let (kind, version, rest) = match self.painter.shape {
            Shape::Table => ("Table", "meta.k8s.io/v1".to_owned(), ",\"columnDefinitions\":null,\"rows\":[]"),
            Shape::Partial => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned(), ""),
            _ => (self.painter.resource.kind_name(), self.painter.resource.api_version(), ""),
        };
        Bytes::from(format!(
            "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{{\"resourceVersion\":\"{revision}\",\"creationTimestamp\":null{annotations}}}{rest}}}}}\n"
        ))
    }
}
