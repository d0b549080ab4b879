//! The lines of a watch, made into events.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use daruma_api::json;
use daruma_api::metav1::Status;
use daruma_api::status::ApiError;
use futures::Stream;
use http_body_util::BodyExt;

use crate::api::WatchEvent;
use crate::decoded::{DecodedObjects, split_at_quote};
use crate::{Body, ClientError, TransportError};

/// Makes an object of its text, perhaps one that is shared.
pub(crate) type Decode<T> = fn(&[u8], Option<&DecodedObjects>) -> Result<T, serde_json::Error>;

struct WatchState<T> {
    body: Body,
    decode: Decode<T>,
    shared: Option<Arc<DecodedObjects>>,
    /// The beginning of a line whose end has not arrived.
    buffer: BytesMut,
    ready: VecDeque<Result<WatchEvent<T>, ClientError>>,
    ended: bool,
}

/// The events of a watch's body.
pub(crate) fn watch_events<T: Send + 'static>(
    body: Body,
    decode: Decode<T>,
    shared: Option<Arc<DecodedObjects>>,
) -> impl Stream<Item = Result<WatchEvent<T>, ClientError>> + Send + 'static {
    let state = WatchState { body, decode, shared, buffer: BytesMut::new(), ready: VecDeque::new(), ended: false };
    futures::stream::unfold(state, |mut state| async move {
        loop {
            if let Some(event) = state.ready.pop_front() {
                return Some((event, state));
            }
            if state.ended {
                return None;
            }
            match state.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        state.take_lines(data);
                    }
                }
                Some(Err(error)) => {
                    state.ended = true;
                    state.ready.push_back(Err(TransportError(format!("watch broke off: {error}")).into()));
                }
                None => state.ended = true,
            }
        }
    })
}

impl<T> WatchState<T> {
    /// Moves every line that ends in `data` into the queue and keeps what follows the last.
    fn take_lines(&mut self, mut data: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', data) {
            let (line, rest) = data.split_at(end + 1);
            data = rest;
            let event = if self.buffer.is_empty() {
                decode_event(line, self.decode, self.shared.as_deref())
            } else {
                self.buffer.extend_from_slice(line);
                decode_event(&self.buffer.split(), self.decode, self.shared.as_deref())
            };
            self.ready.extend(event);
        }
        self.buffer.extend_from_slice(data);
    }
}

fn decode_event<T>(
    line: &[u8],
    decode: Decode<T>,
    shared: Option<&DecodedObjects>,
) -> Option<Result<WatchEvent<T>, ClientError>> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    if let Some((kind, object)) = split(line) {
        if let Some(wrap) = of_an_object(kind)
            && let Ok(object) = decode(object, shared)
        {
            return Some(Ok(wrap(object)));
        }
        if kind == BOOKMARK
            && let Ok(version) = bookmarked(object)
        {
            return Some(Ok(WatchEvent::Bookmark(version)));
        }
    }
    decode_any(line, decode, shared)
}

const BOOKMARK: &str = "BOOKMARK";

/// The version that a bookmark tells.
fn bookmarked(object: &[u8]) -> Result<String, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Bookmark {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        resource_version: Option<String>,
    }
    json::parse::<Bookmark>(object).map(|bookmark| bookmark.metadata.resource_version.unwrap_or_default())
}

/// Type and object of a line as servers write it, without reading the object. Where a line is written otherwise, nothing,
/// or an object that does not decode.
pub fn split(line: &[u8]) -> Option<(&str, &[u8])> {
    let rest = line.trim_ascii_end().strip_prefix(b"{\"type\":\"")?.strip_suffix(b"}")?;
    let (kind, rest) = split_at_quote(rest)?;
    Some((std::str::from_utf8(kind).ok()?, rest.strip_prefix(b",\"object\":")?))
}

/// What an event with an object becomes.
fn of_an_object<T>(kind: &str) -> Option<fn(T) -> WatchEvent<T>> {
    match kind {
        "ADDED" => Some(WatchEvent::Added),
        "MODIFIED" => Some(WatchEvent::Modified),
        "DELETED" => Some(WatchEvent::Deleted),
        _ => None,
    }
}

/// Decodes a line in whatever order and with whatever is in it.
fn decode_any<T>(line: &[u8], decode: Decode<T>, shared: Option<&DecodedObjects>) -> Option<Result<WatchEvent<T>, ClientError>> {
    #[derive(serde::Deserialize)]
    struct Raw<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(borrow)]
        object: &'a serde_json::value::RawValue,
    }
    let raw: Raw = match serde_json::from_slice(line) {
        Ok(raw) => raw,
        Err(source) => return Some(Err(ClientError::Decode { what: "watch event".into(), source: Arc::new(source) })),
    };
    let object = raw.object.get();
    let event = match (of_an_object(raw.kind), raw.kind) {
        (Some(wrap), _) => decode(object.as_bytes(), shared).map(wrap),
        (None, BOOKMARK) => bookmarked(object.as_bytes()).map(WatchEvent::Bookmark),
        (None, _) => {
            return Some(match serde_json::from_str::<Status>(object) {
                Ok(status) => Err(ApiError::from_status(status).into()),
                Err(source) => Err(ClientError::Decode { what: "watch error".into(), source: Arc::new(source) }),
            });
        }
    };
    match event {
        Ok(event) => Some(Ok(event)),
        Err(error) => {
            tracing::warn!(%error, "leaving out a watch event that does not decode");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(lines: &[&str]) -> Vec<String> {
        let decode: Decode<Vec<u32>> = |text, _| serde_json::from_slice(text);
        let events = lines.iter().filter_map(|line| decode_event(line.as_bytes(), decode, None));
        events.map(|event| event.map_or_else(|error| format!("error: {error}"), |event| format!("{event:?}"))).collect()
    }

    #[test]
    fn however_a_line_is_written() {
        let usual = numbers(&["{\"type\":\"ADDED\",\"object\":[1,2]}\n", "{\"type\":\"DELETED\",\"object\":[3]}\n", "\n"]);
        assert_eq!(usual, ["Added([1, 2])", "Deleted([3])"]);
        let unusual = numbers(&[
            "{ \"object\": [1, 2], \"type\": \"ADDED\" }\n",
            "{\"type\":\"MODIFIED\",\"object\":[4],\"more\":{\"object\":[5]}}\n",
            "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}\n",
        ]);
        assert_eq!(unusual, ["Added([1, 2])", "Modified([4])", "Bookmark(\"7\")"]);
        // What does not decode is left out; what is no event at all is an error.
        assert!(numbers(&["{\"type\":\"ADDED\",\"object\":[\"x\"]}\n"]).is_empty());
        assert!(numbers(&["{\"type\":\"ADDED\""])[0].starts_with("error: "));
        let refused =
            "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"status\":\"Failure\",\"code\":410,\"message\":\"too old\"}}\n";
        assert!(numbers(&[refused])[0].contains("too old"));
    }
}
