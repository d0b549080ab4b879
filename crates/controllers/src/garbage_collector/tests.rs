//! The graph and the verdicts.

use super::graph::{Effect, Graph, Identity, Node, Owner, Seen, Standing, Verdict, judge};

fn identity(kind: &str, namespace: &str, name: &str) -> Identity {
    Identity {
        kind: kind.to_owned(),
        api_version: "v1".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
    }
}

fn owner(name: &str, blocks: bool) -> Owner {
    Owner {
        kind: "Owner".to_owned(),
        api_version: "v1".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        controller: Some(true),
        block_owner_deletion: Some(blocks),
    }
}

fn child(name: &str, owners: &[Owner]) -> Seen {
    Seen { identity: identity("Child", "ns", name), owners: owners.to_vec(), ..Seen::default() }
}

fn parent(name: &str) -> Seen {
    Seen { identity: identity("Owner", "ns", name), ..Seen::default() }
}

fn attempt(name: &str) -> Effect {
    Effect::Attempt(format!("uid-{name}"))
}

#[test]
fn dependents_of_a_deleted_owner_are_looked_at() {
    let mut graph = Graph::default();
    assert_eq!(graph.seen(parent("a")), []);
    assert_eq!(graph.seen(child("x", &[owner("a", true)])), []);
    assert_eq!(graph.gone("uid-a"), [attempt("x")]);
    assert!(graph.is_absent(&owner("a", true), "ns"));
    assert_eq!(graph.gone("uid-x"), []);
    assert!(graph.is_empty());
}

#[test]
fn an_owner_never_seen_is_asked_for() {
    let mut graph = Graph::default();
    assert_eq!(graph.seen(child("x", &[owner("a", true)])), [attempt("a")]);
    assert!(!graph.get("uid-a").expect("named").observed);
    assert_eq!(graph.found_absent(&identity("Owner", "ns", "a")), [attempt("x")]);
    assert!(graph.get("uid-a").is_none());
}

#[test]
fn an_owner_that_shows_itself_late_is_fine() {
    let mut graph = Graph::default();
    graph.seen(child("x", &[owner("a", true)]));
    assert_eq!(graph.seen(parent("a")), []);
    assert!(graph.get("uid-a").expect("seen").observed);
    assert_eq!(graph.dependents("uid-a").len(), 1);
}

#[test]
fn foreground_deletion_waits_for_blocking_dependents() {
    let mut graph = Graph::default();
    graph.seen(parent("a"));
    graph.seen(child("x", &[owner("a", true)]));
    graph.seen(child("y", &[owner("a", false)]));
    let deleting = Seen { being_deleted: true, foreground: true, ..parent("a") };
    assert_eq!(graph.seen(deleting.clone()), [attempt("x"), attempt("y"), attempt("a")]);
    assert_eq!(graph.seen(deleting), [], "only once");
    assert_eq!(graph.blocking_dependents("uid-a").len(), 1);
    // The blocking one stops to block, then one goes.
    assert_eq!(graph.seen(child("x", &[owner("a", false)])), [attempt("a")]);
    assert!(graph.blocking_dependents("uid-a").is_empty());
    assert_eq!(graph.gone("uid-y"), [attempt("a")]);
}

#[test]
fn orphaning_is_asked_for_once() {
    let mut graph = Graph::default();
    graph.seen(parent("a"));
    let deleting = Seen { being_deleted: true, orphan: true, ..parent("a") };
    assert_eq!(graph.seen(deleting.clone()), [Effect::Orphan("uid-a".to_owned())]);
    assert_eq!(graph.seen(deleting), []);
}

#[test]
fn an_owner_in_another_namespace_is_reported() {
    let mut graph = Graph::default();
    graph.seen(Seen { identity: identity("Owner", "other", "a"), ..Seen::default() });
    let effects = graph.seen(child("x", &[owner("a", true)]));
    assert_eq!(effects, [Effect::WrongNamespace(identity("Child", "ns", "x"), owner("a", true)), attempt("x")]);
}

#[test]
fn dependents_that_disagree_get_another_look() {
    let mut graph = Graph::default();
    graph.seen(child("x", &[owner("a", true)]));
    let wrong = Owner { kind: "Wrong".to_owned(), ..owner("a", true) };
    assert_eq!(graph.seen(child("y", &[wrong])), [attempt("y")]);
    let effects = graph.found_absent(&identity("Owner", "ns", "a"));
    assert_eq!(effects, [attempt("x"), Effect::AttemptLater("uid-a".to_owned())]);
    assert_eq!(graph.get("uid-a").expect("kept").identity.kind, "Wrong");
}

#[track_caller]
fn check(standings: &[Standing], dependents: &[&Node], finalizers: (bool, bool), expected: Verdict) {
    let owners: Vec<(Owner, Standing)> =
        standings.iter().enumerate().map(|(number, standing)| (owner(&number.to_string(), true), *standing)).collect();
    assert_eq!(judge(&owners, dependents, finalizers.0, finalizers.1), expected);
}

#[test]
fn verdicts() {
    use Standing::{Dangling, Solid, Waiting};
    let calm = Node::default();
    let deleting = Node { deleting_dependents: true, ..Node::default() };
    check(&[], &[], (false, false), Verdict::Stay);
    check(&[Solid], &[], (false, false), Verdict::Stay);
    check(&[Solid, Dangling, Waiting], &[], (false, false), Verdict::RemoveReferences(vec!["uid-1".into(), "uid-2".into()]));
    check(&[Dangling], &[], (false, false), Verdict::Delete("Background"));
    check(&[Dangling], &[&calm], (true, false), Verdict::Delete("Orphan"));
    check(&[Dangling], &[&calm], (false, true), Verdict::Delete("Foreground"));
    check(&[Waiting], &[], (false, false), Verdict::Delete("Background"));
    check(&[Waiting], &[&calm], (false, false), Verdict::DeleteForeground { unblock: false });
    check(&[Waiting], &[&deleting], (false, false), Verdict::DeleteForeground { unblock: true });
}
