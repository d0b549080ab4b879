//! Events, initial events, bookmarks, revisions of watches.

use serde_json::json;

use crate::harness::{pod, test};

const PATH: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn from_now_from_then_and_from_nothing() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let map = |name: &str| json!({"metadata": {"name": name}});
        admin.post(PATH, &map("a")).await.expect(201);
        let start = admin.get(PATH).await.at("/metadata/resourceVersion").to_owned();
        admin.post(PATH, &map("b")).await.expect(201);
        let mut from_then = admin.watch(&format!("{PATH}?watch=1&resourceVersion={start}")).await;
        assert_eq!(from_then.line().await, "ADDED b");
        let mut from_nothing = admin.watch(&format!("{PATH}?watch=1")).await;
        assert_eq!((from_nothing.line().await, from_nothing.line().await), ("ADDED a".into(), "ADDED b".into()));
        admin.delete(&format!("{PATH}/a"), &json!({})).await.expect(200);
        let gone = from_then.next().await.expect("an event");
        assert_eq!((gone["type"].as_str(), gone["object"]["metadata"]["name"].as_str()), (Some("DELETED"), Some("a")));
        let newest = admin.get(PATH).await.at("/metadata/resourceVersion").to_owned();
        assert_eq!(gone["object"]["metadata"]["resourceVersion"], newest.as_str(), "the revision of the deletion");
    });
}

#[test]
fn initial_events_and_bookmarks() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        admin.post(PATH, &json!({"metadata": {"name": "a"}})).await.expect(201);
        let query =
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=100";
        let mut watch = admin.watch(&format!("{PATH}?{query}")).await;
        assert_eq!(watch.line().await, "ADDED a");
        let end = watch.next().await.expect("an event");
        assert_eq!(
            (end["type"].as_str(), &end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"]),
            (Some("BOOKMARK"), &json!("true"))
        );
        let before = cluster.world.monotonic();
        assert_eq!(watch.next().await.expect("an event")["type"], "BOOKMARK");
        assert!(cluster.world.monotonic().saturating_sub(before).as_secs() >= 59);
        assert_eq!(watch.next().await, None, "the time of the watch is over");
        assert_eq!(admin.get(&format!("{PATH}?watch=1&sendInitialEvents=true")).await.status, 422);
    });
}

#[test]
fn selectors_turn_changes_into_additions_and_deletions() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        cluster.namespace("default").await;
        let path = "/api/v1/namespaces/default/pods";
        let start = admin.get(path).await.at("/metadata/resourceVersion").to_owned();
        let mut by_label = admin.watch(&format!("{path}?watch=1&resourceVersion={start}&labelSelector=x%3Dy")).await;
        let mut by_node =
            admin.watch(&format!("/api/v1/pods?watch=1&resourceVersion={start}&fieldSelector=spec.nodeName%3Dn")).await;
        let mut by_name = admin.watch(&format!("{path}?watch=1&resourceVersion={start}&fieldSelector=metadata.name%3Dp")).await;
        admin.post(path, &pod("other")).await.expect(201);
        admin.post(path, &pod("p")).await.expect(201);
        let label = |value: serde_json::Value| json!({"metadata": {"labels": {"x": value}}});
        admin.patch(&format!("{path}/p"), "merge-patch", &label(json!("y"))).await.expect(200);
        admin.patch(&format!("{path}/p"), "merge-patch", &label(json!(null))).await.expect(200);
        let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
        admin.post(&format!("{path}/p/binding"), &binding).await.expect(201);
        assert_eq!((by_label.line().await, by_label.line().await), ("ADDED p".into(), "DELETED p".into()));
        assert_eq!(by_node.line().await, "ADDED p");
        assert_eq!(by_name.line().await, "ADDED p");
    });
}

#[test]
fn tables_have_columns_once() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        for name in ["a", "b"] {
            admin.post(PATH, &json!({"metadata": {"name": name}})).await.expect(201);
        }
        let answer = admin
            .send(
                "GET",
                &format!("{PATH}?watch=1&timeoutSeconds=1"),
                &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
                None,
            )
            .await
            .expect(200);
        let lines: Vec<serde_json::Value> = answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0]["object"]["columnDefinitions"].is_array() && lines[1]["object"]["columnDefinitions"].is_null());
        assert_eq!(lines[1]["object"]["rows"][0]["cells"][0], "b");
    });
}

#[test]
fn a_new_server_knows_no_history() {
    test(|cluster| async move {
        cluster.admin.post(PATH, &json!({"metadata": {"name": "a"}})).await.expect(201);
        let other = cluster.another_server().await;
        let mut old = other.watch(&format!("{PATH}?watch=1&resourceVersion=1")).await;
        let error = old.next().await.expect("an event");
        assert_eq!((error["type"].as_str(), error["object"]["code"].as_i64()), (Some("ERROR"), Some(410)));
        let mut now = other.watch(&format!("{PATH}?watch=1")).await;
        assert_eq!(now.line().await, "ADDED a");
        cluster.admin.post(PATH, &json!({"metadata": {"name": "b"}})).await.expect(201);
        assert_eq!(now.line().await, "ADDED b", "the other server's write");
    });
}
