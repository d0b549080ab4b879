//! The informer against a server that breaks off, forgets, falls silent and goes away.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake_server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_api::core::v1::ConfigMap;
use daruma_api::meta::ObjectExt;
use daruma_client::ListOptions;
use daruma_client::informer::{Delta, Informer};
use daruma_world::World;
use fake_server::FakeServer;
use serde_json::{Value, json};

const LIST_ANY: &str = "GET /api/v1/configmaps?resourceVersion=0";

fn watch_from(version: u64) -> String {
    format!("GET /api/v1/configmaps?watch=true&allowWatchBookmarks=true&resourceVersion={version}")
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/ns/configmaps/{name}")
}

fn config_map(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ns", "uid": uid}})
}

/// An informer with an index by UID, and what it has told.
struct Bench {
    server: FakeServer,
    informer: Informer<ConfigMap>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new(world: &World, server: FakeServer) -> Self {
        let informer = Informer::<ConfigMap>::new(server.client(world).all(), ListOptions::default());
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = told.clone();
        informer.add_index("uid", |object| vec![object.uid().to_owned()]);
        informer.on_delta(move |delta| {
            let what = match delta {
                Delta::Added(_) => "added",
                Delta::Updated(..) => "updated",
                Delta::Deleted(_) => "deleted",
            };
            lines.lock().unwrap().push(format!("{what} {} {}", delta.object().name(), delta.object().uid()));
        });
        Self { server, informer, told }
    }

    #[track_caller]
    fn check(&self, told: &[&str], requests: &[String]) {
        assert_eq!(std::mem::take(&mut *self.told.lock().unwrap()), told);
        assert_eq!(self.server.take_requests(), requests);
        let uids = self.server.objects().into_iter().map(|object| object["metadata"]["uid"].as_str().unwrap().to_owned());
        for uid in uids.clone() {
            assert_eq!(self.informer.by_index("uid", &uid).len(), 1, "index of {uid}");
        }
        let copy: Vec<String> = self.informer.list().iter().map(|object| object.uid().to_owned()).collect();
        assert_eq!(copy, uids.collect::<Vec<_>>());
    }
}

async fn settle(world: &World) {
    world.sleep(Duration::from_millis(500)).await;
}

#[test]
fn follows_through_every_break() {
    daruma_sim::run_seeds(1, 20, |world| async move {
        let server = FakeServer::default();
        server.set(&path("a"), config_map("a", "u1"));
        let bench = Bench::new(&world, server.clone());
        bench.informer.start();
        bench.informer.wait_synced().await;
        settle(&world).await;
        bench.check(&["added a u1"], &[LIST_ANY.into(), watch_from(1)]);

        server.set(&path("b"), config_map("b", "u2"));
        server.set(&path("a"), config_map("a", "u1"));
        server.delete(&path("b"));
        settle(&world).await;
        bench.check(&["added b u2", "updated a u1", "deleted b u2"], &[]);

        // The watch breaks; what happens meanwhile is caught up without a list.
        server.set_down(true);
        server.set(&path("c"), config_map("c", "u3"));
        world.sleep(Duration::from_secs(5)).await;
        server.set_down(false);
        world.sleep(Duration::from_secs(4)).await;
        bench.check(&["added c u3"], &[watch_from(4)]);

        // The server has forgotten: a list finds what was deleted, and what was replaced.
        server.set_down(true);
        server.delete(&path("a"));
        server.delete(&path("c"));
        server.set(&path("c"), config_map("c", "u4"));
        server.compact();
        server.set_down(false);
        world.sleep(Duration::from_secs(4)).await;
        let list = "GET /api/v1/configmaps?resourceVersion=5".to_owned();
        bench.check(&["deleted c u3", "added c u4", "deleted a u1"], &[watch_from(5), list, watch_from(8)]);

        // The same as an event; and a bookmark moves the position.
        server.send_line(r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#);
        server.send_line(
            r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired","message":"too old"}}"#,
        );
        settle(&world).await;
        let list = "GET /api/v1/configmaps?resourceVersion=9".to_owned();
        bench.check(&[], &[list, watch_from(8)]);
    });
}

#[test]
fn a_watch_that_has_fallen_silent_is_given_up() {
    daruma_sim::run(1, |world| async move {
        let bench = Bench::new(&world, FakeServer::default());
        bench.informer.start();
        world.sleep(Duration::from_secs(299)).await;
        bench.check(&[], &[LIST_ANY.into(), watch_from(0)]);
        world.sleep(Duration::from_secs(332)).await;
        bench.check(&[], &[watch_from(0)]);
    });
}

#[test]
fn a_late_server_is_found_quickly_and_all_waiters_wake() {
    daruma_sim::run_seeds(1, 20, |world| async move {
        let server = FakeServer::default();
        server.set_down(true);
        let bench = Bench::new(&world, server.clone());
        bench.informer.start();
        world.sleep(Duration::from_secs(60)).await;
        assert!(!bench.informer.has_synced());
        server.set_down(false);
        let started = world.monotonic();
        futures::future::join_all((0..5).map(|_| bench.informer.wait_synced())).await;
        bench.informer.wait_synced().await;
        assert!(world.monotonic().saturating_sub(started) <= Duration::from_millis(300));
    });
}
