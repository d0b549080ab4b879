//! A model to copy: an operator with a resource of its own, tested against a whole cluster.
//!
//! A `Website` says how many servers it wants. The operator makes a Deployment of it, which the website owns, and writes
//! into the status how many are ready. What the website owns goes with it, and it goes with its namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use daruma_api::apps::v1::Deployment;
use daruma_api::k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use daruma_api::metav1::ObjectMeta;
use daruma_client::{Client, ClientError, ListOptions};
use daruma_drill::file;
use daruma_rehearsal::{Options, Rehearsal, VirtualCluster};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Website {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: ObjectMeta,
    spec: WebsiteSpec,
    #[serde(default)]
    status: WebsiteStatus,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct WebsiteSpec {
    replicas: i32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct WebsiteStatus {
    ready: i32,
}

impl Resource for Website {
    const API_VERSION: &'static str = "example.com/v1";
    const GROUP: &'static str = "example.com";
    const KIND: &'static str = "Website";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "websites";
    type Scope = NamespaceResourceScope;
}

impl Metadata for Website {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn definition() -> Value {
    let spec = json!({"type": "object", "properties": {"replicas": {"type": "integer", "minimum": 0, "default": 2}}});
    let status = json!({"type": "object", "properties": {"ready": {"type": "integer"}}});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "websites.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "websites", "kind": "Website"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]}})
}

/// Looks once a second, for ever.
async fn serve_websites(client: Client) {
    loop {
        // What fails now is tried again in a second.
        let _ = look(&client).await;
        client.world().sleep(Duration::from_secs(1)).await;
    }
}

async fn look(client: &Client) -> Result<(), ClientError> {
    for mut website in client.all::<Website>().list(&ListOptions::default()).await?.items {
        let meta = &website.metadata;
        let (name, namespace) = (meta.name.clone().unwrap_or_default(), meta.namespace.clone().unwrap_or_default());
        let deployments = client.namespaced::<Deployment>(&namespace);
        let Some(mut deployment) = deployments.find(&name).await? else {
            if meta.deletion_timestamp.is_none() {
                deployments.create(&deployment(&website)).await?;
            }
            continue;
        };
        if deployment.spec.as_ref().and_then(|spec| spec.replicas) != Some(website.spec.replicas) {
            deployment.spec.get_or_insert_default().replicas = Some(website.spec.replicas);
            deployments.update(&deployment).await?;
        }
        let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
        if website.status.ready != ready {
            website.status.ready = ready;
            client.namespaced::<Website>(&namespace).update_status(&website).await?;
        }
    }
    Ok(())
}

fn deployment(website: &Website) -> Deployment {
    let name = website.metadata.name.clone().unwrap_or_default();
    let owner = json!({"apiVersion": Website::API_VERSION, "kind": Website::KIND, "name": name, "uid": website.metadata.uid,
        "controller": true, "blockOwnerDeletion": true});
    let container = json!({"name": "web", "image": "gcr.io/google-samples/kubernetes-bootcamp:v1"});
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": website.metadata.namespace, "ownerReferences": [owner]},
        "spec": {"replicas": website.spec.replicas, "selector": {"matchLabels": {"site": name}},
            "template": {"metadata": {"labels": {"site": name}}, "spec": {"containers": [container]}}},
    }))
    .expect("a Deployment")
}

async fn ready(client: &Client, namespace: &str, name: &str) -> i32 {
    client.namespaced::<Website>(namespace).get(name).await.expect("it is there").status.ready
}

async fn deployments(client: &Client, namespace: &str) -> usize {
    client.namespaced::<Deployment>(namespace).list(&ListOptions::default()).await.expect("the API answers").items.len()
}

#[test]
fn an_operator_serves_its_resource() {
    let cluster = VirtualCluster::start(Options { seed: 3, ..Options::default() }).expect("a cluster");
    let client = cluster.client();
    cluster.run(cluster.wait_ready()).expect("every node is Ready");
    let send = |method: Method, path: &str, body: &Value| {
        let body = serde_json::to_vec(body).expect("JSON").into();
        cluster.run(client.json(method, path, JSON, Some(body)))
    };
    send(Method::POST, DEFINITIONS, &definition()).expect("a definition");
    send(Method::POST, "/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).expect("a namespace");
    cluster.run_for(Duration::from_secs(1));
    cluster.world().spawn("my operator", serve_websites(client.clone()));

    let website = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let collection = "/apis/example.com/v1/namespaces/shop/websites";
    send(Method::POST, collection, &website("news", json!({}))).expect("a website");
    send(Method::POST, collection, &website("blog", json!({"replicas": 1}))).expect("a website");
    let refused = send(Method::POST, collection, &website("none", json!({"replicas": -1}))).expect_err("it is invalid");
    assert!(refused.to_string().contains("spec.replicas in body should be greater than or equal to 0"), "{refused}");
    // Two are the default of the definition.
    cluster.run_for(Duration::from_secs(30));
    assert_eq!((cluster.run(ready(&client, "shop", "news")), cluster.run(ready(&client, "shop", "blog"))), (2, 1));

    // A website's node dies, and another takes over.
    cluster.run(cluster.machines().power_off("worker-1", false)).expect("it was on");
    cluster.run_for(Duration::from_secs(400));
    assert_eq!(cluster.run(ready(&client, "shop", "news")), 2);
    cluster.run(cluster.machines().power_on("worker-1")).expect("it was off");
    cluster.run_for(Duration::from_secs(60));

    // What a website owns goes with it: the garbage collector has learnt of the kind by now.
    send(Method::DELETE, &format!("{collection}/blog"), &json!({"propagationPolicy": "Foreground"})).expect("it goes");
    cluster.run_for(Duration::from_secs(10));
    assert_eq!(cluster.run(deployments(&client, "shop")), 1);
    let left = cluster.run(client.namespaced::<Website>("shop").list(&ListOptions::default())).expect("a list").items;
    assert_eq!(left.iter().filter_map(|one| one.metadata.name.as_deref()).collect::<Vec<_>>(), ["news"]);

    // Websites go with their namespace, and the rest with their definition.
    send(Method::DELETE, "/api/v1/namespaces/shop", &json!({})).expect("it goes");
    cluster.run_for(Duration::from_secs(60));
    let gone = cluster.run(client.json(Method::GET, "/api/v1/namespaces/shop", JSON, None));
    assert!(gone.expect_err("it is gone").is_not_found());
    send(Method::POST, &collection.replace("shop", "default"), &website("last", json!({}))).expect("a website");
    cluster.run_for(Duration::from_secs(5));
    send(Method::DELETE, &format!("{DEFINITIONS}/websites.example.com"), &json!({})).expect("it goes");
    cluster.run_for(Duration::from_secs(60));
    let gone = cluster.run(client.json(Method::GET, "/apis/example.com/v1", JSON, None));
    assert!(gone.expect_err("nobody serves it").is_not_found());
    assert_eq!(cluster.run(deployments(&client, "default")), 0, "its owner is gone");
    assert_eq!(cluster.stop(), []);
}

/// The object stands before its definition, and what the drill names is of its own kind.
const DRILL: &str = "
apiVersion: daruma.dev/v1
kind: Drill
metadata: {name: own-kind}
spec:
  manifests:
  - apiVersion: example.com/v1
    kind: Website
    metadata: {name: news}
    spec: {replicas: 3}
  - apiVersion: apiextensions.k8s.io/v1
    kind: CustomResourceDefinition
    metadata: {name: websites.example.com}
    spec:
      group: example.com
      scope: Namespaced
      names: {plural: websites, kind: Website, shortNames: [site]}
      versions:
      - name: v1
        served: true
        storage: true
        additionalPrinterColumns: [{name: Replicas, type: integer, jsonPath: .spec.replicas}]
        schema:
          openAPIV3Schema:
            type: object
            properties: {spec: {type: object, properties: {replicas: {type: integer}}}}
  steps:
  - patch: {apiVersion: example.com/v1, kind: Website, name: news, type: merge, patch: {spec: {replicas: 4}}}
  - view: get site
  - apply:
    - {apiVersion: example.com/v1, kind: Website, metadata: {name: blog}, spec: {replicas: 1}}
  - {fault: api-server, with: {how: kill}}
  - {at: 60s, view: get websites blog}
  - delete:
    - {apiVersion: example.com/v1, kind: Website, metadata: {name: blog}}
";

#[test]
fn a_drill_uses_a_kind_of_its_own() {
    let drill = file::parse("drill", DRILL, &BTreeMap::new(), &|_| Err("no files".into())).expect("a drill");
    let played = Rehearsal { seed: 5, invariants: true, keeps_log: false }.prepare(&drill).expect("a cluster").play(
        &drill,
        &mut (),
        &|| false,
    );
    assert_eq!((played.record.aborted.as_deref(), played.violations), (None, Vec::new()));
    let said: Vec<String> = played.record.timeline.iter().map(|entry| format!("{} {}", entry.about, entry.text)).collect();
    let said = said.join("\n");
    for text in ["website/news patched", "news   4", "blog   1", "website/blog deleted"] {
        assert!(said.contains(text), "{text} in {said}");
    }
}
