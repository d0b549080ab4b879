//! A server in a simulated world and short ways to ask it.

use std::sync::Arc;

use daruma_apiserver::{ApiServer, ApiServerConfig};
use daruma_client::{Body, Transport, empty_body, full_body};
use daruma_store::embedded::{EmbeddedStore, MemoryBackend, Options};
use daruma_world::World;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::Value;

/// A server that is ready, and a caller that may do everything.
pub struct Cluster {
    pub world: World,
    pub server: Arc<ApiServer>,
    pub admin: Caller,
}

/// Somebody who asks, and who waits after each write until the server's own caches (of roles, of namespaces) have seen it:
/// which task runs first is a matter of chance.
#[derive(Clone)]
pub struct Caller {
    transport: Arc<dyn Transport>,
    server: Arc<ApiServer>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub json: Value,
    pub text: String,
}

impl Answer {
    /// The message of a `Status`.
    pub fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }

    /// The text at a JSON pointer.
    pub fn at(&self, pointer: &str) -> &str {
        self.json.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `manager operation subresource fields` of each entry of `managedFields`.
    pub fn owners(&self) -> Vec<String> {
        let entries = self.json["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let shown = |entry: &Value| {
            let names = [text(entry, "manager"), text(entry, "operation"), text(entry, "subresource")];
            format!("{} {}", names.join(" "), entry["fieldsV1"])
        };
        entries.iter().map(shown).collect()
    }

    /// Checks the HTTP status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

impl Caller {
    fn new(server: &Arc<ApiServer>, user: &str, groups: &[&str]) -> Self {
        Self { transport: server.loopback(user, groups), server: server.clone() }
    }

    /// Sends a request; `body` as JSON of the given media type.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Answer {
        self.send_body(method, path, headers, body.map_or_else(empty_body, |body| full_body(body.to_string()))).await
    }

    /// The same with a body of any kind.
    pub async fn send_body(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut builder = Request::builder().method(method).uri(path);
        for (key, value) in headers {
            builder = builder.header(*key, *value);
        }
        let response = self.transport.call(builder.body(body).expect("a request")).await.expect("in process");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        if method != "GET" {
            self.server.feed.wait_until_current().await.expect("the store is watched");
        }
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status: parts.status.as_u16(), headers: parts.headers, json, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None).await
    }
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], Some(body)).await
    }
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[], Some(body)).await
    }
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &[("content-type", &format!("application/{kind}+json"))], Some(body)).await
    }
    /// Applies as `manager`, which may carry further query parameters.
    pub async fn apply(&self, path: &str, manager: &str, object: &Value) -> Answer {
        let path = format!("{path}?fieldManager={manager}");
        self.send("PATCH", &path, &[("content-type", "application/apply-patch+yaml")], Some(object)).await
    }
    pub async fn delete(&self, path: &str, options: &Value) -> Answer {
        self.send("DELETE", path, &[], Some(options)).await
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> Watch {
        let request = Request::builder().uri(path).body(empty_body()).expect("a request");
        let response = self.transport.call(request).await.expect("in process");
        assert_eq!(response.status(), 200);
        Watch(response.into_body())
    }
}

/// An open watch.
pub struct Watch(Body);

impl Watch {
    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let frame = self.0.frame().await?.expect("a frame");
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Some(serde_json::from_slice(&data).expect("one event a frame"));
            }
        }
    }

    /// The next event as `TYPE name`.
    pub async fn line(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let name = event.pointer("/object/metadata/name").and_then(Value::as_str).unwrap_or("-");
        format!("{} {name}", event["type"].as_str().unwrap_or_default())
    }
}

/// Runs a test against a server that is ready.
pub fn test<F, W>(test: F)
where
    F: FnOnce(Cluster) -> W,
    W: Future<Output = ()>,
{
    test_with(|_| {}, test);
}

/// The same with other settings.
pub fn test_with<F, W>(change: impl FnOnce(&mut ApiServerConfig), test: F)
where
    F: FnOnce(Cluster) -> W,
    W: Future<Output = ()>,
{
    daruma_sim::run(1, |world| async move {
        let store =
            EmbeddedStore::open(&world, Arc::new(MemoryBackend::new()), Options::default()).await.expect("an empty store");
        let mut config = ApiServerConfig { advertise_address: [10, 88, 0, 10].into(), ..ApiServerConfig::default() };
        change(&mut config);
        let server = ApiServer::new(&world, store, config);
        let admin = Caller::new(&server, "admin", &["system:masters"]);
        while admin.get("/readyz").await.status != 200 {
            world.sleep(std::time::Duration::from_millis(5)).await;
        }
        test(Cluster { world, server, admin }).await;
    });
}

impl Cluster {
    /// An administrator of a second server on the same store.
    pub async fn another_server(&self) -> Caller {
        let server = ApiServer::new(&self.world, self.server.store.clone(), self.server.config.clone());
        let admin = Caller::new(&server, "admin", &["system:masters"]);
        while admin.get("/readyz").await.status != 200 {
            self.world.sleep(std::time::Duration::from_millis(5)).await;
        }
        admin
    }

    /// Somebody else.
    pub fn caller(&self, user: &str, groups: &[&str]) -> Caller {
        Caller::new(&self.server, user, groups)
    }

    /// Makes a namespace with its default account.
    pub async fn namespace(&self, name: &str) {
        if name != "default" {
            let body = serde_json::json!({"metadata": {"name": name}});
            self.admin.post("/api/v1/namespaces", &body).await.expect(201);
        }
        let body = serde_json::json!({"metadata": {"name": "default"}});
        self.admin.post(&format!("/api/v1/namespaces/{name}/serviceaccounts"), &body).await.expect(201);
    }
}

/// A small pod.
pub fn pod(name: &str) -> Value {
    serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}
