//! Every verb on every kind.

use daruma_kinds::{ALL, Kind, Scope};
use serde_json::{Value, json};

use crate::harness::{Cluster, test};

/// A small object of a kind.
fn sample(kind: &dyn Kind) -> Value {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let workload = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let rest = match kind.names().kind {
        "Pod" => json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => json!({"spec": workload}),
        "Service" => json!({"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}),
        "Event" => {
            json!({"involvedObject": {"namespace": "default", "kind": "Pod", "name": "x"}, "reason": "R", "message": "M", "type": "Normal"})
        }
        "ControllerRevision" => json!({"revision": 1, "data": {}}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": [], "ports": []}),
        "PriorityClass" => json!({"value": 7}),
        "ClusterRoleBinding" | "RoleBinding" => {
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": []})
        }
        "APIService" => {
            json!({"spec": {"group": "x.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "insecureSkipTLSVerify": true, "service": {"name": "s", "namespace": "default"}}})
        }
        "Lease" => json!({"spec": {"holderIdentity": "me"}}),
        "Secret" => json!({"data": {"a": "Yg=="}}),
        "ConfigMap" => json!({"data": {"a": "b"}}),
        _ => json!({}),
    };
    let names = kind.names();
    let name = if names.kind == "APIService" { "v1.x.example.com" } else { "sample" };
    let mut object = json!({"apiVersion": daruma_api::gvk::api_version(names.group, names.version), "kind": names.kind,
        "metadata": {"name": name, "labels": {"sample": "yes"}}});
    if let (Some(fields), Value::Object(rest)) = (object.as_object_mut(), rest) {
        fields.extend(rest);
    }
    object
}

fn collection(kind: &dyn Kind) -> String {
    let names = kind.names();
    let root = if names.group.is_empty() {
        format!("/api/{}", names.version)
    } else {
        format!("/apis/{}/{}", names.group, names.version)
    };
    match names.scope {
        Scope::Namespaced => format!("{root}/namespaces/default/{}", names.plural),
        Scope::Cluster => format!("{root}/{}", names.plural),
    }
}

#[test]
fn every_verb_on_every_kind() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        // The server writes a definition's status meanwhile; `custom_resources` has its verbs.
        for kind in ALL.iter().filter(|kind| kind.names().kind != "CustomResourceDefinition") {
            round(&cluster, *kind).await;
        }
    });
}

async fn round(cluster: &Cluster, kind: &dyn Kind) {
    let admin = &cluster.admin;
    let (path, object) = (collection(kind), sample(kind));
    let what = kind.names().kind;
    let one = format!("{path}/{}", object["metadata"]["name"].as_str().expect("a name"));
    let mut watch =
        admin.watch(&format!("{path}?watch=true&labelSelector=sample%3Dyes&resourceVersion={}", newest(cluster).await)).await;

    let dry = admin.post(&format!("{path}?dryRun=All"), &object).await.expect(201);
    assert_eq!(dry.at("/metadata/resourceVersion"), "", "{what}");
    admin.get(&one).await.expect(404);
    let created = admin.post(&path, &object).await.expect(201);
    assert!(!created.at("/metadata/uid").is_empty() && !created.at("/metadata/creationTimestamp").is_empty(), "{what}");
    assert_eq!((created.at("/kind"), created.json["metadata"].get("managedFields")), (what, None));
    let again = admin.post(&path, &object).await.expect(409);
    assert!(again.message().ends_with("already exists"), "{}", again.message());
    assert_eq!(watch.line().await, format!("ADDED {}", created.at("/metadata/name")), "{what}");

    let got = admin.get(&one).await.expect(200);
    assert_eq!(got.json, created.json, "{what}");
    let same = admin.put(&one, &got.json).await.expect(200);
    assert_eq!(
        same.at("/metadata/resourceVersion"),
        got.at("/metadata/resourceVersion"),
        "{what}: an update without change writes nothing"
    );
    let patched = admin.patch(&one, "merge-patch", &json!({"metadata": {"annotations": {"x": "y"}}})).await.expect(200);
    assert_ne!(patched.at("/metadata/resourceVersion"), got.at("/metadata/resourceVersion"));
    assert_eq!(watch.line().await, format!("MODIFIED {}", created.at("/metadata/name")), "{what}");
    let mut stale = got.json.clone();
    stale["metadata"]["annotations"] = json!({"x": "z"});
    let conflict = admin.put(&one, &stale).await.expect(409);
    assert!(conflict.message().contains("the object has been modified"), "{}", conflict.message());

    let list = admin.get(&format!("{path}?labelSelector=sample%3Dyes")).await.expect(200);
    assert_eq!(list.at("/kind"), format!("{what}List"));
    assert_eq!(list.json["items"].as_array().map(Vec::len), Some(1), "{what}");
    assert_eq!(list.json["items"][0].get("kind"), None);
    assert_eq!(list.at("/items/0/metadata/resourceVersion"), patched.at("/metadata/resourceVersion"));
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    for path in [&one, &path] {
        let table = admin.send("GET", path, &table, None).await.expect(200);
        assert_eq!(table.at("/kind"), "Table", "{what}");
        let columns = table.json["columnDefinitions"].as_array().map(Vec::len);
        assert_eq!(table.json["rows"][0]["cells"].as_array().map(Vec::len), columns, "{what}");
        assert_eq!(table.at("/rows/0/object/kind"), "PartialObjectMetadata");
    }
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let partial = admin.send("GET", &path, &partial, None).await.expect(200);
    assert_eq!(partial.at("/items/0/kind"), "PartialObjectMetadata", "{what}");
    let yaml = admin.send("GET", &one, &[("accept", "application/yaml")], None).await.expect(200);
    assert!(yaml.text.contains(&format!("kind: {what}")), "{}", yaml.text);

    if what == "Namespace" {
        return;
    }
    admin.send("DELETE", &format!("{path}?labelSelector=sample%3Dno"), &[], None).await.expect(200);
    admin.get(&one).await.expect(200);
    admin.delete(&one, &json!({"preconditions": {"uid": "other"}})).await.expect(409);
    admin.delete(&one, &json!({})).await.expect(200);
    admin.get(&one).await.expect(404);
    loop {
        // Pods are marked before they go.
        let line = watch.line().await;
        if line.starts_with("DELETED") {
            break;
        }
        assert!(line.starts_with("MODIFIED"), "{what}: {line}");
    }
}

async fn newest(cluster: &Cluster) -> String {
    cluster.admin.get("/api/v1/nodes").await.at("/metadata/resourceVersion").to_owned()
}
