//! What a pod's sandbox is made from: host name, resolver, shared name spaces.
//!
//! Source: kubernetes pkg/kubelet/kuberuntime/kuberuntime_sandbox.go, pkg/kubelet/network/dns/dns.go.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use daruma_api::core::v1::{Pod, PodSpec};
use daruma_api::meta::ObjectExt;
use daruma_world::containers::{DnsConfig, SandboxConfig, SharedNamespaces};

use crate::cell::Source;
use crate::cgroups;
use crate::config::KubeletConfig;
use crate::view::keys;

/// Longest host name of the kernel.
const HOSTNAME_BYTES: usize = 63;
/// Most search domains and servers (kubernetes pkg/apis/core/validation).
const MOST_SEARCHES: usize = 32;
const MOST_SERVERS: usize = 3;

/// Host name and domain of a pod; the domain is empty where it has none.
pub fn hostname(pod: &Pod, config: &KubeletConfig) -> (String, String) {
    let Some(spec) = &pod.spec else { return (pod.name().to_owned(), String::new()) };
    if spec.host_network == Some(true) {
        return (config.node_name.clone(), String::new());
    }
    if let Some(name) = &spec.hostname_override {
        return (name.clone(), String::new());
    }
    let name = spec.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(pod.name());
    let name: String = name.chars().take(HOSTNAME_BYTES).collect();
    let name = name.trim_end_matches(['-', '.']).to_owned();
    let domain = spec
        .subdomain
        .as_deref()
        .filter(|domain| !domain.is_empty())
        .map(|domain| format!("{domain}.{}.svc.{}", pod.namespace(), config.cluster_domain))
        .unwrap_or_default();
    if spec.set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        return (format!("{name}.{domain}"), domain);
    }
    (name, domain)
}

/// Reads a `resolv.conf`.
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            Some("search") => dns.searches = words.map(|word| word.trim_end_matches('.').to_owned()).collect(),
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

/// Resolver of a pod, given the node's own.
pub fn dns(pod: &Pod, spec: &PodSpec, config: &KubeletConfig, node: DnsConfig) -> DnsConfig {
    let host_network = spec.host_network == Some(true);
    let mut dns = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => DnsConfig::default(),
        "Default" => node,
        "ClusterFirst" if host_network => node,
        _ if config.cluster_dns.is_empty() => node,
        _ => {
            let domain = &config.cluster_domain;
            let mut searches = vec![format!("{}.svc.{domain}", pod.namespace()), format!("svc.{domain}"), domain.clone()];
            searches.extend(node.searches);
            DnsConfig { servers: config.cluster_dns.clone(), searches, options: vec!["ndots:5".into()] }
        }
    };
    if let Some(extra) = &spec.dns_config {
        dns.servers.extend(extra.nameservers.iter().flatten().cloned());
        dns.searches.extend(extra.searches.iter().flatten().cloned());
        for option in extra.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            dns.options.retain(|known| known != name && !known.starts_with(&format!("{name}:")));
            dns.options.push(
                option.value.as_ref().filter(|value| !value.is_empty()).map_or(name.clone(), |value| format!("{name}:{value}")),
            );
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    dns.searches.retain(|domain| seen.insert(domain.clone()));
    let mut seen = std::collections::BTreeSet::new();
    dns.servers.retain(|server| seen.insert(server.clone()));
    dns.servers.truncate(MOST_SERVERS);
    dns.searches.truncate(MOST_SEARCHES);
    dns
}

/// The sandbox to be made.
pub fn sandbox_config(
    pod: &Pod,
    spec: &PodSpec,
    config: &KubeletConfig,
    source: Source,
    attempt: u32,
    dns: DnsConfig,
) -> SandboxConfig {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.insert(keys::POD_NAME.into(), pod.name().into());
    labels.insert(keys::POD_NAMESPACE.into(), pod.namespace().into());
    labels.insert(keys::POD_UID.into(), pod.uid().into());
    let mut annotations = BTreeMap::from([(keys::SOURCE.to_owned(), source.as_str().to_owned())]);
    if let Some(grace) = spec.termination_grace_period_seconds {
        annotations.insert(keys::POD_GRACE.into(), grace.to_string());
    }
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    SandboxConfig {
        name: pod.name().into(),
        namespace: pod.namespace().into(),
        uid: pod.uid().into(),
        attempt,
        hostname: hostname(pod, config).0,
        log_directory: config.pod_log_dir(pod.namespace(), pod.name(), pod.uid()),
        dns,
        shared: SharedNamespaces {
            network: spec.host_network == Some(true),
            pid: spec.host_pid == Some(true),
            ipc: spec.host_ipc == Some(true),
            pod_pid: spec.share_process_namespace == Some(true),
        },
        cgroup_parent: cgroups::pod_parent(pod),
        resources: cgroups::pod_resources(spec, config.pod_pids_limit),
        sysctls: sysctls.map(|one| (one.name.replace('/', "."), one.value.clone())).collect(),
        labels,
        annotations,
    }
}

/// The content of a pod's `/etc/hosts` (kubernetes pkg/kubelet/kubelet_pods.go).
pub fn hosts_file(pod: &Pod, config: &KubeletConfig, pod_ips: &[String], node_file: &str) -> String {
    let spec = pod.spec.as_ref();
    let mut text = if spec.is_some_and(|spec| spec.host_network == Some(true)) {
        format!("# Kubernetes-managed hosts file (host network).\n{node_file}")
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            .to_owned();
        let (name, domain) = hostname(pod, config);
        let short = name.strip_suffix(&format!(".{domain}")).unwrap_or(&name);
        for ip in pod_ips {
            if domain.is_empty() {
                let _ = writeln!(text, "{ip}\t{short}");
            } else {
                let _ = writeln!(text, "{ip}\t{short}.{domain}\t{short}");
            }
        }
        text
    };
    let mut aliases = spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()).peekable();
    if aliases.peek().is_some() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[track_caller]
    fn check(spec: &str, servers: &str, searches: &str, options: &str) {
        let pod = pod(&format!("containers: [{{name: a}}], {spec}"));
        let node = parse_resolv_conf("# a comment\nnameserver 10.88.0.1\nsearch lan.\noptions edns0\n");
        let dns = dns(&pod, pod.spec.as_ref().expect("a spec"), &KubeletConfig::new("w"), node);
        assert_eq!(
            (dns.servers.join(" "), dns.searches.join(" "), dns.options.join(" ")),
            (servers.into(), searches.into(), options.into())
        );
    }

    #[test]
    fn dns_policies() {
        let cluster = "default.svc.cluster.local svc.cluster.local cluster.local lan";
        check("dnsPolicy: ClusterFirst", "10.96.0.10", cluster, "ndots:5");
        check("dnsPolicy: ClusterFirst, hostNetwork: true", "10.88.0.1", "lan", "edns0");
        check("dnsPolicy: ClusterFirstWithHostNet, hostNetwork: true", "10.96.0.10", cluster, "ndots:5");
        check("dnsPolicy: Default", "10.88.0.1", "lan", "edns0");
        check(
            "dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1], searches: [a.b], options: [{name: ndots, value: '2'}]}",
            "1.1.1.1",
            "a.b",
            "ndots:2",
        );
    }

    #[test]
    fn hosts() {
        let config = KubeletConfig::new("w");
        let plain = pod("hostname: h, subdomain: s, hostAliases: [{ip: 1.2.3.4, hostnames: [x, y]}], containers: [{name: a}]");
        let text = hosts_file(&plain, &config, &["10.244.1.2".into()], "");
        assert!(text.contains("10.244.1.2\th.s.default.svc.cluster.local\th\n"), "{text}");
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\tx\ty\n"), "{text}");
        let on_host = pod("hostNetwork: true, containers: [{name: a}]");
        assert_eq!(
            hosts_file(&on_host, &config, &[], "127.0.0.1 x\n"),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 x\n"
        );
        assert_eq!(hostname(&on_host, &config).0, "w");
    }
}
