//! Typed calls.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use daruma_api::json;
use daruma_api::k8s_openapi::{ClusterResourceScope, Metadata, NamespaceResourceScope, Resource};
use daruma_api::metav1::{ObjectMeta, Status};
use daruma_api::status::ApiError;
use daruma_world::World;
use futures::Stream;
use http::{Method, Request};
use http_body_util::BodyExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::decoded::{self, DecodedObjects};
use crate::list::Reader;
use crate::rate_limit::TokenBucket;
use crate::watch::{Decode, watch_events};
use crate::{Body, ClientError, RateLimit, Transport, TransportError, empty_body, full_body};

/// A component's connection to the API: a transport, a user agent and a rate limit. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    world: World,
    transport: Arc<dyn Transport>,
    user_agent: Arc<str>,
    limit: Arc<TokenBucket>,
}

/// Selection and paging of a list or watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Label selector in query-string form; empty selects all.
    pub label_selector: String,
    /// Field selector in query-string form; empty selects all.
    pub field_selector: String,
    /// Most items in one answer.
    pub limit: Option<u32>,
    /// Where the next page starts.
    pub continue_token: Option<String>,
    /// `None` asks for the most recent, `"0"` for any cached state.
    pub resource_version: Option<String>,
}

/// Items of a list with the list's own metadata.
#[derive(Debug, Clone)]
pub struct ListResult<K> {
    /// The items, in key order.
    pub items: Vec<K>,
    /// Revision that the list shows; a watch goes on from it.
    pub resource_version: String,
    /// Where the next page starts, when there is one.
    pub continue_token: Option<String>,
}

/// One event of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent<K> {
    /// A new object.
    Added(K),
    /// A changed object.
    Modified(K),
    /// The last state of a deleted object, at the revision of its deletion.
    Deleted(K),
    /// Nothing happened up to this revision.
    Bookmark(String),
}

/// How a patch is meant.
#[derive(Debug, Clone)]
pub enum Patch {
    /// RFC 6902.
    Json(serde_json::Value),
    /// RFC 7386.
    Merge(serde_json::Value),
    /// Kubernetes' strategic merge.
    Strategic(serde_json::Value),
}

/// How an object is deleted.
#[derive(Debug, Clone, Default, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    /// Seconds of grace; `None` is the object's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// `Background`, `Foreground` or `Orphan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<String>,
    /// Only this very object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<daruma_api::metav1::Preconditions>,
}

impl DeleteOptions {
    /// Deletes only the object with this UID.
    pub fn of_uid(uid: &str) -> Self {
        Self {
            preconditions: Some(daruma_api::metav1::Preconditions { uid: Some(uid.into()), resource_version: None }),
            ..Self::default()
        }
    }
}

impl Client {
    /// Makes a client. `user_agent` appears in managed fields and logs.
    pub fn new(world: &World, transport: Arc<dyn Transport>, user_agent: &str, limit: RateLimit) -> Self {
        Self {
            world: world.clone(),
            transport,
            user_agent: user_agent.into(),
            limit: Arc::new(TokenBucket::new(limit, world.monotonic())),
        }
    }

    /// The same connection under another name with a rate limit of its own, as the real
    /// controller-manager gives every controller.
    pub fn named(&self, user_agent: &str, limit: RateLimit) -> Self {
        Self::new(&self.world, self.transport.clone(), user_agent, limit)
    }

    /// Gives up the connections that this client shares with others; see [`Transport::close_connections`].
    pub fn close_connections(&self) {
        self.transport.close_connections();
    }

    /// The world this client lives in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The component's name.
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// Objects of kind `K` in all namespaces, or cluster-scoped ones.
    pub fn all<K: Resource>(&self) -> Api<K> {
        Api { client: self.clone(), namespace: None, kind: PhantomData }
    }

    /// Objects of kind `K` in one namespace.
    pub fn namespaced<K: Resource<Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K> {
        Api { client: self.clone(), namespace: Some(namespace.into()), kind: PhantomData }
    }

    /// Cluster-scoped objects of kind `K`.
    pub fn cluster<K: Resource<Scope = ClusterResourceScope>>(&self) -> Api<K> {
        self.all()
    }

    /// Sends any request after waiting for the rate limit; the answer's status is not looked at.
    pub async fn raw(&self, mut request: Request<Body>) -> Result<http::Response<Body>, TransportError> {
        self.limit.acquire(&self.world).await;
        if let Ok(value) = http::HeaderValue::from_str(&self.user_agent) {
            request.headers_mut().entry(http::header::USER_AGENT).or_insert(value);
        }
        self.transport.call(request).await
    }

    /// Sends a JSON request and gives the response body of a successful answer.
    pub async fn json(
        &self,
        method: Method,
        path_and_query: &str,
        content_type: &str,
        body: Option<Bytes>,
    ) -> Result<Bytes, ClientError> {
        let response = self.open(method, path_and_query, content_type, body).await?;
        Ok(collect(response.into_body()).await?)
    }

    /// As [`Client::json`], with the body left to be read.
    async fn open(
        &self,
        method: Method,
        path_and_query: &str,
        content_type: &str,
        body: Option<Bytes>,
    ) -> Result<http::Response<Body>, ClientError> {
        let mut builder = Request::builder().method(method).uri(path_and_query).header(http::header::ACCEPT, "application/json");
        let body = match body {
            Some(content) => {
                builder = builder.header(http::header::CONTENT_TYPE, content_type);
                full_body(content)
            }
            None => empty_body(),
        };
        let request = builder.body(body).map_err(|error| TransportError(format!("bad request {path_and_query}: {error}")))?;
        let response = self.raw(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let content = collect(response.into_body()).await?;
        Err(to_api_error(status, &content).into())
    }
}

/// Calls on objects of one kind.
pub struct Api<K> {
    client: Client,
    namespace: Option<Arc<str>>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), namespace: self.namespace.clone(), kind: PhantomData }
    }
}

impl<K> Api<K>
where
    K: Resource + Metadata<Ty = ObjectMeta> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// The client behind it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads one object.
    pub async fn get(&self, name: &str) -> Result<K, ClientError> {
        self.request(Method::GET, &self.path(Some(name), ""), "", None).await
    }

    /// Reads one object; `None` where it is not there.
    pub async fn find(&self, name: &str) -> Result<Option<K>, ClientError> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists objects. An item that does not decode is logged and left out.
    pub async fn list(&self, options: &ListOptions) -> Result<ListResult<K>, ClientError> {
        self.list_as(options, |item, _| json::parse(item)).await
    }

    /// As [`Api::list`]; `decode` makes the items.
    pub(crate) async fn list_as<T>(&self, options: &ListOptions, decode_item: Decode<T>) -> Result<ListResult<T>, ClientError> {
        let path = with_query(&self.path(None, ""), &options.to_query());
        let response = self.client.open(Method::GET, &path, "", None).await?;
        let shared = response.extensions().get().cloned();
        let (metadata, items) = Reader::new(&path, decode_item, shared).read(response.into_body()).await?;
        Ok(ListResult {
            items,
            resource_version: metadata.resource_version.unwrap_or_default(),
            continue_token: metadata.continue_.filter(|token| !token.is_empty()),
        })
    }

    /// Watches from `resource_version` on (exclusive). The stream ends when the server ends it;
    /// an error event becomes an error item. An event that does not decode is logged and left out.
    pub async fn watch(
        &self,
        options: &ListOptions,
        resource_version: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent<Arc<K>>, ClientError>> + Send + 'static + use<K>, ClientError> {
        self.watch_as(options, resource_version, None, decoded::decode::<K>).await
    }

    /// As [`Api::watch`]; asks the server to end the watch after so many seconds, and `decode` makes the objects.
    pub(crate) async fn watch_as<T: Send + 'static>(
        &self,
        options: &ListOptions,
        resource_version: &str,
        timeout_seconds: Option<u64>,
        decode: Decode<T>,
    ) -> Result<impl Stream<Item = Result<WatchEvent<T>, ClientError>> + Send + 'static + use<T, K>, ClientError> {
        let mut query = options.to_query();
        if let Some(seconds) = timeout_seconds {
            query.push(("timeoutSeconds", seconds.to_string()));
        }
        query.push(("watch", "true".into()));
        query.push(("allowWatchBookmarks", "true".into()));
        query.push(("resourceVersion", resource_version.into()));
        let path = with_query(&self.path(None, ""), &query);
        let response = self.client.open(Method::GET, &path, "", None).await?;
        let shared = response.extensions().get().cloned();
        Ok(watch_events(response.into_body(), decode, shared))
    }

    /// Creates an object.
    pub async fn create(&self, object: &K) -> Result<Arc<K>, ClientError> {
        self.send(Method::POST, &self.path(None, ""), object).await
    }

    /// Creates an object of which nobody asks what the server made of it.
    pub async fn post(&self, object: &K) -> Result<(), ClientError> {
        let path = self.path(None, "");
        self.client.json(Method::POST, &path, "application/json", Some(encode(&path, object)?)).await?;
        Ok(())
    }

    /// Replaces an object, at the resource version it carries.
    pub async fn update(&self, object: &K) -> Result<Arc<K>, ClientError> {
        self.send(Method::PUT, &self.path(object.metadata().name.as_deref(), ""), object).await
    }

    /// Replaces an object's status.
    pub async fn update_status(&self, object: &K) -> Result<Arc<K>, ClientError> {
        self.send(Method::PUT, &self.path(object.metadata().name.as_deref(), "status"), object).await
    }

    /// Changes an object.
    pub async fn patch(&self, name: &str, patch: &Patch) -> Result<Arc<K>, ClientError> {
        self.patch_path(&self.path(Some(name), ""), patch).await
    }

    /// Changes an object's status.
    pub async fn patch_status(&self, name: &str, patch: &Patch) -> Result<Arc<K>, ClientError> {
        self.patch_path(&self.path(Some(name), "status"), patch).await
    }

    /// Deletes an object. Gives nothing back: the server may answer with the object or a Status.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<(), ClientError> {
        let path = self.path(Some(name), "");
        self.client.json(Method::DELETE, &path, "application/json", Some(encode(&path, options)?)).await?;
        Ok(())
    }

    /// Deletes all selected objects.
    pub async fn delete_collection(&self, selection: &ListOptions, options: &DeleteOptions) -> Result<(), ClientError> {
        let path = with_query(&self.path(None, ""), &selection.to_query());
        self.client.json(Method::DELETE, &path, "application/json", Some(encode(&path, options)?)).await?;
        Ok(())
    }

    /// Posts to a subresource (`binding`, `eviction`, `token`) and decodes its answer.
    pub async fn create_subresource<B: Serialize, R: DeserializeOwned>(
        &self,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<R, ClientError> {
        let path = self.path(Some(name), subresource);
        let content = encode(&path, body)?;
        self.request(Method::POST, &path, "application/json", Some(content)).await
    }

    /// URL path of the collection, of one object, or of its subresource (`""` for none).
    pub fn path(&self, name: Option<&str>, subresource: &str) -> String {
        let mut path =
            if K::GROUP.is_empty() { format!("/api/{}", K::VERSION) } else { format!("/apis/{}/{}", K::GROUP, K::VERSION) };
        if let Some(namespace) = self.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
            path.push_str("/namespaces/");
            path.push_str(&escape(namespace));
        }
        path.push('/');
        path.push_str(K::URL_PATH_SEGMENT);
        if let Some(name) = name {
            path.push('/');
            path.push_str(&escape(name));
        }
        if !subresource.is_empty() {
            path.push('/');
            path.push_str(subresource);
        }
        path
    }

    async fn patch_path(&self, path: &str, patch: &Patch) -> Result<Arc<K>, ClientError> {
        let (content_type, value) = match patch {
            Patch::Json(value) => ("application/json-patch+json", value),
            Patch::Merge(value) => ("application/merge-patch+json", value),
            Patch::Strategic(value) => ("application/strategic-merge-patch+json", value),
        };
        self.written(Method::PATCH, path, content_type, encode(path, value)?).await
    }

    async fn send(&self, method: Method, path: &str, object: &K) -> Result<Arc<K>, ClientError> {
        let content = encode(path, object)?;
        self.written(method, path, "application/json", content).await
    }

    /// The object that a write has made: where the server shares the process, the very one that informers will keep.
    async fn written(&self, method: Method, path: &str, content_type: &str, body: Bytes) -> Result<Arc<K>, ClientError> {
        let response = self.client.open(method, path, content_type, Some(body)).await?;
        let shared = response.extensions().get::<Arc<DecodedObjects>>().cloned();
        let content = collect(response.into_body()).await?;
        match shared {
            Some(shared) => shared.get(content.trim_ascii_end()),
            None => json::parse(&content).map(Arc::new),
        }
        .map_err(|source| ClientError::Decode { what: path.into(), source: Arc::new(source) })
    }

    async fn request<R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<Bytes>,
    ) -> Result<R, ClientError> {
        let content = self.client.json(method, path, content_type, body).await?;
        decode(path, &content)
    }
}

impl ListOptions {
    fn to_query(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        if !self.label_selector.is_empty() {
            query.push(("labelSelector", self.label_selector.clone()));
        }
        if !self.field_selector.is_empty() {
            query.push(("fieldSelector", self.field_selector.clone()));
        }
        if let Some(limit) = self.limit {
            query.push(("limit", limit.to_string()));
        }
        if let Some(token) = &self.continue_token {
            query.push(("continue", token.clone()));
        }
        if let Some(version) = &self.resource_version {
            query.push(("resourceVersion", version.clone()));
        }
        query
    }
}

/// What is escaped in a path or query: all but letters, digits, and what else names are made of.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b':');

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

fn encode<T: Serialize>(what: &str, value: &T) -> Result<Bytes, ClientError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|source| ClientError::Decode { what: what.into(), source: Arc::new(source) })
}

fn decode<T: DeserializeOwned>(what: &str, content: &[u8]) -> Result<T, ClientError> {
    json::parse(content).map_err(|source| ClientError::Decode { what: what.into(), source: Arc::new(source) })
}

async fn collect(body: Body) -> Result<Bytes, TransportError> {
    body.collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| TransportError(format!("response broke off: {error}")))
}

fn to_api_error(status: http::StatusCode, content: &[u8]) -> ApiError {
    match serde_json::from_slice::<Status>(content) {
        Ok(status) if status.status.as_deref() == Some("Failure") => ApiError::from_status(status),
        _ => ApiError::new(status.as_u16(), "", String::from_utf8_lossy(content).trim().to_owned()),
    }
}
