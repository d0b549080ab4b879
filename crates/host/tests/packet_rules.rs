//! The nf_tables encoder against a real kernel: what is sent is accepted, and the `nft` program (where
//! there is one) reads it back as it was meant.

#[path = "network/namespace.rs"]
mod namespace;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use daruma_host::packet_rules::NfTables;
use daruma_world::packet_rules::{
    Base, Chain, ChainKind, Change, Field, Hook, Is, PacketRules, Protocol, Rejection, Set, SetKind, Statement as S, Table,
    Value, Verdict,
};
use namespace::Namespace;

const fn base(kind: ChainKind, hook: Hook, priority: i32) -> Base {
    Base { kind, hook, priority }
}

fn everything() -> Table {
    let subnet = "10.244.0.0/16".parse().expect("a prefix");
    let goto = |chain: &str| Verdict::Goto(chain.to_owned());
    let key = vec![Value::Address(Ipv4Addr::new(10, 96, 0, 1)), Value::Protocol(Protocol::Tcp), Value::Port(443)];
    let triple = [Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
    let mut services = Set::new(SetKind::Verdicts, &triple);
    services.elements.insert(key, Some(goto("service")));
    let mut ports = Set::new(SetKind::Plain, &[Field::DestinationPort]);
    ports.elements.insert(vec![Value::Port(80)], None);
    let recent = Set::new(SetKind::Recent(Duration::from_secs(10_800)), &[Field::SourceAddress]);
    let ip = Ipv4Addr::new(10, 244, 1, 2);
    let chain = |base, rules| Chain { base, rules };
    let chains = [
        (
            "service",
            chain(
                None,
                vec![
                    vec![S::Source(Is::NotIn, subnet), S::SetMark { mask: 0x4000 }],
                    vec![
                        S::Lookup { fields: vec![Field::SourceAddress], is: Is::In, set: "recent".into() },
                        S::Verdict(goto("end")),
                    ],
                    vec![S::DispatchRandom(vec![goto("end"), goto("end")])],
                ],
            ),
        ),
        (
            "end",
            chain(
                None,
                vec![
                    vec![S::Remember { field: Field::SourceAddress, set: "recent".into() }],
                    vec![S::Protocol(Protocol::Tcp), S::TranslateDestination(vec![(ip, 80)])],
                    vec![S::Protocol(Protocol::Udp), S::TranslateDestination(vec![(ip, 53), (ip, 54)])],
                ],
            ),
        ),
        (
            "prerouting",
            chain(
                Some(base(ChainKind::Nat, Hook::Prerouting, -100)),
                vec![
                    vec![S::Dispatch { fields: triple.to_vec(), map: "services".into() }],
                    vec![S::DestinationIsLocal, S::Destination(Is::NotIn, "127.0.0.0/8".parse().expect("a prefix")), S::Counter],
                    vec![S::InputLink("eth0".into()), S::SourceIsLocal, S::Verdict(Verdict::Return)],
                ],
            ),
        ),
        (
            "postrouting",
            chain(
                Some(base(ChainKind::Nat, Hook::Postrouting, 100)),
                vec![
                    vec![S::Marked { mask: 0x4000 }, S::InvertMark { mask: 0x4000 }, S::Masquerade],
                    vec![S::WasDestinationTranslated, S::OutputLink("eth1".into()), S::Masquerade],
                ],
            ),
        ),
        (
            "forward",
            chain(
                Some(base(ChainKind::Filter, Hook::Forward, 0)),
                vec![
                    vec![
                        S::NewConnection,
                        S::Lookup { fields: vec![Field::DestinationPort], is: Is::NotIn, set: "ports".into() },
                        S::Protocol(Protocol::Tcp),
                        S::Reject(Rejection::TcpReset),
                    ],
                    vec![S::Reject(Rejection::PortUnreachable)],
                    vec![S::Verdict(Verdict::Drop)],
                ],
            ),
        ),
    ];
    Table {
        chains: chains.into_iter().map(|(name, chain)| (name.to_owned(), chain)).collect(),
        sets: BTreeMap::from([("services".into(), services), ("ports".into(), ports), ("recent".into(), recent)]),
    }
}

const LISTING: &[&str] = &[
    "10.96.0.1 . tcp . 443 : goto service",
    "ip saddr != 10.244.0.0/16 meta mark set meta mark | 0x00004000",
    "ip saddr @recent goto end",
    "numgen random mod 2 vmap { 0 : goto end, 1 : goto end }",
    "update @recent { ip saddr }",
    "meta l4proto tcp dnat to 10.244.1.2:80",
    "dnat ip to numgen random mod 2 map { 0 : 10.244.1.2 . 53, 1 : 10.244.1.2 . 54 }",
    "ip daddr . meta l4proto . th dport vmap @services",
    "fib daddr type local ip daddr != 127.0.0.0/8 counter packets 0 bytes 0",
    "iifname \"eth0\" fib saddr type local return",
    "masquerade fully-random",
    "ct status dnat oifname \"eth1\" masquerade fully-random",
    "ct state new th dport != @ports",
    "reject with tcp reset",
    "timeout 3h",
];

#[tokio::test]
async fn the_kernel_takes_the_whole_vocabulary() {
    let Some(namespace) = Namespace::new() else {
        eprintln!("skipped: needs root");
        return;
    };
    let rules = NfTables::inside(namespace.path.clone());
    assert_eq!(rules.table_identity("t").await.expect("asked"), None);
    let table = everything();
    rules.replace_table("t", table.clone()).await.expect("accepted");
    let first = rules.table_identity("t").await.expect("asked");
    assert!(first.is_some());
    if let Some(listing) = namespace.nft().await {
        for line in LISTING {
            assert!(listing.contains(line), "{line:?} is missing in:\n{listing}");
        }
    }
    rules.replace_table("t", table.clone()).await.expect("accepted again");
    assert_ne!(rules.table_identity("t").await.expect("asked"), first, "a new table");

    // A change: a chain and an element go, others come; then the leftovers.
    let mut wanted = table.clone();
    wanted.chains.remove("service");
    wanted.sets.get_mut("services").expect("is there").elements.values_mut().for_each(|verdict| {
        *verdict = Some(Verdict::Goto("other".into()));
    });
    wanted.chains.insert("other".into(), Chain { base: None, rules: vec![vec![S::Verdict(Verdict::Drop)]] });
    let difference = table.difference(&wanted).expect("alike");
    rules.change_table("t", difference.changes).await.expect("accepted");
    let cleanup = difference.stale_chains.into_iter().map(|name| Change::DeleteChain { name }).collect();
    rules.change_table("t", cleanup).await.expect("the stale chain goes");
    if let Some(listing) = namespace.nft().await {
        assert!(listing.contains("443 : goto other") && !listing.contains("chain service"), "{listing}");
    }

    // All or nothing: a batch that fails leaves everything as it was.
    let bad = vec![
        Change::AddChain { name: "half".into(), base: None },
        Change::ReplaceRules { chain: "missing".into(), rules: vec![vec![S::Verdict(Verdict::Jump("nowhere".into()))]] },
    ];
    assert!(rules.change_table("t", bad).await.is_err());
    if let Some(listing) = namespace.nft().await {
        assert!(!listing.contains("chain half"), "{listing}");
    }
    rules.delete_table("t").await.expect("deleted");
    rules.delete_table("t").await.expect("deleted again");
    assert_eq!(rules.table_identity("t").await.expect("asked"), None);
}

#[tokio::test]
async fn large_tables_are_one_step() {
    let Some(namespace) = Namespace::new() else {
        eprintln!("skipped: needs root");
        return;
    };
    let rules = NfTables::inside(namespace.path.clone());
    let triple = [Field::DestinationAddress, Field::Protocol, Field::DestinationPort];
    let mut services = Set::new(SetKind::Verdicts, &triple);
    let mut chains = BTreeMap::new();
    for number in 0..1000u16 {
        let name = format!("service-{number:05}-default/some-service/tcp/http");
        let [high, low] = number.to_be_bytes();
        let targets = (1..4).map(|last| (Ipv4Addr::new(10, 244, last, low), 8080)).collect();
        let rule = vec![S::Protocol(Protocol::Tcp), S::TranslateDestination(targets)];
        chains.insert(name.clone(), Chain { base: None, rules: vec![rule] });
        let key = vec![Value::Address(Ipv4Addr::new(10, 96, high, low)), Value::Protocol(Protocol::Tcp), Value::Port(80)];
        services.elements.insert(key, Some(Verdict::Goto(name)));
    }
    let dispatch = vec![S::Dispatch { fields: triple.to_vec(), map: "services".into() }];
    chains.insert("prerouting".into(), Chain { base: Some(base(ChainKind::Nat, Hook::Prerouting, -100)), rules: vec![dispatch] });
    let table = Table { chains, sets: BTreeMap::from([("services".into(), services)]) };
    rules.replace_table("t", table.clone()).await.expect("accepted");
    let mut changed = table.clone();
    let name = "service-00007-default/some-service/tcp/http";
    changed.chains.get_mut(name).expect("is there").rules =
        vec![vec![S::Protocol(Protocol::Tcp), S::TranslateDestination(vec![(Ipv4Addr::new(10, 244, 9, 9), 80)])]];
    let difference = table.difference(&changed).expect("alike");
    assert_eq!(difference.changes.len(), 1);
    rules.change_table("t", difference.changes).await.expect("accepted");
}
