//! What discovery tells, before it takes a form.

use daruma_kinds::Scope;
use serde_json::{Value, json};

use super::maturity;
use crate::registry::{self, Stage};
use crate::server::ApiServer;

/// What a resource still does while its definition is being deleted.
const LAST_VERBS: [&str; 5] = ["delete", "deletecollection", "get", "list", "watch"];

/// A group with its versions, preferred first.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Name; empty for core.
    pub name: String,
    /// Place in lists: higher comes first.
    pub priority: i64,
    /// Versions.
    pub versions: Vec<Version>,
}

/// A version of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// E.g. `v1`.
    pub name: String,
    /// Resources by plural.
    pub resources: Vec<Resource>,
    /// Whether the resources may be out of date (an extension server that does not answer).
    pub stale: bool,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resource {
    /// Plural.
    pub plural: String,
    /// Singular.
    pub singular: String,
    /// Group, version and kind of its objects.
    pub gvk: [String; 3],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories.
    pub categories: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// The group and version under which it is served.
    pub served_as: [String; 2],
}

/// A subresource.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Subresource {
    /// E.g. `status`.
    pub name: String,
    /// Group, version and kind of its body.
    pub gvk: [String; 3],
    /// Verbs.
    pub verbs: Vec<String>,
}

fn own(list: &[&str]) -> Vec<String> {
    list.iter().map(|one| (*one).to_owned()).collect()
}

impl Resource {
    /// The entries of a plain `APIResourceList`: the resource, then its subresources.
    pub fn plain(&self) -> Vec<Value> {
        let [served_group, served_version] = &self.served_as;
        let own_gvk = |gvk: &[String; 3], entry: &mut Value| {
            if gvk[0] != *served_group || gvk[1] != *served_version {
                if !gvk[0].is_empty() {
                    entry["group"] = gvk[0].clone().into();
                }
                entry["version"] = gvk[1].clone().into();
            }
        };
        let mut main = json!({"name": self.plural, "singularName": self.singular, "namespaced": self.namespaced,
            "kind": self.gvk[2], "verbs": self.verbs});
        own_gvk(&self.gvk, &mut main);
        if !self.short_names.is_empty() {
            main["shortNames"] = self.short_names.clone().into();
        }
        if !self.categories.is_empty() {
            main["categories"] = self.categories.clone().into();
        }
        let mut entries = vec![main];
        for sub in &self.subresources {
            let mut entry = json!({"name": format!("{}/{}", self.plural, sub.name), "singularName": "", "namespaced": self.namespaced,
                "kind": sub.gvk[2], "verbs": sub.verbs});
            own_gvk(&sub.gvk, &mut entry);
            entries.push(entry);
        }
        entries
    }
}

/// All groups: the server's own and those of extension servers; core first, then by priority.
pub fn groups(server: &ApiServer) -> Vec<Group> {
    let mut groups = own_groups(server);
    server.aggregation.add_groups(&mut groups);
    groups.sort_by(|left, right| right.priority.cmp(&left.priority).then_with(|| left.name.cmp(&right.name)));
    groups
}

/// The groups that the server serves itself, custom ones among them.
pub fn own_groups(server: &ApiServer) -> Vec<Group> {
    let mut groups = built_in_groups(server);
    for resource in server.registry.custom().iter() {
        let mut shown = shown(resource);
        match resource.stage {
            Stage::Installing => continue,
            Stage::Established => {}
            Stage::Terminating => shown.verbs.retain(|verb| LAST_VERBS.contains(&verb.as_str())),
        }
        add(&mut groups, shown);
    }
    for group in &mut groups {
        // Built-in groups have their one version; of custom ones the most mature comes first.
        group.versions.sort_by(|left, right| maturity::of(&left.name).cmp(&maturity::of(&right.name)));
        sort(group);
    }
    groups
}

fn sort(group: &mut Group) {
    for version in &mut group.versions {
        version.resources.sort_by(|left, right| left.plural.cmp(&right.plural));
    }
}

fn add(groups: &mut Vec<Group>, resource: Resource) {
    let [group, version] = &resource.served_as;
    let at = groups.iter().position(|one| one.name == *group).unwrap_or_else(|| {
        groups.push(Group { name: group.clone(), priority: priority(group), versions: Vec::new() });
        groups.len() - 1
    });
    let versions = &mut groups[at].versions;
    let at = versions.iter().position(|one| one.name == *version).unwrap_or_else(|| {
        versions.push(Version { name: version.clone(), resources: Vec::new(), stale: false });
        versions.len() - 1
    });
    versions[at].resources.push(resource);
}

fn shown(resource: &registry::Resource) -> Resource {
    let names = resource.kind.names();
    let subresources = resource.kind.subresources().iter();
    let subresources = subresources
        .map(|sub| {
            let (group, version) = if sub.version.is_empty() { (names.group, names.version) } else { (sub.group, sub.version) };
            Subresource { name: sub.name.into(), gvk: [group.into(), version.into(), sub.kind.into()], verbs: own(sub.verbs) }
        })
        .collect();
    Resource {
        plural: names.plural.into(),
        singular: names.singular.into(),
        gvk: [names.group.into(), names.version.into(), names.kind.into()],
        namespaced: names.scope == Scope::Namespaced,
        short_names: own(names.short_names),
        categories: own(names.categories),
        verbs: own(names.verbs),
        subresources,
        served_as: [names.group.into(), names.version.into()],
    }
}

/// The groups that are always there.
pub fn built_in_groups(server: &ApiServer) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for resource in server.registry.all_built_in() {
        add(&mut groups, shown(resource));
    }
    for names in daruma_kinds::VIRTUAL {
        if server.registry.built_in(names.group, names.version, names.plural).is_some() {
            continue;
        }
        let shown = Resource {
            plural: names.plural.into(),
            singular: names.singular.into(),
            gvk: [names.group.into(), names.version.into(), names.kind.into()],
            namespaced: names.scope == Scope::Namespaced,
            verbs: own(names.verbs),
            served_as: [names.group.into(), names.version.into()],
            ..Resource::default()
        };
        add(&mut groups, shown);
    }
    groups.iter_mut().for_each(sort);
    groups
}

/// `groupPriorityMinimum` of built-in groups (kubernetes pkg/controlplane/apiserver/aggregator.go and
/// cmd/kube-apiserver/app/aggregator.go).
pub fn priority(group: &str) -> i64 {
    match group {
        "" => 18000,
        "apiregistration.k8s.io" => 17900,
        "apps" => 17800,
        "events.k8s.io" => 17750,
        "authentication.k8s.io" => 17700,
        "authorization.k8s.io" => 17600,
        "autoscaling" => 17500,
        "batch" => 17400,
        "certificates.k8s.io" => 17300,
        "networking.k8s.io" => 17200,
        "policy" => 17100,
        "rbac.authorization.k8s.io" => 17000,
        "storage.k8s.io" => 16800,
        "apiextensions.k8s.io" | "admissionregistration.k8s.io" => 16700,
        "scheduling.k8s.io" => 16600,
        "coordination.k8s.io" => 16500,
        "node.k8s.io" => 16300,
        "discovery.k8s.io" => 16200,
        "flowcontrol.apiserver.k8s.io" => 16100,
        _ => 1000,
    }
}
