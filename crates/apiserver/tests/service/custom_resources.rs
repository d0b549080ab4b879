//! The life of definitions of custom resources.

use std::time::Duration;

use serde_json::json;

use crate::crontabs::{CRONTABS, DEFINITIONS, condition, crontab, definition, establish, until};
use crate::harness::test;

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

#[test]
fn built_in_resources_stay() {
    test(|cluster| async move {
        cluster.namespace("default").await;
        let admin = &cluster.admin;
        let mut definition = definition();
        definition["metadata"] = json!({"name": "configmaps.coordination.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}});
        definition["spec"]["group"] = "coordination.k8s.io".into();
        definition["spec"]["names"] = json!({"plural": "configmaps", "singular": "configmap", "kind": "ConfigMap"});
        let established = establish(&cluster, &definition).await;
        let approval = condition(&established.json, "KubernetesAPIApprovalPolicyConformant");
        assert_eq!(approval, "False UnapprovedAnnotation: not approved: \"unapproved, for a test\"");
        // A group has room for both.
        admin.get("/apis/coordination.k8s.io/v1/namespaces/default/configmaps").await.expect(200);
        let resources = admin.get("/apis/coordination.k8s.io/v1").await.expect(200).text;
        assert!(resources.contains("\"configmaps\"") && resources.contains("\"leases\""), "{resources}");
        admin.delete(&format!("{DEFINITIONS}/configmaps.coordination.k8s.io"), &json!({})).await.expect(200);
        until(&cluster, "/apis/coordination.k8s.io/v1/namespaces/default/configmaps", |found| found.status == 404).await;
        admin.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.coordination.k8s.io").await.expect(200);

        // In the place of a built-in resource it serves nothing, and takes nothing with it.
        definition["metadata"]["name"] = "leases.coordination.k8s.io".into();
        definition["spec"]["names"] = json!({"plural": "leases", "singular": "let", "kind": "Let"});
        let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
        admin.post(leases, &json!({"metadata": {"name": "a"}})).await.expect(201);
        establish(&cluster, &definition).await;
        let path = format!("{DEFINITIONS}/leases.coordination.k8s.io");
        admin.delete(&path, &json!({})).await.expect(200);
        until(&cluster, &path, |found| found.status == 404).await;
        assert_eq!(admin.get(&format!("{leases}/a")).await.expect(200).at("/kind"), "Lease");
    });
}
