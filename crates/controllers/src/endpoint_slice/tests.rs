//! Slices for services and pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use daruma_api::IntOrString;
use daruma_api::core::v1::{Node, Pod, Service, ServicePort, ServiceSpec};
use daruma_api::discovery::v1::EndpointSlice;
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;

use super::plan::{HEADLESS, Plan, SERVICE_NAME, Seen, TRIGGER_TIME, plan};
use crate::daemon_set::nodes::tests::node;
use crate::pods::tests::{at, pod};
use crate::pods::wire_time;

fn service(cluster_ip: &str) -> Service {
    Service {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some("uid-web".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some(cluster_ip.to_owned()),
            ip_families: Some(vec!["IPv4".to_owned()]),
            selector: Some(BTreeMap::from([("app".to_owned(), "web".to_owned())])),
            ports: Some(vec![ServicePort { port: 80, target_port: Some(IntOrString::Int(8080)), ..ServicePort::default() }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn addressed(name: &str, ip: &str, ready: Option<i64>) -> Arc<Pod> {
    let mut pod = pod(name, "n", ready);
    pod.status.as_mut().expect("built").pod_ip = Some(ip.to_owned());
    Arc::new(pod)
}

fn decide(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>], limit: usize) -> Plan {
    let known = |name: &str| (name == "n").then(|| Arc::new(node("n", &[]))) as Option<Arc<Node>>;
    plan(&Seen { service, pods, slices, node: &known, limit, trigger: Some(at(7)) })
}

/// What the server would have stored.
fn stored(mut slice: EndpointSlice, name: &str) -> Arc<EndpointSlice> {
    slice.metadata.name.get_or_insert_with(|| name.to_owned());
    slice.metadata.uid.get_or_insert_with(|| format!("uid-{name}"));
    Arc::new(slice)
}

#[test]
fn a_service_without_pods_has_an_empty_slice_that_is_used_later() {
    let service = service("10.96.0.9");
    let first = decide(&service, &[], &[], 100);
    assert_eq!(first.create.len(), 1);
    let slice = stored(first.create[0].clone(), "web-abc");
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
    assert_eq!(slice.label(SERVICE_NAME), Some("web"));
    assert_eq!(slice.annotation(TRIGGER_TIME), Some("1970-01-01T00:00:07Z"));
    assert_eq!(decide(&service, &[], std::slice::from_ref(&slice), 100), Plan::default());
    let filled = decide(&service, &[addressed("a", "10.0.0.1", Some(1))], &[slice], 100);
    assert!(filled.create.is_empty() && filled.delete.is_empty());
    assert_eq!(filled.update[0].name(), "web-abc");
    assert_eq!(filled.update[0].ports.as_ref().expect("set")[0].port, Some(8080));
}

#[test]
fn conditions_follow_the_pod() {
    let service = service("None");
    let mut leaving = addressed("c", "10.0.0.3", Some(1)).as_ref().clone();
    leaving.metadata.deletion_timestamp = Some(wire_time(at(5)));
    let pods = [addressed("a", "10.0.0.1", Some(1)), addressed("b", "10.0.0.2", None), Arc::new(leaving)];
    let plan = decide(&service, &pods, &[], 100);
    let slice = &plan.create[0];
    assert_eq!(slice.label(HEADLESS), Some(""));
    let conditions: Vec<_> = slice
        .endpoints
        .iter()
        .flatten()
        .map(|endpoint| {
            let conditions = endpoint.conditions.as_ref().expect("set");
            (conditions.ready, conditions.serving, conditions.terminating)
        })
        .collect();
    let yes = Some(true);
    let no = Some(false);
    assert_eq!(conditions, [(yes, yes, no), (no, no, no), (no, yes, yes)]);
    assert_eq!(slice.endpoints.as_ref().expect("set")[0].node_name.as_deref(), Some("n"));
}

#[test]
fn slices_are_filled_and_touched_as_little_as_possible() {
    let service = service("10.96.0.9");
    let pods: Vec<Arc<Pod>> =
        (1..=5).map(|number| addressed(&format!("p{number}"), &format!("10.0.0.{number}"), Some(1))).collect();
    let first = decide(&service, &pods, &[], 2);
    let sizes: Vec<usize> = first.create.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
    assert_eq!(sizes, [2, 2, 1]);
    let slices: Vec<_> =
        first.create.into_iter().enumerate().map(|(number, slice)| stored(slice, &format!("web-{number}"))).collect();
    assert_eq!(decide(&service, &pods, &slices, 2), Plan::default());
    // A new pod goes to the slice with room; the others are left alone.
    let mut more = pods.clone();
    more.push(addressed("p6", "10.0.0.6", Some(1)));
    let plan = decide(&service, &more, &slices, 2);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0));
    assert_eq!(plan.update[0].name(), "web-2");
    // The last pod of a slice takes it along.
    let plan = decide(&service, &pods[..4], &slices, 2);
    assert_eq!((plan.create.len(), plan.update.len()), (0, 0));
    assert_eq!(plan.delete[0].name(), "web-2");
}

#[test]
fn pods_on_unknown_nodes_wait() {
    let mut lost = pod("a", "elsewhere", Some(1));
    lost.status.as_mut().expect("built").pod_ip = Some("10.0.0.1".to_owned());
    let plan = decide(&service("10.96.0.9"), &[Arc::new(lost)], &[], 100);
    assert!(plan.incomplete);
    assert!(plan.create[0].endpoints.as_ref().is_some_and(Vec::is_empty));
}

#[test]
fn pods_of_the_service_s_own_domain_have_a_name_in_it() {
    let hostname_of = |hostname: &str, subdomain: &str| {
        let mut named = addressed("db-0", "10.0.0.1", Some(1)).as_ref().clone();
        let spec = named.spec.as_mut().expect("built");
        (spec.hostname, spec.subdomain) = (Some(hostname.to_owned()), Some(subdomain.to_owned()));
        let plan = decide(&service("None"), &[Arc::new(named)], &[], 100);
        plan.create[0].endpoints.as_ref().expect("set")[0].hostname.clone()
    };
    assert_eq!(hostname_of("db-0", "web").as_deref(), Some("db-0"));
    assert_eq!(hostname_of("db-0", "other"), None);
}
