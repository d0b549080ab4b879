//! How soon a node is Ready again after a long silence, whoever was silent.

use std::time::Duration;

use daruma_api::coordination::v1::Lease;
use daruma_api::core::v1::Node;
use daruma_client::Client;
use daruma_rehearsal::{Options, VirtualCluster};
use daruma_world::machines::{LinkEffect, LinkFault, Machines};

const SECOND: Duration = Duration::from_secs(1);
const NODE: &str = "worker-1";
/// A lease is renewed every 10 s, a connection attempt given up after 10 s; both do not come together.
const LIMIT: Duration = Duration::from_secs(12);

/// A silence and its end.
#[derive(Debug, Clone, Copy)]
enum Harm {
    HangWorker,
    CutCable,
}

impl Harm {
    async fn begin(self, machines: &dyn Machines) {
        match self {
            Self::HangWorker => machines.hang(NODE).await,
            Self::CutCable => machines.set_link_faults(cut()).await,
        }
        .expect("it is harmed");
    }

    async fn end(self, machines: &dyn Machines) {
        match self {
            Self::HangWorker => machines.resume(NODE).await,
            Self::CutCable => machines.set_link_faults(vec![]).await,
        }
        .expect("it is mended");
    }
}

/// Both ways.
fn cut() -> Vec<LinkFault> {
    let node = || Some([NODE.to_owned()].into());
    [(node(), None), (None, node())].map(|(from, to)| LinkFault { from, to, effect: LinkEffect::Cut }).into()
}

async fn ready(client: &Client) -> bool {
    let Ok(node) = client.cluster::<Node>().get(NODE).await else { return false };
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// When the node's lease was renewed last; `None` where nobody answers.
async fn renewed(client: &Client) -> Option<String> {
    let asked = client.world().timeout(SECOND, client.namespaced::<Lease>("kube-node-lease").get(NODE)).await;
    let lease = asked.ok()?.ok()?;
    Some(format!("{:?}", lease.spec?.renew_time?.0))
}

/// From the end of so long a silence until the node is Ready and its lease renewed.
fn recovery(harm: Harm, away: Duration, seed: u64) -> Duration {
    let cluster = VirtualCluster::start(Options { seed, ..Options::default() }).expect("a cluster");
    let (client, world, machines) = (cluster.client(), cluster.world(), cluster.machines());
    let took = cluster.run(async {
        cluster.wait_ready().await.expect("every node is Ready");
        harm.begin(&*machines).await;
        world.sleep(away).await;
        assert!(!ready(&client).await, "{harm:?} for {away:?}: nothing was noticed");
        let last = renewed(&client).await;
        harm.end(&*machines).await;
        let mended = world.monotonic();
        while !ready(&client).await || renewed(&client).await == last {
            assert!(world.monotonic() < mended + 100 * SECOND, "{harm:?} for {away:?}: never heard of again");
            world.sleep(SECOND / 10).await;
        }
        world.monotonic().saturating_sub(mended)
    });
    let violations = cluster.stop();
    assert!(violations.is_empty(), "{violations:#?}");
    took
}

#[test]
fn a_node_is_ready_soon_after_a_long_silence() {
    for harm in [Harm::HangWorker, Harm::CutCable] {
        let all: Vec<Duration> = [(70, 1), (130, 2)].map(|(away, seed)| recovery(harm, away * SECOND, seed)).into();
        eprintln!("{harm:?}: Ready after {all:?}");
        assert!(all.iter().all(|took| *took < LIMIT), "{harm:?}: {all:?}");
    }
}
