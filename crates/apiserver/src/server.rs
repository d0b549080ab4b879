//! The server: what a request passes through, and what its parts share.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use daruma_api::status::ApiError;
use daruma_client::{Body, Transport, TransportError};
use daruma_store::{Expect, KeyValue, Outcome, Store, Write};
use daruma_world::World;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use serde_json::Value;

use crate::aggregation::Aggregation;
use crate::authentication::{Authenticator, LoopbackIdentity};
use crate::authorization::Authorizer;
use crate::boot::Boot;
use crate::cache::Feed;
use crate::call::{Call, Warnings};
use crate::config::ApiServerConfig;
use crate::custom_resources::CustomResources;
use crate::discovery::aggregated::Discovery;
use crate::discovery::openapi::Documents;
use crate::http::{Accept, Query, RequestInfo, answer};
use crate::metrics::{Answered, Metrics};
use crate::registry::{Registry, Resource};
use crate::services::Allocator;
use crate::storage::{Item, RecentDocuments};
use crate::user::{MASTERS, User};
use crate::verbs::apply;

/// Longest time of a request that is not long-running (`RequestTimeout`).
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// The API server.
pub struct ApiServer {
    /// Time, chance and tasks.
    pub world: World,
    /// Where objects are.
    pub store: Arc<dyn Store>,
    /// Settings.
    pub config: ApiServerConfig,
    /// Resources.
    pub registry: Registry,
    /// Feeds the resources' caches.
    pub feed: Arc<Feed>,
    /// Objects that were decoded or written lately.
    pub documents: Arc<RecentDocuments>,
    /// Counters.
    pub metrics: Metrics,
    /// Who asks.
    pub authentication: Authenticator,
    /// Whether they may.
    pub authorization: Authorizer,
    /// How far the start has come.
    pub boot: Boot,
    /// Addresses and ports of services.
    pub services: Arc<Allocator>,
    /// Aggregated discovery documents.
    pub discovery: Discovery,
    /// OpenAPI documents.
    pub openapi: Documents,
    /// Extension API servers.
    pub aggregation: Aggregation,
    /// The life of custom resources.
    pub custom_resources: CustomResources,
    this: Weak<ApiServer>,
}

impl ApiServer {
    /// Makes a server and starts its tasks on `world`. It answers at once; `/readyz` tells when it is complete.
    pub fn new(world: &World, store: Arc<dyn Store>, config: ApiServerConfig) -> Arc<Self> {
        let registry = Registry::new(&config.kinds);
        let feed = Arc::new(Feed::new(world, store.clone()));
        for resource in registry.all_built_in() {
            feed.register(&resource.prefix, resource.cache.clone());
        }
        let server = Arc::new_cyclic(|this| Self {
            world: world.clone(),
            authentication: Authenticator::new(&config),
            authorization: Authorizer::new(&registry),
            store,
            registry,
            feed,
            documents: Arc::default(),
            metrics: Metrics::default(),
            boot: Boot::default(),
            discovery: Discovery::default(),
            openapi: Documents::default(),
            services: Arc::new(Allocator::new(&config)),
            aggregation: Aggregation::default(),
            custom_resources: CustomResources::default(),
            this: this.clone(),
            config,
        });
        world.spawn("apiserver feed", server.feed.clone().run());
        world.spawn("apiserver service allocation", crate::services::follow(server.clone()));
        world.spawn("apiserver aggregation", crate::aggregation::follow(server.clone()));
        world.spawn("apiserver custom resources", crate::custom_resources::follow(server.clone()));
        world.spawn("apiserver boot", crate::boot::run(server.clone()));
        server
    }

    /// Answers a request. Identity comes from its extensions and headers.
    pub fn handle(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let Some(server) = self.this.upgrade() else {
            return Box::pin(async { answer::error(&ApiError::unavailable("the server is going away")) });
        };
        Box::pin(async move { server.serve(request).await })
    }

    /// A transport into this server for `user`, without sockets.
    pub fn loopback(&self, user: &str, groups: &[&str]) -> Arc<dyn Transport> {
        let identity = LoopbackIdentity(Arc::new(User::new(user, groups.iter().copied()).authenticated()));
        Arc::new(Loopback { server: self.this.clone(), identity })
    }

    async fn serve(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let started = self.world.monotonic();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let info = Arc::new(RequestInfo::parse(request.method(), request.uri().path(), &query));
        let is_apply = info.verb == "patch" && request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == apply::MEDIA_TYPE);
        let response = match self.clone().admit(&info, query, request).await {
            Ok(response) => response,
            Err(error) => answer::error(&error),
        };
        let duration = self.world.monotonic().saturating_sub(started);
        self.metrics.answered(Answered { info: &info, is_apply, code: response.status().as_u16(), duration });
        response
    }

    async fn admit(
        self: Arc<Self>,
        info: &Arc<RequestInfo>,
        query: Query,
        request: Request<Body>,
    ) -> Result<Response<Body>, ApiError> {
        let (parts, content) = request.into_parts();
        let user = self.authentication.authenticate(&self, &parts).await?;
        let user = self.impersonate(user, &parts.headers).await?;
        let _in_flight = if info.is_long_running() || user.is_in(MASTERS) {
            None
        } else {
            let mutating = info.is_resource && !info.is_read_only();
            let limit = if mutating { self.config.max_mutating } else { self.config.max_reading };
            let begun = self.metrics.begin(mutating, limit);
            Some(begun.ok_or_else(|| ApiError::new(429, "TooManyRequests", "Too many requests, please try again later."))?)
        };
        self.authorization.check(&self, &user, info, &query).await?;
        let header = parts.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
        let accept = match header.map(Accept::parse) {
            Some(Ok(accept)) => accept,
            // Other media types are the business of what serves them (logs, proxies, OpenAPI, health).
            Some(Err(error)) if info.is_resource && info.subresource.is_empty() => return Err(error),
            None | Some(Err(_)) => Accept::JSON,
        };
        let call = Call {
            server: self.clone(),
            info: info.clone(),
            raw_path: parts.uri.path().to_owned(),
            raw_query: parts.uri.query().unwrap_or_default().to_owned(),
            query,
            user,
            accept,
            headers: parts.headers,
            method: parts.method,
            upgrade: parts.extensions.get::<hyper::upgrade::OnUpgrade>().cloned(),
            neighbours: parts.extensions.get().cloned(),
            warnings: Warnings::default(),
        };
        let routed = crate::routes::route(&call, content);
        let response = if info.is_long_running() {
            routed.await
        } else {
            match self.world.timeout(REQUEST_LIMIT, routed).await {
                Ok(result) => result,
                Err(_) => Err(ApiError::timeout("Timeout: request did not complete within the allotted timeout")),
            }
        };
        let mut response = response.unwrap_or_else(|error| answer::error(&error));
        answer::add_warnings(&mut response, &call.warnings.take());
        Ok(response)
    }

    /// Reads one object from the store.
    ///
    /// # Errors
    /// 404 where it is not there.
    pub async fn fetch(&self, resource: &Resource, namespace: &str, name: &str) -> Result<KeyValue, ApiError> {
        let found = self.store.get(&resource.key(namespace, name)).await.map_err(answer::from_store)?;
        found.ok_or_else(|| ApiError::not_found(resource.group(), resource.plural(), name))
    }

    /// Decodes what [`ApiServer::fetch`] found; what was decoded or written lately is known.
    ///
    /// # Errors
    /// 500 for bytes that do not parse.
    pub fn decode(&self, resource: &Resource, found: &KeyValue) -> Result<Arc<Value>, ApiError> {
        self.documents.get(&resource.head, &found.key, &found.value, found.mod_revision).map_err(ApiError::internal)
    }

    /// Decodes an object of the cache, as [`ApiServer::decode`] does.
    ///
    /// # Errors
    /// 500 for bytes that do not parse.
    pub fn decode_item(&self, resource: &Resource, item: &Item) -> Result<Arc<Value>, ApiError> {
        let key = [resource.prefix.as_str(), &item.key].concat();
        self.documents.get(&resource.head, &key, &item.value, item.revision).map_err(ApiError::internal)
    }

    /// Keeps an object that was encoded to `value` and written at `revision`: most objects change again soon, and
    /// `neighbours` will have to decode it.
    pub fn remember(
        &self,
        resource: &Resource,
        key: &str,
        value: &Bytes,
        revision: u64,
        object: Value,
        neighbours: Option<&daruma_client::DecodedObjects>,
    ) {
        if are_events(resource) {
            return;
        }
        let object = self.documents.written(&resource.head, key, value, revision, object);
        if let (Some(object), Some(neighbours)) = (object, neighbours) {
            let mut item = Vec::with_capacity(value.len());
            resource.head.splice_item(value, revision, &mut item);
            neighbours.offer(&item, &object);
        }
    }

    /// Writes a stored form. Events live for a while only.
    ///
    /// # Errors
    /// 500 where the store fails.
    pub async fn put(&self, resource: &Resource, key: &str, expect: Expect, value: Bytes) -> Result<Outcome, ApiError> {
        let ttl_seconds = are_events(resource).then_some(self.config.event_ttl_seconds);
        self.store.write(key, expect, Write::Put { value, ttl_seconds }).await.map_err(answer::from_store)
    }

    /// The objects of a resource as the cache has them, loaded where they are not yet; decoded.
    ///
    /// # Errors
    /// 500 where the store fails.
    pub async fn cached(&self, resource: &Resource) -> Result<crate::cache::Snapshot, ApiError> {
        self.feed.load(&resource.prefix, &resource.cache).await?;
        Ok(resource.cache.snapshot(0))
    }
}

fn are_events(resource: &Resource) -> bool {
    resource.plural() == "events" && resource.custom_kind().is_none()
}

struct Loopback {
    server: Weak<ApiServer>,
    identity: LoopbackIdentity,
}

impl Transport for Loopback {
    fn call(&self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let Some(server) = self.server.upgrade() else {
            return Box::pin(async { Err(TransportError("the API server has gone".into())) });
        };
        request.extensions_mut().insert(self.identity.clone());
        Box::pin(async move { Ok(server.handle(request).await) })
    }
}
