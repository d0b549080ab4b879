//! Objects of custom resources: verbs, rights, versions.

use std::time::Duration;

use serde_json::{Value, json};

use crate::crontabs::{CRONTABS, DEFINITIONS, crontab, definition, establish, until, version};
use crate::harness::test;

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
