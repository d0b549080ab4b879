//! Custom resources: the life of a definition, and its objects.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, test};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CRONTABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

fn schema() -> Value {
    json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["cronSpec"], "properties": {
            "cronSpec": {"type": "string", "pattern": "^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$", "description": "When."},
            "image": {"type": "string"},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
            "selector": {"type": "string"},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "labelSelector": {"type": "string"}}},
    }}})
}

fn version(name: &str, storage: bool) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": schema(),
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.labelSelector"}},
        "selectableFields": [{"jsonPath": ".spec.image"}],
        "additionalPrinterColumns": [{"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]})
}

fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "versions": [version("v1", true)],
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]}}})
}

fn crontab(name: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name},
        "spec": {"cronSpec": "* * * * */5", "image": "cron"}})
}

fn condition(definition: &Value, kind: &str) -> String {
    let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == kind).cloned().unwrap_or_default();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    format!("{} {}: {}", text("status"), text("reason"), text("message"))
}

async fn until(cluster: &Cluster, path: &str, done: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..1000 {
        let found = cluster.admin.get(path).await;
        if done(&found) {
            return found;
        }
        cluster.world.sleep(Duration::from_millis(10)).await;
    }
    panic!("never at {path}: {}", cluster.admin.get(path).await.text);
}

/// Makes a definition and waits until it is established.
async fn establish(cluster: &Cluster, definition: &Value) -> Answer {
    cluster.admin.post(DEFINITIONS, definition).await.expect(201);
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().expect("a name"));
    until(cluster, &path, |found| condition(&found.json, "Established").starts_with("True")).await
}

#[test]
fn life_of_a_definition() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let admin = &cluster.admin;
        admin.get(CRONTABS).await.expect(404);
        let established = establish(&cluster, &definition()).await;
        assert_eq!(condition(&established.json, "NamesAccepted"), "True NoConflicts: no conflicts found");
        let accepted = "True InitialNamesAccepted: the initial names have been accepted";
        assert_eq!(condition(&established.json, "Established"), accepted);
        assert_eq!(established.json["status"]["storedVersions"], json!(["v1"]));
        assert_eq!(established.at("/status/acceptedNames/listKind"), "CronTabList");

        let group = admin.get("/apis/stable.example.com").await.expect(200);
        assert_eq!(group.at("/preferredVersion/groupVersion"), "stable.example.com/v1");
        let resources = admin.get("/apis/stable.example.com/v1").await.expect(200);
        let names: Vec<&str> =
            resources.json["resources"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(names, ["crontabs", "crontabs/scale", "crontabs/status"]);
        let service =
            until(&cluster, "/apis/apiregistration.k8s.io/v1/apiservices/v1.stable.example.com", |found| found.status == 200)
                .await;
        assert_eq!(service.json["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "true"}));
        assert_eq!(service.json["spec"]["versionPriority"], 100);
        assert_eq!(service.at("/status/conditions/0/reason"), "Local");

        admin.post(CRONTABS, &crontab("a")).await.expect(201);
        let mut watch = admin.watch(&format!("{CRONTABS}?watch=true")).await;
        assert_eq!(watch.line().await, "ADDED a");
        let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
        let marked = admin.delete(&path, &json!({})).await.expect(200);
        assert_eq!(marked.at("/metadata/finalizers/0"), "customresourcecleanup.apiextensions.k8s.io");
        let pending = "True InstanceDeletionPending: CustomResourceDefinition marked for deletion; \
            CustomResource deletion will begin soon";
        assert_eq!(condition(&marked.json, "Terminating"), pending);
        until(&cluster, &path, |found| found.status == 404).await;
        assert_eq!(watch.line().await, "DELETED a");
        assert_eq!(watch.next().await, None, "the watch ends with its resource");
        until(&cluster, CRONTABS, |found| found.status == 404).await;
        admin.get("/apis/stable.example.com").await.expect(404);
        let service = "/apis/apiregistration.k8s.io/v1/apiservices/v1.stable.example.com";
        until(&cluster, service, |found| found.status == 404).await;
        // It may come again, and finds nothing of before.
        establish(&cluster, &definition()).await;
        assert_eq!(admin.get(CRONTABS).await.expect(200).json["items"], json!([]));
    });
}

#[test]
fn names_are_given_once() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        establish(&cluster, &definition()).await;
        let mut second = definition();
        second["metadata"]["name"] = "tabs.stable.example.com".into();
        second["spec"]["names"] = json!({"plural": "tabs", "singular": "tab", "kind": "CronTab", "shortNames": ["t"]});
        admin.post(DEFINITIONS, &second).await.expect(201);
        let path = format!("{DEFINITIONS}/tabs.stable.example.com");
        let refused = until(&cluster, &path, |found| condition(&found.json, "NamesAccepted").starts_with("False")).await;
        let conflict = "False ListKindConflict: \"CronTabList\" is already in use";
        assert_eq!(condition(&refused.json, "NamesAccepted"), conflict);
        assert_eq!(condition(&refused.json, "Established"), "False NotAccepted: not all names are accepted");
        admin.get("/apis/stable.example.com/v1/tabs").await.expect(404);
        // They are free when the first definition goes.
        admin.delete(&format!("{DEFINITIONS}/crontabs.stable.example.com"), &json!({})).await.expect(200);
        until(&cluster, &path, |found| condition(&found.json, "Established").starts_with("True")).await;
        admin.get("/apis/stable.example.com/v1/tabs").await.expect(200);
        // A definition that was never established has nothing to empty.
        let mut third = definition();
        third["spec"]["names"]["kind"] = "CronTab".into();
        admin.post(DEFINITIONS, &third).await.expect(201);
        let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
        until(&cluster, &path, |found| condition(&found.json, "NamesAccepted").starts_with("False")).await;
        admin.delete(&path, &json!({})).await.expect(200);
        until(&cluster, &path, |found| found.status == 404).await;
    });
}

#[test]
fn objects_are_validated_pruned_and_defaulted() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let admin = &cluster.admin;
        establish(&cluster, &definition()).await;
        let mut wrong = crontab("wrong");
        wrong["spec"]["replicas"] = 11.into();
        let refused = admin.post(CRONTABS, &wrong).await.expect(422);
        let why = "The CronTab \"wrong\" is invalid: spec.replicas: Invalid value: 11: \
            spec.replicas in body should be less than or equal to 10";
        assert!(why.ends_with(refused.message().split_once("is invalid: ").map_or("", |(_, why)| why)), "{}", refused.message());
        let mut unknown = crontab("a");
        unknown["spec"]["colour"] = "red".into();
        let refused = admin.post(&format!("{CRONTABS}?fieldValidation=Strict"), &unknown).await.expect(400);
        assert!(refused.message().ends_with("strict decoding error: unknown field \"spec.colour\""), "{}", refused.message());
        let made = admin.post(&format!("{CRONTABS}?fieldValidation=Warn"), &unknown).await.expect(201);
        assert_eq!(made.headers["warning"], "299 - \"unknown field \\\"spec.colour\\\"\"");
        assert_eq!(made.json["spec"], json!({"cronSpec": "* * * * */5", "image": "cron", "replicas": 1}));
        assert_eq!(made.json["metadata"]["generation"], 1);
        let mut other = crontab("b");
        other["spec"]["image"] = "other".into();
        admin.post(CRONTABS, &other).await.expect(201);
        let selected = admin.get(&format!("{CRONTABS}?fieldSelector=spec.image%3Dother")).await.expect(200);
        assert_eq!((selected.at("/items/0/metadata/name"), selected.json["items"].as_array().map(Vec::len)), ("b", Some(1)));
        assert_eq!((selected.at("/kind"), selected.at("/items/0/kind")), ("CronTabList", "CronTab"));
        let unknown = admin.get(&format!("{CRONTABS}?fieldSelector=spec.x%3Dy")).await.expect(400);
        assert_eq!(unknown.message(), "field label not supported: spec.x");
        let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
        let table = admin.send("GET", CRONTABS, &table, None).await.expect(200);
        let columns = table.json["columnDefinitions"].as_array().expect("columns").iter();
        assert_eq!(columns.map(|one| one["name"].as_str().unwrap_or_default()).collect::<Vec<_>>(), ["Name", "Spec", "Age"]);
        assert_eq!(table.json["rows"][0]["cells"][1], "* * * * */5");
        let metrics = admin.get("/metrics").await.expect(200).text;
        assert!(metrics.contains("apiserver_storage_objects{resource=\"crontabs.stable.example.com\"} 2"), "{metrics}");
    });
}

#[test]
fn writes_of_every_kind() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let admin = &cluster.admin;
        establish(&cluster, &definition()).await;
        let one = format!("{CRONTABS}/a");
        let dry = admin.post(&format!("{CRONTABS}?dryRun=All"), &crontab("a")).await.expect(201);
        assert_eq!((dry.at("/kind"), dry.at("/metadata/resourceVersion")), ("CronTab", ""));
        admin.get(&one).await.expect(404);
        let made = admin.post(CRONTABS, &crontab("a")).await.expect(201);
        assert_eq!(made.json.get("status"), None);
        let patched = admin.patch(&one, "merge-patch", &json!({"spec": {"replicas": 3}})).await.expect(200);
        assert_eq!((&patched.json["spec"]["replicas"], &patched.json["metadata"]["generation"]), (&json!(3), &json!(2)));
        let change = json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]);
        let patched = admin.patch(&one, "json-patch", &change).await.expect(200);
        assert_eq!(patched.json["spec"]["replicas"], 2);
        let strategic = admin.patch(&one, "strategic-merge-patch", &json!({"spec": {"replicas": 3}})).await.expect(415);
        let accepted = "the body of the request was in an unknown format - accepted media types include: \
            application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
        assert_eq!(strategic.message(), accepted);
        let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
        let refused = admin.send("POST", CRONTABS, &protobuf, Some(&crontab("p"))).await.expect(415);
        assert!(refused.message().ends_with("include: application/json, application/yaml"), "{}", refused.message());
        let wrong = admin.patch(&one, "merge-patch", &json!({"spec": {"replicas": 12}})).await.expect(422);
        assert!(wrong.message().contains("should be less than or equal to 10"), "{}", wrong.message());

        // The status is a part of its own.
        let status = json!({"status": {"replicas": 2, "labelSelector": "app=cron", "x": 1}, "spec": {"replicas": 9}});
        let patched = admin.patch(&format!("{one}/status"), "merge-patch", &status).await.expect(200);
        assert_eq!(patched.json["status"], json!({"replicas": 2, "labelSelector": "app=cron"}));
        assert_eq!(patched.json["spec"]["replicas"], 2);
        let ignored = admin.patch(&one, "merge-patch", &json!({"status": {"replicas": 7}})).await.expect(200);
        assert_eq!(ignored.json["status"]["replicas"], 2);

        let scale = admin.get(&format!("{one}/scale")).await.expect(200);
        assert_eq!((scale.at("/kind"), scale.at("/status/selector")), ("Scale", "app=cron"));
        assert_eq!((&scale.json["spec"]["replicas"], &scale.json["status"]["replicas"]), (&json!(2), &json!(2)));
        let scaled = admin.patch(&format!("{one}/scale"), "merge-patch", &json!({"spec": {"replicas": 5}})).await.expect(200);
        assert_eq!(scaled.json["spec"]["replicas"], 5);
        let now = admin.get(&one).await.expect(200);
        assert_eq!((&now.json["spec"]["replicas"], &now.json["metadata"]["generation"]), (&json!(5), &json!(4)));
        admin.get(&format!("{one}/log")).await.expect(404);

        let mut applied = crontab("b");
        applied["spec"]["replicas"] = 4.into();
        let made = admin.apply(&format!("{CRONTABS}/b"), "me", &applied).await.expect(201);
        assert_eq!(made.owners(), ["me Apply  {\"f:spec\":{\"f:cronSpec\":{},\"f:image\":{},\"f:replicas\":{}}}"]);
        applied["spec"]["replicas"] = 6.into();
        let conflict = admin.apply(&format!("{CRONTABS}/b"), "you", &applied).await.expect(409);
        assert!(conflict.message().contains("conflict with \"me\": .spec.replicas"), "{}", conflict.message());
        let selected = admin.send("DELETE", &format!("{CRONTABS}?fieldSelector=metadata.name%3Db"), &[], None).await.expect(200);
        assert_eq!(selected.at("/kind"), "CronTabList");
        let gone = admin.delete(&one, &json!({})).await.expect(200);
        assert_eq!((gone.at("/status"), gone.at("/details/group")), ("Success", "stable.example.com"));
        assert_eq!(admin.get(CRONTABS).await.expect(200).json["items"], json!([]));
        let put = admin.put("/apis/stable.example.com/v1/crontabs/x", &crontab("x")).await;
        assert_eq!(put.status, 404, "{}", put.text);
    });
}

#[test]
fn rights_are_those_of_any_resource() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        establish(&cluster, &definition()).await;
        let jane = cluster.caller("jane", &[]);
        let refused = jane.get(CRONTABS).await.expect(403);
        let why = "crontabs.stable.example.com is forbidden: User \"jane\" cannot list resource \"crontabs\" in API group \
            \"stable.example.com\" in the namespace \"default\"";
        assert_eq!(refused.message(), why);
        let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
        let rules = json!([{"apiGroups": ["stable.example.com"], "resources": ["crontabs"], "verbs": ["list"]}]);
        cluster.admin.post(&format!("{rbac}/roles"), &json!({"metadata": {"name": "r"}, "rules": rules})).await.expect(201);
        let binding = json!({"metadata": {"name": "r"}, "subjects": [{"kind": "User", "name": "jane"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}});
        cluster.admin.post(&format!("{rbac}/rolebindings"), &binding).await.expect(201);
        while jane.get(CRONTABS).await.status != 200 {
            cluster.world.sleep(Duration::from_millis(5)).await;
        }
        jane.post(CRONTABS, &crontab("a")).await.expect(403);
    });
}

#[test]
fn documents_follow_definitions() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let path = "/openapi/v3/apis/stable.example.com/v1";
        admin.get(path).await.expect(404);
        let established = establish(&cluster, &definition()).await;
        let index = admin.get("/openapi/v3").await.expect(200);
        let first = index.at("/paths/apis~1stable.example.com~1v1/serverRelativeURL").to_owned();
        let document = admin.get(&first).await.expect(200);
        assert!(document.text.contains("When."), "{}", document.text);
        let mut changed = established.json.clone();
        changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["description"] = "How.".into();
        admin.put(&format!("{DEFINITIONS}/crontabs.stable.example.com"), &changed).await.expect(200);
        until(&cluster, path, |found| found.text.contains("How.")).await;
        let index = admin.get("/openapi/v3").await.expect(200);
        assert_ne!(index.at("/paths/apis~1stable.example.com~1v1/serverRelativeURL"), first);
        admin.delete(&format!("{DEFINITIONS}/crontabs.stable.example.com"), &json!({})).await.expect(200);
        until(&cluster, path, |found| found.status == 404).await;
        assert!(!admin.get("/openapi/v3").await.expect(200).text.contains("stable.example.com"));
    });
}

const BETA: &str = "/apis/stable.example.com/v1beta1/namespaces/default/crontabs";

/// Serves v1 and v1beta1, which has no image.
fn two_versions() -> Value {
    let mut definition = definition();
    let mut beta = version("v1beta1", false);
    beta["deprecated"] = true.into();
    beta["selectableFields"] = json!([{"jsonPath": ".spec.cronSpec"}]);
    if let Some(properties) = beta["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].as_object_mut() {
        properties.remove("image");
    }
    definition["spec"]["versions"] = json!([beta, version("v1", true)]);
    definition
}

#[test]
fn versions_show_the_same_objects() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let admin = &cluster.admin;
        establish(&cluster, &two_versions()).await;
        let group = admin.get("/apis/stable.example.com").await.expect(200);
        assert_eq!((group.at("/versions/0/version"), group.at("/versions/1/version")), ("v1", "v1beta1"));
        let mut watch = admin.watch(&format!("{BETA}?watch=true&fieldSelector=spec.cronSpec%3D*%20*%20*%20*%20*%2F5")).await;
        admin.apply(&format!("{CRONTABS}/a"), "me", &crontab("a")).await.expect(201);
        let event = watch.next().await.expect("an event");
        assert_eq!((&event["type"], &event["object"]["apiVersion"]), (&json!("ADDED"), &json!("stable.example.com/v1beta1")));
        assert_eq!(event["object"]["spec"], json!({"cronSpec": "* * * * */5", "replicas": 1}));

        let beta = admin.get(&format!("{BETA}/a")).await.expect(200);
        assert_eq!(
            beta.headers["warning"],
            "299 - \"stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab\""
        );
        assert_eq!(beta.json, event["object"]);
        let list = admin.get(BETA).await.expect(200);
        assert_eq!((list.at("/apiVersion"), &list.json["items"][0]), ("stable.example.com/v1beta1", &beta.json));
        assert_eq!(admin.get(&format!("{BETA}?fieldSelector=spec.image%3Dcron")).await.status, 400);
        let dry =
            admin.patch(&format!("{BETA}/a?dryRun=All"), "merge-patch", &json!({"spec": {"replicas": 3}})).await.expect(200);
        assert_eq!(dry.at("/apiVersion"), "stable.example.com/v1beta1");
        let new = json!({"metadata": {"name": "b"}, "spec": {"cronSpec": "* * * * *"}});
        let dry = admin.post(&format!("{BETA}?dryRun=All"), &new).await.expect(201);
        assert_eq!(dry.at("/apiVersion"), "stable.example.com/v1beta1");

        // Owners are the same in all versions.
        let mut other = crontab("a");
        other["apiVersion"] = "stable.example.com/v1beta1".into();
        other["spec"] = json!({"cronSpec": "* * * * *"});
        let conflict = admin.apply(&format!("{BETA}/a"), "you", &other).await.expect(409);
        assert!(conflict.message().contains("conflict with \"me\": .spec.cronSpec"), "{}", conflict.message());
        let stored = cluster.server.store.get("/registry/stable.example.com/crontabs/default/a").await.expect("a store");
        let stored = String::from_utf8(stored.expect("there").value.to_vec()).expect("text");
        assert!(stored.starts_with("{\"kind\":\"CronTab\",\"apiVersion\":\"stable.example.com/v1\","), "{stored}");
    });
}

#[test]
fn the_storage_version_changes() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let admin = &cluster.admin;
        let established = establish(&cluster, &two_versions()).await;
        let made = admin.post(CRONTABS, &crontab("a")).await.expect(201);
        let mut watch = admin.watch(&format!("{CRONTABS}?watch=true")).await;
        assert_eq!(watch.line().await, "ADDED a");

        let mut changed = established.json.clone();
        changed["spec"]["versions"] = json!([version("v1", false), version("v2", true)]);
        let properties = "/spec/versions/1/schema/openAPIV3Schema/properties/spec/properties";
        changed.pointer_mut(properties).expect("there")["suspend"] = json!({"type": "boolean", "default": false});
        let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
        let changed = admin.put(&path, &changed).await.expect(200);
        assert_eq!(changed.json["status"]["storedVersions"], json!(["v1", "v2"]));
        assert_eq!(watch.next().await, None, "watches end when the resource changes");
        until(&cluster, "/apis/stable.example.com/v1beta1/crontabs", |found| found.status == 404).await;
        let new = CRONTABS.replace("v1", "v2");
        // What is stored is as old as before, and is shown as it would be stored now.
        let found = admin.get(&format!("{new}/a")).await.expect(200);
        assert_eq!(found.at("/apiVersion"), "stable.example.com/v2");
        assert_eq!(found.json["spec"]["suspend"], false);
        assert_eq!(found.at("/metadata/resourceVersion"), made.at("/metadata/resourceVersion"));
        let list = admin.get(CRONTABS).await.expect(200);
        assert_eq!(
            (list.at("/items/0/apiVersion"), list.json["items"][0]["spec"].get("suspend")),
            ("stable.example.com/v1", None)
        );
        // An update without change stores it in today's version.
        let same = admin.put(&format!("{new}/a"), &found.json).await.expect(200);
        assert_ne!(same.at("/metadata/resourceVersion"), made.at("/metadata/resourceVersion"));
        let stored = cluster.server.store.get("/registry/stable.example.com/crontabs/default/a").await.expect("a store");
        assert!(stored.expect("there").value.starts_with(b"{\"kind\":\"CronTab\",\"apiVersion\":\"stable.example.com/v2\","));
        // Another server, that starts now, serves the same.
        let another = cluster.another_server().await;
        assert_eq!(another.get(&format!("{new}/a")).await.expect(200).json, same.json);
    });
}

#[test]
fn definitions_wait_for_the_finalizers_of_their_objects() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let admin = &cluster.admin;
        establish(&cluster, &definition()).await;
        let mut held = crontab("held");
        held["metadata"]["finalizers"] = json!(["hold"]);
        let made = admin.post(CRONTABS, &held).await.expect(201);
        let warning = made.headers["warning"].to_str().expect("text");
        assert!(warning.contains("prefer a domain-qualified finalizer name"), "{warning}");
        admin.post(CRONTABS, &crontab("free")).await.expect(201);
        let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
        admin.delete(&path, &json!({})).await.expect(200);
        let begun = "True InstanceDeletionInProgress: CustomResource deletion is in progress";
        until(&cluster, &path, |found| condition(&found.json, "Terminating") == begun).await;
        until(&cluster, &format!("{CRONTABS}/free"), |found| found.status == 404).await;
        let resources = admin.get("/apis/stable.example.com/v1").await.expect(200);
        assert_eq!(resources.json["resources"][0]["verbs"], json!(["delete", "deletecollection", "get", "list", "watch"]));
        let refused = admin.post(CRONTABS, &crontab("new")).await.expect(405);
        assert_eq!(refused.message(), "create not allowed while custom resource definition is terminating");
        cluster.world.sleep(Duration::from_secs(61)).await;
        let checked = admin.get(&path).await.expect(200);
        let left = "could not confirm zero CustomResources remaining: context deadline exceeded";
        let said = condition(&checked.json, "Terminating");
        assert!(said == format!("True InstanceDeletionCheck: {left}") || said == begun, "{said}");
        admin.patch(&format!("{CRONTABS}/held"), "merge-patch", &json!({"metadata": {"finalizers": null}})).await.expect(200);
        cluster.world.sleep(Duration::from_secs(6)).await;
        admin.get(&path).await.expect(404);
    });
}

#[test]
fn webhooks_are_not_called() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let admin = &cluster.admin;
        let mut converted = two_versions();
        let service = json!({"name": "s", "namespace": "default"});
        converted["spec"]["conversion"] = json!({"strategy": "Webhook",
            "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {"service": service}}});
        establish(&cluster, &converted).await;
        // Objects in the storage version need no conversion.
        admin.post(CRONTABS, &crontab("a")).await.expect(201);
        let refused = admin.get(BETA).await.expect(500);
        let why = "conversion webhook for stable.example.com/v1beta1, Kind=CronTab failed: this server does not call conversion webhooks";
        assert!(refused.message().contains(why), "{}", refused.message());
    });
}

#[test]
fn several_servers_agree() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let (one, another) = (&cluster.admin, cluster.another_server().await);
        let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
        for _ in 0..2 {
            establish(&cluster, &definition()).await;
            while another.get(CRONTABS).await.status != 200 {
                cluster.world.sleep(Duration::from_millis(5)).await;
            }
            let written = one.get(&path).await.expect(200).at("/metadata/resourceVersion").to_owned();
            another.post(CRONTABS, &crontab("a")).await.expect(201);
            one.get(&format!("{CRONTABS}/a")).await.expect(200);
            cluster.world.sleep(Duration::from_secs(5)).await;
            assert_eq!(
                one.get(&path).await.expect(200).at("/metadata/resourceVersion"),
                written,
                "nobody writes without a reason"
            );
            another.delete(&path, &json!({})).await.expect(200);
            until(&cluster, &path, |found| found.status == 404).await;
            while another.get(CRONTABS).await.status != 404 {
                cluster.world.sleep(Duration::from_millis(5)).await;
            }
        }
    });
}

#[test]
fn names_may_change() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        establish(&cluster, &definition()).await;
        let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
        let change = json!({"spec": {"names": {"shortNames": ["cron"], "categories": null}}});
        let changed = admin.patch(&path, "merge-patch", &change).await.expect(200);
        assert_eq!(changed.json["metadata"]["generation"], 2);
        let shown = until(&cluster, "/apis/stable.example.com/v1", |found| found.text.contains("\"cron\"")).await;
        assert_eq!(shown.json["resources"][0]["shortNames"], json!(["cron"]));
        assert_eq!(shown.json["resources"][0].get("categories"), None);
        let accepted = admin.get(&path).await.expect(200);
        assert_eq!(accepted.json["status"]["acceptedNames"]["shortNames"], json!(["cron"]));
        assert!(condition(&accepted.json, "Established").starts_with("True"));
    });
}
