//! list: consistent or cached, whole or in pages, streamed from shared bytes.
//!
//! Rules of resourceVersion, resourceVersionMatch and continue: kubernetes apiserver
//! pkg/storage/etcd3/store.go, pkg/storage/continue.go and apimachinery validation of list options.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use daruma_api::status::{ApiError, FieldError};
use daruma_client::{Body, full_body, stream_body};
use daruma_store::StoreError;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cache::Filter;
use crate::call::Call;
use crate::http::{Format, Query, answer};
use crate::registry::Resource;
use crate::show::Painter;
use crate::storage::Item;

/// Bytes of one chunk of a streamed list, about the largest HTTP/2 frame that our own clients take.
const CHUNK_BYTES: usize = 256 * 1024;
/// What a list needs beside its items, about, and an item beside its stored form.
const HEAD_BYTES: usize = 256;
const REVISION_BYTES: usize = 32;
/// Keys read at once from the store for a page.
const PAGE_READ: usize = 1000;

/// `resourceVersion` of the query.
///
/// # Errors
/// 400 where it is not a number.
pub fn parse_version(query: &Query) -> Result<Option<u64>, ApiError> {
    let Some(text) = query.text("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let why = format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax");
        ApiError::bad_request(why)
    })
}

#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Token {
    fn encode(revision: i64, last: &str) -> String {
        let token = Self { v: "meta.k8s.io/v1".into(), rv: revision, start: format!("{last}\0") };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("plain fields serialise"))
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let bad = |why: &dyn std::fmt::Display| ApiError::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| bad(&error))?;
        let mut token: Self = serde_json::from_slice(&bytes).map_err(|error| bad(&error))?;
        if token.v != "meta.k8s.io/v1" {
            return Err(bad(&format!("server does not recognize this encoded version {:?}", token.v)));
        }
        token.start.truncate(token.start.trim_end_matches('\0').len());
        Ok(token)
    }
}

/// What a list shows.
struct Page {
    items: Vec<Arc<Item>>,
    revision: u64,
    /// The key after which the next page starts.
    more_after: Option<String>,
    remaining: Option<u64>,
}

/// Where a list reads.
enum Source {
    /// The cache, after a key.
    Cache(String),
    /// The store at a revision, after a key.
    Store(u64, String),
}

/// Lists objects.
///
/// # Errors
/// 400 and 422 for bad parameters, 410 for revisions that are gone, 504 for ones that are not there yet.
pub async fn list(call: &Call, resource: &Arc<Resource>) -> Result<Response<Body>, ApiError> {
    let painter = call.painter(resource)?;
    let filter = call.filter(resource)?;
    let limit = call.query.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0);
    let source = source(call, resource, limit).await?;
    let page = match source {
        Source::Cache(after) => {
            call.server.feed.load(&resource.prefix, &resource.cache).await?;
            from_cache(call, resource, &filter, limit, &after)
        }
        Source::Store(revision, after) => match from_store(call, resource, &filter, limit, revision, &after).await {
            Ok(page) => page,
            Err(StoreError::Compacted { .. }) if call.query.text("continue").is_some() => return Ok(expired(&after)),
            Err(StoreError::Compacted { .. }) => {
                return Err(ApiError::expired("The resourceVersion for the provided list is too old."));
            }
            Err(error) => return Err(answer::from_store(error)),
        },
    };
    Ok(respond(call.accept.format, painter, page))
}

async fn source(call: &Call, resource: &Resource, limit: usize) -> Result<Source, ApiError> {
    let version = parse_version(&call.query)?;
    let rule = call.query.text("resourceVersionMatch");
    if let Some(token) = call.query.text("continue") {
        if version.is_some_and(|version| version > 0) {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        if rule.is_some() {
            return Err(invalid_options("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided"));
        }
        let token = Token::decode(token)?;
        return match u64::try_from(token.rv) {
            Ok(revision) if revision > 0 => Ok(Source::Store(revision, token.start)),
            _ => {
                call.server.feed.wait_until_current().await?;
                Ok(Source::Cache(token.start))
            }
        };
    }
    match (version, rule) {
        (None, Some(_)) => {
            Err(invalid_options("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        }
        (_, Some(other)) if other != "Exact" && other != "NotOlderThan" => Err(ApiError::invalid(
            "meta.k8s.io",
            "ListOptions",
            "",
            &[FieldError::not_supported("resourceVersionMatch", format!("{other:?}"), &["Exact", "NotOlderThan", ""])],
        )),
        (Some(0), Some("Exact")) => {
            Err(invalid_options("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""))
        }
        (None, None) => {
            call.server.feed.load(&resource.prefix, &resource.cache).await?;
            call.server.feed.wait_until_current().await?;
            Ok(Source::Cache(String::new()))
        }
        (Some(0), _) => Ok(Source::Cache(String::new())),
        (Some(version), Some("Exact")) => Ok(Source::Store(version, String::new())),
        (Some(version), None) if limit > 0 => Ok(Source::Store(version, String::new())),
        (Some(version), _) => {
            call.server.feed.wait_for(version).await?;
            Ok(Source::Cache(String::new()))
        }
    }
}

fn invalid_options(field: &str, why: &str) -> ApiError {
    ApiError::invalid("meta.k8s.io", "ListOptions", "", &[FieldError::forbidden(field, why)])
}

fn from_cache(call: &Call, resource: &Resource, filter: &Filter, limit: usize, after: &str) -> Page {
    let snapshot = resource.cache.snapshot(call.server.feed.seen());
    let mut selected = snapshot.select(filter, after);
    let items: Vec<Arc<Item>> =
        if limit == 0 { selected.by_ref().cloned().collect() } else { selected.by_ref().take(limit).cloned().collect() };
    let mut more_after = None;
    let mut remaining = None;
    if limit > 0
        && items.len() == limit
        && let Some(last) = items.last()
        && selected.next().is_some()
    {
        more_after = Some(last.key.to_string());
        if filter.selects_all() {
            remaining = Some(1 + selected.count() as u64);
        }
    } else {
        drop(selected);
    }
    Page { items, revision: snapshot.revision, more_after, remaining }
}

async fn from_store(
    call: &Call,
    resource: &Resource,
    filter: &Filter,
    limit: usize,
    revision: u64,
    after: &str,
) -> Result<Page, StoreError> {
    let prefix =
        if filter.namespace.is_empty() { resource.prefix.clone() } else { format!("{}{}/", resource.prefix, filter.namespace) };
    let mut start = (!after.is_empty()).then(|| format!("{}{after}", resource.prefix));
    let mut items: Vec<Arc<Item>> = Vec::new();
    loop {
        let wanted = if limit == 0 {
            0
        } else if filter.selects_all() {
            limit - items.len()
        } else {
            PAGE_READ
        };
        let range = call.server.store.range(&prefix, start.as_deref(), wanted, Some(revision)).await?;
        let Some(last) = range.items.last().map(|one| one.key.clone()) else {
            return Ok(Page { items, revision, more_after: None, remaining: None });
        };
        let read = range.items.len() as u64;
        for (index, one) in range.items.into_iter().enumerate() {
            let Some(key) = one.key.strip_prefix(resource.prefix.as_str()) else { continue };
            let item = Item::new(key, one.mod_revision, one.value, resource.cache.extractor());
            if filter.matches(&item) {
                items.push(Arc::new(item));
            }
            if limit > 0 && items.len() == limit {
                let left = range.remaining + read - 1 - index as u64;
                let more_after = (left > 0).then(|| one.key[resource.prefix.len()..].to_owned());
                let remaining = (left > 0 && filter.selects_all()).then_some(left);
                return Ok(Page { items, revision, more_after, remaining });
            }
        }
        if range.remaining == 0 {
            return Ok(Page { items, revision, more_after: None, remaining: None });
        }
        start = Some(last);
    }
}

/// 410 with a token that goes on from the same key in the newest state.
fn expired(after: &str) -> Response<Body> {
    let error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let mut status = answer::status_json(&error);
    status["metadata"] = json!({"continue": Token::encode(-1, after)});
    answer::json(StatusCode::GONE, status.to_string())
}

fn respond(format: Format, painter: Painter, page: Page) -> Response<Body> {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(after) = &page.more_after {
        metadata["continue"] = Value::String(Token::encode(page.revision as i64, after));
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    // A list that is shorter than a chunk is written in one go.
    let length: usize = page.items.iter().map(|item| item.value.len() + REVISION_BYTES).sum();
    let mut first = Vec::with_capacity(length.min(CHUNK_BYTES) + HEAD_BYTES);
    painter.list_head(&metadata, &mut first);
    let mut chunks = Chunks { painter, items: page.items.into_iter(), next: first, between: false, done: false };
    if format == Format::Yaml {
        let whole: Vec<u8> = chunks.flatten().collect();
        return answer::document(StatusCode::OK, format, Bytes::from(whole));
    }
    let first = chunks.next().unwrap_or_default();
    let body = if chunks.done {
        full_body(first)
    } else {
        stream_body(futures::stream::iter(std::iter::once(first).chain(chunks).map(Ok)))
    };
    answer::with_type(StatusCode::OK, "application/json", body)
}

/// The bytes of a list, made as they are sent.
struct Chunks {
    painter: Painter,
    items: std::vec::IntoIter<Arc<Item>>,
    next: Vec<u8>,
    between: bool,
    done: bool,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = std::mem::take(&mut self.next);
        while out.len() < CHUNK_BYTES {
            let Some(item) = self.items.next() else {
                self.painter.list_tail(&mut out);
                self.done = true;
                return Some(Bytes::from(out));
            };
            if out.capacity() == 0 {
                out.reserve(CHUNK_BYTES + item.value.len());
            }
            if std::mem::replace(&mut self.between, true) {
                out.push(b',');
            }
            self.painter.list_item(&item, &mut out);
        }
        Some(Bytes::from(out))
    }
}

/// The objects that a collection verb is about, as of now.
///
/// # Errors
/// As for a list.
pub async fn selected_now(call: &Call, resource: &Resource) -> Result<Vec<Arc<Item>>, ApiError> {
    let filter = call.filter(resource)?;
    call.server.feed.load(&resource.prefix, &resource.cache).await?;
    call.server.feed.wait_until_current().await?;
    let snapshot = resource.cache.snapshot(0);
    Ok(snapshot.select(&filter, "").cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = Token::decode(&Token::encode(17, "default/a")).expect("own tokens decode");
        assert_eq!((token.rv, token.start.as_str()), (17, "default/a"));
        assert!(Token::decode("%%%").is_err());
        assert!(Token::decode("e30").is_err());
    }
}
