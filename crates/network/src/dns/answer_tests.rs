//! Questions and answers.

use std::str::FromStr;

use serde_json::{Value, json};

use super::*;
use crate::test_objects::object;

struct Fixed {
    services: Vec<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
}

impl Directory for Fixed {
    fn has_namespace(&self, name: &str) -> bool {
        ["default", "kube-system"].contains(&name)
    }
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.iter().find(|service| service.namespace() == namespace && service.name() == name).cloned()
    }
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<EndpointSlice>> {
        let of = |slice: &&Arc<EndpointSlice>| {
            slice.namespace() == namespace && slice.label("kubernetes.io/service-name") == Some(service)
        };
        self.slices.iter().filter(of).cloned().collect()
    }
    fn services_at(&self, address: IpAddr) -> Vec<Arc<Service>> {
        self.services.iter().filter(|service| cluster_addresses(service).contains(&address)).cloned().collect()
    }
    fn slices_at(&self, address: IpAddr) -> Vec<Arc<EndpointSlice>> {
        let has = |slice: &&Arc<EndpointSlice>| {
            slice.endpoints.iter().flatten().any(|endpoint| addresses_of(endpoint).any(|found| found == address))
        };
        self.slices.iter().filter(has).cloned().collect()
    }
}

fn fixed() -> Fixed {
    let service = |namespace: &str, name: &str, spec: Value| {
        object::<Service>(json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec}))
    };
    let port = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    Fixed {
        services: vec![
            service("default", "web", json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ports": port})),
            service("default", "db", json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": port})),
            service("default", "empty", json!({"clusterIP": "None", "ports": port})),
            service("default", "out", json!({"type": "ExternalName", "externalName": "example.com"})),
            service(
                "kube-system",
                "kube-dns",
                json!({"clusterIP": "10.96.0.10", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}),
            ),
        ],
        slices: vec![object(json!({
            "metadata": {"name": "db-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.1.2"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.244.1.3"], "conditions": {}},
                {"addresses": ["10.244.1.4"], "conditions": {"ready": false}}
            ]
        }))],
    }
}

#[track_caller]
fn check(name: &str, kind: RecordType, expected: &[&str]) {
    let zone = Zone {
        domain: Name::from_str("cluster.local.").expect("a name"),
        own_service: ("kube-system".into(), "kube-dns".into()),
        serial: 7,
    };
    let name = Name::from_str(name).expect("a name");
    let show = |record: &Record| format!("{} {}", record.record_type(), record.data);
    let shown: Vec<String> = match zone.answer(&fixed(), &name, kind) {
        Answer::Records(answers, additional) => {
            assert!(answers.iter().all(|record| record.name == name && record.ttl == TTL));
            answers.iter().map(show).chain(additional.iter().map(|record| format!("+{} {}", record.name, show(record)))).collect()
        }
        Answer::Alias(record, _) => vec![show(&record)],
        other => vec![format!("{other:?}")],
    };
    assert_eq!(shown, expected, "{name} {kind}");
}

#[test]
fn services() {
    use RecordType::{A, AAAA, MX, SRV};
    check("web.default.svc.cluster.local.", A, &["A 10.96.0.5"]);
    check("WEB.Default.svc.CLUSTER.local.", A, &["A 10.96.0.5"]);
    check("web.default.svc.cluster.local.", AAAA, &["NoData"]);
    check("web.default.svc.cluster.local.", MX, &["NoData"]);
    check("nix.default.svc.cluster.local.", A, &["NoName"]);
    check("web.other.svc.cluster.local.", A, &["NoName"]);
    let server = ["SRV 0 100 80 web.default.svc.cluster.local.", "+web.default.svc.cluster.local. A 10.96.0.5"];
    check("_http._tcp.web.default.svc.cluster.local.", SRV, &server);
    check("web.default.svc.cluster.local.", SRV, &server);
    check("_http._udp.web.default.svc.cluster.local.", SRV, &["NoName"]);
    check("http.tcp.web.default.svc.cluster.local.", SRV, &["NoName"]);
}

#[test]
fn headless_services() {
    use RecordType::{A, SRV};
    check("db.default.svc.cluster.local.", A, &["A 10.244.1.2", "A 10.244.1.3"]);
    check("db-0.db.default.svc.cluster.local.", A, &["A 10.244.1.2"]);
    check("10-244-1-3.db.default.svc.cluster.local.", A, &["A 10.244.1.3"]);
    check("10-244-1-4.db.default.svc.cluster.local.", A, &["NoName"]);
    check("empty.default.svc.cluster.local.", A, &["NoName"]);
    check(
        "_http._tcp.db.default.svc.cluster.local.",
        SRV,
        &[
            "SRV 0 50 8080 10-244-1-3.db.default.svc.cluster.local.",
            "SRV 0 50 8080 db-0.db.default.svc.cluster.local.",
            "+10-244-1-3.db.default.svc.cluster.local. A 10.244.1.3",
            "+db-0.db.default.svc.cluster.local. A 10.244.1.2",
        ],
    );
}

#[test]
fn other_names() {
    use RecordType::{A, CNAME, NS, PTR, SOA, TXT};
    check("out.default.svc.cluster.local.", A, &["CNAME example.com."]);
    check("out.default.svc.cluster.local.", CNAME, &["CNAME example.com."]);
    check("10-244-9-9.default.pod.cluster.local.", A, &["A 10.244.9.9"]);
    check("10-244-9.default.pod.cluster.local.", A, &["NoName"]);
    check("10-244-9-9.other.pod.cluster.local.", A, &["NoName"]);
    check("default.svc.cluster.local.", A, &["NoData"]);
    check("other.svc.cluster.local.", A, &["NoName"]);
    check("svc.cluster.local.", A, &["NoData"]);
    check("web.cluster.local.", A, &["NoName"]);
    check("cluster.local.", A, &["NoData"]);
    check("cluster.local.", SOA, &["SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 30"]);
    check("cluster.local.", NS, &["NS ns.dns.cluster.local.", "+ns.dns.cluster.local. A 10.96.0.10"]);
    check("dns-version.cluster.local.", TXT, &["TXT 1.1.0"]);
    check("5.0.96.10.in-addr.arpa.", PTR, &["PTR web.default.svc.cluster.local."]);
    check("2.1.244.10.in-addr.arpa.", PTR, &["PTR db-0.db.default.svc.cluster.local."]);
    check("3.1.244.10.in-addr.arpa.", PTR, &["Elsewhere"]);
    check("1.0.168.192.in-addr.arpa.", PTR, &["Elsewhere"]);
    check("example.com.", A, &["Elsewhere"]);
}
