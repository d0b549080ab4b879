//! Scenarios of several managers and one object. After kubernetes test/integration/apiserver/apply/apply_test.go and
//! structured-merge-diff merge/*_test.go.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::test_schema::{Type, thing};
use super::{ApplyError, FieldManager, ScaleFields, Set, Versions, same_managers};

/// An object with a history.
struct World {
    schema: Type,
    reset: Set,
    object: Value,
    clock: u32,
}

impl World {
    fn new() -> Self {
        let object = json!({"apiVersion": "v1", "kind": "Thing"});
        Self { schema: thing(), reset: Set::of_fields(&[&["status"]]), object, clock: 0 }
    }

    /// An object that was made before anybody applied anything.
    fn with(object: Value) -> Self {
        let mut world = Self::new();
        world.object = whole(object);
        world
    }

    fn manager<'a>(&'a self, subresource: &'a str, now: &'a str) -> FieldManager<'a, &'a Type> {
        FieldManager { schema: &self.schema, api_version: "v1", versions: Versions::Same, subresource, reset: &self.reset, now }
    }

    fn tick(&mut self) -> String {
        self.clock += 1;
        format!("2026-01-01T00:00:{:02}Z", self.clock)
    }

    fn try_apply(&mut self, manager: &str, configuration: Value, force: bool) -> Result<(), ApplyError> {
        let now = self.tick();
        let object = self.manager("", &now).apply(&self.object, &whole(configuration), manager, force)?;
        self.object = object;
        Ok(())
    }

    #[track_caller]
    fn apply(&mut self, manager: &str, configuration: Value) -> &mut Self {
        self.try_apply(manager, configuration, false).expect("applies");
        self
    }

    fn update(&mut self, manager: &str, change: impl FnOnce(&mut Value)) -> &mut Self {
        let now = self.tick();
        let mut new = self.object.clone();
        change(&mut new);
        self.manager("", &now).update(&self.object, &mut new, manager);
        self.object = new;
        self
    }

    #[track_caller]
    fn spec(&self, expected: Value) -> &Self {
        assert_eq!(self.object["spec"], expected);
        self
    }

    /// `manager operation fields` of each entry.
    fn owners(&self) -> Vec<String> {
        let entries = self.object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        entries.iter().map(|one| format!("{} {} {}", text(one, "manager"), text(one, "operation"), one["fieldsV1"])).collect()
    }
}

fn whole(mut object: Value) -> Value {
    object["apiVersion"] = "v1".into();
    object["kind"] = "Thing".into();
    object["metadata"]["name"] = "t".into();
    object
}

#[track_caller]
fn conflicts(outcome: Result<(), ApplyError>) -> String {
    match outcome {
        Err(ApplyError::Conflicts(conflicts)) => conflicts.to_string(),
        other => panic!("no conflict: {other:?}"),
    }
}

#[test]
fn applying_removes_what_was_applied_and_nobody_else_owns() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1, "selector": {"x": "y"}}}));
    assert_eq!(world.owners(), [r#"a Apply {"f:spec":{"f:replicas":{},"f:selector":{}}}"#]);
    world.apply("b", json!({"spec": {"replicas": 1}})).apply("a", json!({"spec": {}}));
    world.spec(json!({"replicas": 1}));
    assert_eq!(world.owners(), [r#"b Apply {"f:spec":{"f:replicas":{}}}"#, r#"a Apply {"f:spec":{}}"#]);
    world.apply("b", json!({}));
    assert_eq!(world.object.get("spec"), Some(&json!({})));
}

#[test]
fn conflicts_name_managers_and_fields() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1, "containers": [{"name": "c", "image": "i"}]}}));
    let one = world.try_apply("b", json!({"spec": {"replicas": 2}}), false);
    assert_eq!(conflicts(one), r#"Apply failed with 1 conflict: conflict with "a": .spec.replicas"#);
    world.update("u", |object| object["spec"]["replicas"] = json!(3));
    let two = world.try_apply("b", json!({"spec": {"replicas": 2, "containers": [{"name": "c", "image": "j"}]}}), false);
    assert_eq!(
        conflicts(two),
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.containers[name=\"c\"].image\n\
         conflicts with \"u\" using v1:\n- .spec.replicas"
    );
    world.try_apply("b", json!({"spec": {"replicas": 2}}), true).expect("forced");
    world.spec(json!({"replicas": 2, "containers": [{"name": "c", "image": "i"}]}));
    assert_eq!(
        world.owners(),
        [
            r#"a Apply {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
            r#"b Apply {"f:spec":{"f:replicas":{}}}"#,
        ]
    );
}

#[test]
fn what_was_there_before_belongs_to_a_manager_of_its_own() {
    let mut world = World::with(json!({"metadata": {"labels": {"x": "y"}}, "spec": {"replicas": 1}, "status": {"phase": "p"}}));
    world.update("u", |object| object["spec"]["replicas"] = json!(2));
    assert!(world.owners().is_empty(), "nobody has applied anything");
    let refused = world.try_apply("a", json!({"spec": {"replicas": 3}}), false);
    assert_eq!(
        conflicts(refused),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .spec.replicas"#
    );
    world.apply("a", json!({"spec": {"replicas": 2}}));
    assert_eq!(
        world.owners(),
        [
            r#"a Apply {"f:spec":{"f:replicas":{}}}"#,
            r#"before-first-apply Update {"f:metadata":{"f:labels":{".":{},"f:x":{}}},"f:spec":{"f:replicas":{}}}"#,
        ]
    );
    assert_eq!(world.object["metadata"]["managedFields"][0].get("time"), None, "the object stayed as it was");
}

#[test]
fn lists_merge_by_key_and_value() {
    let mut world = World::new();
    world.apply("a", json!({"metadata": {"finalizers": ["x", "y"]}, "spec": {"containers": [{"name": "1"}, {"name": "3"}]}}));
    world.apply("b", json!({"metadata": {"finalizers": ["z"]}, "spec": {"containers": [{"name": "2"}, {"name": "3"}]}}));
    world.spec(json!({"containers": [{"name": "1"}, {"name": "2"}, {"name": "3"}]}));
    assert_eq!(world.object["metadata"]["finalizers"], json!(["x", "y", "z"]));
    world.apply("a", json!({"metadata": {"finalizers": ["y"]}}));
    world.spec(json!({"containers": [{"name": "2"}, {"name": "3"}]}));
    assert_eq!(world.object["metadata"]["finalizers"], json!(["y", "z"]));
    let b = &world.owners()[0];
    assert_eq!(
        b,
        r#"b Apply {"f:metadata":{"f:finalizers":{"v:\"z\"":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"2\"}":{".":{},"f:name":{}},"k:{\"name\":\"3\"}":{".":{},"f:name":{}}}}}"#
    );
}

#[test]
fn keys_have_defaults() {
    let ports = |ports: Value| json!({"spec": {"containers": [{"name": "c", "ports": ports}]}});
    let mut world = World::new();
    world.apply("a", ports(json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}])));
    world.apply(
        "a",
        ports(json!([{"containerPort": 80, "protocol": "TCP", "name": "n"}, {"containerPort": 80, "protocol": "UDP"}])),
    );
    assert_eq!(world.object["spec"]["containers"][0]["ports"].as_array().map(Vec::len), Some(2));
    assert!(world.owners()[0].contains(r#"k:{\"containerPort\":80,\"protocol\":\"TCP\"}"#), "{:?}", world.owners());
    let twice = world.try_apply("a", ports(json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}])), false);
    assert_eq!(
        twice.expect_err("twice the same port").to_string(),
        "failed to create typed patch object (/t; /v1, Kind=Thing): .spec.containers[name=\"c\"].ports: \
         duplicate entries for key [containerPort=80,protocol=\"TCP\"]"
    );
}

#[test]
fn configurations_must_fit() {
    let misfit = |spec: Value| match World::new().try_apply("a", json!({"spec": spec}), false) {
        Err(ApplyError::Configuration { source, .. }) => source.to_string(),
        other => panic!("applied: {other:?}"),
    };
    for (spec, expected) in [
        (json!({"nope": 1}), ".spec.nope: field not declared in schema"),
        (json!({"replicas": "1"}), ".spec.replicas: expected numeric (int or float), got string"),
        (
            json!({"containers": [{"name": 1}]}),
            ".spec.containers[name=1].name: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (json!({"containers": {"a": 1}}), ".spec.containers: expected list, got &{map[a:1]}"),
        (json!([1]), ".spec: expected map, got &{[1]}"),
        (
            json!({"containers": [{"image": "i"}]}),
            ".spec.containers: element 0: associative list with keys has an element that omits all key fields [\"name\"] \
             (and doesn't have default values for any key fields)",
        ),
        (
            json!({"nope": 1, "replicas": true}),
            "errors:\n  .spec.nope: field not declared in schema\n  .spec.replicas: expected numeric (int or float), got bool",
        ),
    ] {
        assert_eq!(misfit(spec), expected);
    }
    let managed = World::new().try_apply("a", json!({"metadata": {"managedFields": []}}), false);
    assert_eq!(managed, Err(ApplyError::ManagedFields));
}

#[test]
fn updates_are_tracked_from_the_first_apply_on() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1, "selector": {"x": "y"}}}));
    world.update("u", |object| {
        object["spec"]["replicas"] = json!(2);
        object["metadata"]["labels"] = json!({"l": "1"});
        object["status"] = json!({"phase": "ignored by the main resource"});
    });
    assert_eq!(
        world.owners(),
        [
            r#"a Apply {"f:spec":{"f:selector":{}}}"#,
            r#"u Update {"f:metadata":{"f:labels":{".":{},"f:l":{}}},"f:spec":{"f:replicas":{}}}"#,
        ]
    );
    let before = world.object.clone();
    world.update("u", |_| {});
    assert_eq!(world.object, before, "nothing changed, no new time");
    world.update("u", |object| object["metadata"]["managedFields"] = json!([{"operation": "Nope"}]));
    assert_eq!(world.owners().len(), 2, "garbage does not count");
    world.update("u", |object| object["metadata"]["managedFields"] = json!([{}]));
    assert_eq!(world.object["metadata"].get("managedFields"), None, "reset");
}

#[test]
fn owners_of_parts_own_what_has_become_one() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"selector": {"x": "y"}}}));
    world.update("u", |object| {
        object["metadata"]["managedFields"][0]["fieldsV1"] =
            json!({"f:spec": {"f:selector": {".": {}, "f:x": {}}, "f:containers": {"k:{\"name\":\"c\"}": {"f:args": {"i:0": {}}}}}});
        object["metadata"]["labels"] = json!({"l": "m"});
    });
    let whole = r#"a Apply {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:args":{}}},"f:selector":{}}}"#;
    assert_eq!(world.owners()[0], whole);
}

#[test]
fn subresources_have_entries_of_their_own() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1}}));
    world.reset = Set::of_fields(&[&["spec"]]);
    let now = world.tick();
    let mut new = world.object.clone();
    new["status"] = json!({"phase": "Running"});
    new["metadata"]["managedFields"] = json!([{}]);
    world.manager("status", &now).update(&world.object, &mut new, "a");
    world.object = new;
    assert_eq!(world.owners()[1], r#"a Update {"f:status":{"f:phase":{}}}"#);
    assert_eq!(world.object["metadata"]["managedFields"][1]["subresource"], "status");
    let now = world.tick();
    let refused = world.manager("status", &now).apply(&world.object, &whole(json!({"status": {"phase": "x"}})), "b", false);
    assert_eq!(
        refused.expect_err("somebody else's").to_string(),
        "Apply failed with 1 conflict: conflict with \"a\" with subresource \"status\" using v1: .status.phase"
    );
}

#[test]
fn many_updaters_become_ancient() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1}}));
    for index in 0..20 {
        world.update(&format!("u{index}"), |object| object["metadata"]["labels"][format!("l{index}")] = json!("x"));
    }
    let owners = world.owners();
    assert_eq!(owners.len(), 11);
    assert!(owners[1].starts_with("ancient-changes Update") && owners[1].contains("f:l10"), "{owners:?}");
    assert!(owners[10].starts_with("u19 Update"), "{owners:?}");
}

#[test]
fn kubectl_takes_over_what_it_applied_from_the_client() {
    let last = r#"{"apiVersion":"v1","kind":"Thing","metadata":{"name":"t"},"spec":{"replicas":1,"selector":{"a":"b"}}}"#;
    let key = "kubectl.kubernetes.io/last-applied-configuration";
    let mut world =
        World::with(json!({"metadata": {"annotations": {key: last}}, "spec": {"replicas": 1, "selector": {"a": "b"}}}));
    let other = world.try_apply("other", json!({"spec": {"replicas": 2}}), false);
    conflicts(other);
    world.apply("kubectl", json!({"spec": {"replicas": 2, "selector": {"a": "<c>"}}}));
    let annotation = world.object["metadata"]["annotations"][key].as_str().expect("kept").to_owned();
    assert_eq!(
        annotation,
        "{\"apiVersion\":\"v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"t\"},\"spec\":{\"replicas\":2,\"selector\":{\"a\":\"\\u003cc\\u003e\"}}}\n"
    );
    world.update("u", |object| object["spec"]["replicas"] = json!(5));
    let refused = world.try_apply("kubectl", json!({"spec": {"replicas": 2, "selector": {"a": "d"}}}), false);
    assert_eq!(conflicts(refused), r#"Apply failed with 1 conflict: conflict with "u" using v1: .spec.replicas"#);
}

#[test]
fn scales_show_the_owners_of_replicas() {
    let mut world = World::new();
    world.apply("a", json!({"spec": {"replicas": 1}}));
    let entries = &world.object["metadata"]["managedFields"];
    let fields = ScaleFields::new(Some(entries), "v1", Versions::Same, &["spec", "replicas"]).expect("decodes");
    let scale = fields.of_scale().expect("an owner");
    assert_eq!((&scale[0]["apiVersion"], &scale[0]["manager"]), (&json!("autoscaling/v1"), &json!("a")));
    let update = json!([{"manager": "k", "operation": "Update", "apiVersion": "autoscaling/v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}}, "subresource": "scale", "time": "2026-01-01T00:00:00Z"}]);
    let parent = fields.of_parent(Some(&update)).expect("decodes").expect("an owner");
    assert_eq!(
        parent,
        json!([{"manager": "k", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}}, "subresource": "scale"}])
    );
}

#[test]
fn times_alone_are_no_difference() {
    let entry = |time: &str, field: &str| json!({"metadata": {"managedFields": [{"manager": "a", "time": time, "fieldsV1": {field: {}}}]}});
    assert!(same_managers(&entry("1", "f:x"), &entry("2", "f:x")).is_some());
    assert!(same_managers(&entry("1", "f:x"), &entry("1", "f:y")).is_none());
}

fn configurations() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[a-c]", "[xy]", 0..3);
    let containers = proptest::collection::btree_map("[a-c]", "[ij]", 0..3);
    (labels, containers, proptest::option::of(0..3_i64)).prop_map(|(labels, containers, replicas)| {
        let containers: Vec<Value> = containers.into_iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
        let mut object = json!({"metadata": {}, "spec": {}});
        if !labels.is_empty() {
            object["metadata"]["labels"] = json!(labels);
        }
        if !containers.is_empty() {
            object["spec"]["containers"] = containers.into();
        }
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = replicas.into();
        }
        object
    })
}

fn sets() -> impl Strategy<Value = Set> {
    let paths = proptest::collection::vec(proptest::collection::vec("[a-c]", 1..4), 0..6);
    paths.prop_map(|paths| {
        let mut set = Set::default();
        for path in paths {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            set.insert(&super::Path::fields(&names).0);
        }
        set
    })
}

proptest! {
    #[test]
    fn sets_follow_their_algebra(a in sets(), b in sets()) {
        let both = a.intersection(&b);
        prop_assert_eq!(a.difference(&b).union(&both), a.clone());
        prop_assert_eq!(a.clone().union(&b), b.clone().union(&a));
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.paths().into_iter().collect::<Set>(), a.clone());
        prop_assert_eq!(Set::decode(&a.encode()).expect("own form"), a);
    }

    #[test]
    fn applying_twice_is_applying_once(configuration in configurations(), other in configurations()) {
        let mut world = World::new();
        world.try_apply("o", other, true).expect("forced");
        world.try_apply("a", configuration.clone(), true).expect("forced");
        let once = world.object.clone();
        world.try_apply("a", configuration, false).expect("no conflict with what is so already");
        prop_assert_eq!(once, world.object);
    }

    #[test]
    fn applying_nothing_takes_back_what_was_applied(first in configurations(), second in configurations()) {
        let mut world = World::new();
        world.try_apply("a", first, true).expect("alone");
        let before = world.object.clone();
        world.try_apply("b", second, true).expect("forced");
        world.try_apply("b", json!({}), true).expect("nothing");
        // What `b` took from `a` and gave back is gone; nothing else is.
        for key in ["labels", "finalizers"] {
            let after = world.object["metadata"].get(key).and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, value) in after {
                prop_assert_eq!(&before["metadata"][key][&name], &value);
            }
        }
        prop_assert!(world.owners().iter().all(|owner| !owner.starts_with("b ")));
    }
}

/// Where a schema leaves open what a value is, the members of objects have owners of their own, however deep.
#[test]
fn open_values_are_owned_member_by_member() {
    let mut world = World::new();
    world.apply("one", json!({"open": {"a": {"x": 1, "list": [1, {"y": 2}]}}}));
    world.apply("two", json!({"open": {"a": {"z": true}, "b": "text"}}));
    assert_eq!(world.object["open"], json!({"a": {"x": 1, "list": [1, {"y": 2}], "z": true}, "b": "text"}));
    assert_eq!(
        world.owners(),
        [
            r#"one Apply {"f:open":{"f:a":{".":{},"f:list":{},"f:x":{}}}}"#,
            r#"two Apply {"f:open":{"f:a":{".":{},"f:z":{}},"f:b":{}}}"#
        ]
    );
    // Another's member is in the way, whatever it is made to be.
    for value in [json!(2), json!({"deep": 1}), json!([1])] {
        let conflict = world.try_apply("two", json!({"open": {"a": {"x": value, "z": true}}}), false);
        assert!(matches!(conflict, Err(ApplyError::Conflicts(_))), "{value}");
    }
    // What is not applied any more goes; what others own stays.
    world.apply("one", json!({"open": {"a": {"list": [3]}}}));
    assert_eq!(world.object["open"], json!({"a": {"list": [3], "z": true}, "b": "text"}));
    // A list is one value, an object that becomes one takes its members along.
    world.update("three", |object| object["open"]["a"] = json!(["now", "a", "list"]));
    assert_eq!(world.owners(), [r#"two Apply {"f:open":{"f:b":{}}}"#, r#"three Update {"f:open":{"f:a":{}}}"#]);
}
