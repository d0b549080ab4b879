//! Pages, revisions and selectors of lists.

use serde_json::json;

use crate::harness::{Answer, Caller, test};

const PATH: &str = "/api/v1/namespaces/default/configmaps";

async fn fill(admin: &Caller, count: usize) {
    for index in 0..count {
        let parity = if index % 2 == 0 { "even" } else { "odd" };
        let body = json!({"metadata": {"name": format!("m{index:03}"), "labels": {"parity": parity}}, "data": {"a": "b"}});
        admin.post(PATH, &body).await.expect(201);
    }
}

fn names(answer: &Answer) -> Vec<String> {
    answer.json["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|one| one["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn pages() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        fill(admin, 7).await;
        let first = admin.get(&format!("{PATH}?limit=3")).await.expect(200);
        assert_eq!(names(&first), ["m000", "m001", "m002"]);
        assert_eq!(first.json["metadata"]["remainingItemCount"], 4);
        let token = first.at("/metadata/continue").to_owned();
        admin.post(PATH, &json!({"metadata": {"name": "m0021"}})).await.expect(201);
        let second = admin.get(&format!("{PATH}?limit=3&continue={token}")).await.expect(200);
        assert_eq!(names(&second), ["m003", "m004", "m005"], "what came later is not shown");
        assert_eq!(second.at("/metadata/resourceVersion"), first.at("/metadata/resourceVersion"));
        let token = second.at("/metadata/continue").to_owned();
        let last = admin.get(&format!("{PATH}?limit=3&continue={token}")).await.expect(200);
        assert_eq!((names(&last), last.at("/metadata/continue")), (vec!["m006".to_owned()], ""));
        let odd = admin.get(&format!("{PATH}?limit=2&labelSelector=parity%3Dodd")).await.expect(200);
        assert_eq!(
            (names(&odd), odd.json["metadata"].get("remainingItemCount")),
            (vec!["m001".to_owned(), "m003".to_owned()], None)
        );
        let token = odd.at("/metadata/continue").to_owned();
        let odd = admin.get(&format!("{PATH}?limit=2&labelSelector=parity%3Dodd&continue={token}")).await.expect(200);
        assert_eq!(names(&odd), ["m005"]);
        admin.get(&format!("{PATH}?limit=3&continue=x")).await.expect(400);
    });
}

#[test]
fn revisions() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        fill(admin, 2).await;
        let before = admin.get(PATH).await.expect(200);
        let version = before.at("/metadata/resourceVersion").to_owned();
        admin.delete(&format!("{PATH}/m000"), &json!({})).await.expect(200);
        assert_eq!(names(&admin.get(PATH).await), ["m001"]);
        let exact = admin.get(&format!("{PATH}?resourceVersion={version}&resourceVersionMatch=Exact")).await.expect(200);
        assert_eq!(names(&exact), ["m000", "m001"]);
        let newer = admin.get(&format!("{PATH}?resourceVersion={version}&resourceVersionMatch=NotOlderThan")).await.expect(200);
        assert_eq!(names(&newer), ["m001"]);
        let future = admin.get(&format!("{PATH}?resourceVersion=999999")).await.expect(504);
        assert!(future.message().starts_with("Too large resource version"), "{}", future.message());
        admin.get(&format!("{PATH}?resourceVersion=x")).await.expect(400);
        admin.get(&format!("{PATH}?resourceVersionMatch=Exact")).await.expect(422);
    });
}

#[test]
fn selectors() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        fill(admin, 4).await;
        let check = async |query: &str, expected: &[&str]| {
            let answer = admin.get(&format!("{PATH}?{query}")).await.expect(200);
            assert_eq!(names(&answer), expected, "{query}");
        };
        check("labelSelector=parity+in+(odd)", &["m001", "m003"]).await;
        check("fieldSelector=metadata.name%3Dm002", &["m002"]).await;
        check("fieldSelector=metadata.name!%3Dm002&labelSelector=parity%3Deven", &["m000"]).await;
        let bad = admin.get(&format!("{PATH}?fieldSelector=spec.x%3Dy")).await.expect(400);
        let known = "only \"metadata.name\", \"metadata.namespace\"";
        assert_eq!(bad.message(), format!("\"spec.x\" is not a known field selector: {known}"), "kubectl says what it asked for");
        let bad = admin.get("/api/v1/pods?fieldSelector=foo%3Dbar").await.expect(400);
        assert_eq!(bad.message(), "field label not supported: foo");
        let bad = admin.get("/api/v1/pods?labelSelector=a+b").await.expect(400);
        assert_eq!(bad.message(), "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
        let everywhere = admin.get("/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault").await.expect(200);
        assert_eq!(names(&everywhere).len(), 4);
    });
}

#[test]
fn long_lists_stream() {
    test(|cluster| async move {
        let admin = &cluster.admin;
        let data = "x".repeat(10_000);
        for index in 0..60 {
            admin.post(PATH, &json!({"metadata": {"name": format!("m{index:03}")}, "data": {"a": data}})).await.expect(201);
        }
        let all = admin.get(PATH).await.expect(200);
        assert_eq!(names(&all).len(), 60);
        assert!(all.headers.get("content-length").is_none());
    });
}
