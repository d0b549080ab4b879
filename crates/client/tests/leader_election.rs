//! Candidates for one lease, on a server that they can lose.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake_server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daruma_client::events::EventRecorder;
use daruma_client::leader_election::{self, LeaderElectionConfig};
use daruma_world::{Task, World};
use fake_server::FakeServer;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/scheduler";

/// Starts a candidate that notes when it leads and when it has lost, in seconds.
fn candidate(world: &World, server: &FakeServer, identity: &'static str, log: &Arc<Mutex<Vec<String>>>) -> Task {
    let client = server.client(world);
    let config = LeaderElectionConfig::new("kube-system", "scheduler", identity);
    let (world2, log) = (world.clone(), log.clone());
    world.spawn("candidate", async move {
        let recorder = EventRecorder::new(&client, "scheduler", None);
        let (world3, leads) = (world2.clone(), log.clone());
        let work = move || async move {
            leads.lock().unwrap().push(format!("{identity} leads at {}", world3.monotonic().as_secs()));
            // Ends only by being dropped.
            std::future::pending::<()>().await;
        };
        let outcome = leader_election::run_with_events(client, config, Some(recorder), work).await;
        log.lock().unwrap().push(format!("{identity} {outcome:?} at {}", world2.monotonic().as_secs()));
    })
}

#[test]
fn a_dead_leader_is_followed_when_its_lease_has_run_out() {
    daruma_sim::run_seeds(1, 30, |world| async move {
        let (server, log) = (FakeServer::default(), Arc::default());
        let first = candidate(&world, &server, "one", &log);
        world.sleep(Duration::from_secs(3)).await;
        candidate(&world, &server, "two", &log);
        world.sleep(Duration::from_secs(57)).await;
        assert_eq!(*log.lock().unwrap(), ["one leads at 0"]);
        first.abort();
        world.sleep(Duration::from_secs(30)).await;
        let lines = log.lock().unwrap().clone();
        let [_, second] = &lines[..] else { panic!("{lines:?}") };
        let at: u64 = second.strip_prefix("two leads at ").unwrap().parse().unwrap();
        // The last renewal was at 58 s or later; it is seen, and then retried, up to 4.4 s later.
        assert!((73..=84).contains(&at), "{second}");
        let spec = &server.object(LEASE).unwrap()["spec"];
        assert_eq!((spec["holderIdentity"].as_str(), spec["leaseTransitions"].as_u64()), (Some("two"), Some(1)));
        assert_eq!(spec["leaseDurationSeconds"], 15);
    });
}

#[test]
fn a_leader_without_a_server_gives_up_in_time() {
    daruma_sim::run_seeds(1, 30, |world| async move {
        let (server, log) = (FakeServer::default(), Arc::default());
        candidate(&world, &server, "one", &log);
        world.sleep(Duration::from_millis(20_500)).await;
        server.set_down(true);
        world.sleep(Duration::from_secs(9)).await;
        assert_eq!(log.lock().unwrap().len(), 1);
        world.sleep(Duration::from_secs(4)).await;
        assert_eq!(*log.lock().unwrap(), ["one leads at 0", "one Lost at 32"]);
        server.set_down(false);
        world.sleep(Duration::from_secs(120)).await;
        let messages: Vec<String> = server
            .objects()
            .iter()
            .filter(|object| object["kind"] == "Event")
            .map(|event| format!("{} {}", event["reason"].as_str().unwrap(), event["message"].as_str().unwrap()))
            .collect();
        assert_eq!(messages, ["LeaderElection one became leader", "LeaderElection one stopped leading"]);
    });
}
