//! Custom kinds of whole definitions.

use daruma_api::apply::{ListKind, Schema as _, Shape};
use serde_json::{Value, json};

use super::CustomKind;
use super::fixtures::{cron_tab, first, memcached, served, with_spec};
use crate::kind::{Kind, Scope};

fn texts(errors: Vec<daruma_api::status::FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// What is wrong with a `spec` of a schema.
#[track_caller]
fn check(schema: Value, spec: Value, expected: &[&str]) {
    let kind = first(with_spec(schema));
    let object = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"}, "spec": spec});
    assert_eq!(texts(kind.validate(&object)), expected, "{object}");
}

fn memcached_kind() -> std::sync::Arc<CustomKind> {
    CustomKind::of(&served(memcached())).pop().expect("a version")
}

#[test]
fn names_are_those_that_were_accepted() {
    let mut definition = served(memcached());
    definition["status"]["acceptedNames"]["shortNames"] = json!(["mc"]);
    let kinds = CustomKind::of(&definition);
    let [old, new] = kinds.as_slice() else { panic!("two versions") };
    let names = new.names();
    assert_eq!((names.group, names.version, names.kind), ("cache.example.com", "v1", "Memcached"));
    assert_eq!((names.plural, names.singular, new.list_kind()), ("memcacheds", "memcached", "MemcachedList"));
    assert_eq!((names.short_names, names.categories, names.scope), (&["mc"][..], &["all"][..], Scope::Namespaced));
    assert_eq!((old.storage_version(), new.storage_version()), ("v1", "v1"));
    assert_eq!(new.subresources().iter().map(|one| one.name).collect::<Vec<_>>(), ["status"]);
    assert!(old.subresources().is_empty());
    assert_eq!(
        old.deprecation_warning(),
        Some("cache.example.com/v1alpha1 Memcached is deprecated; use cache.example.com/v1 Memcached")
    );
    assert_eq!(new.deprecation_warning(), None);
    assert!(!new.needs_webhook() && !new.supports_strategic_merge() && !new.allows_unconditional_update());
    definition["spec"]["versions"][0]["served"] = false.into();
    definition["status"]["conditions"] = json!([{"type": "Terminating", "status": "True"}]);
    let kinds = CustomKind::of(&definition);
    assert_eq!(kinds.len(), 1);
    assert_eq!(kinds[0].names().verbs, ["delete", "deletecollection", "get", "list", "watch"]);
    let again = CustomKind::of(&served(cron_tab()));
    assert!(std::ptr::eq(first(cron_tab()).names(), again[0].names()), "equal names are kept once");
    let scale = again[0].scale().expect("a scale");
    assert_eq!((scale.spec_replicas, scale.status_replicas), (".spec.replicas", ".status.replicas"));
    assert_eq!(scale.label_selector, Some(".status.labelSelector"));
    assert_eq!(again[0].selectable_fields(), ["spec.image"]);
    let scale = again[0].subresources()[0];
    assert_eq!((scale.name, scale.group, scale.version, scale.kind), ("scale", "autoscaling", "v1", "Scale"));
}

#[test]
fn unknown_members_are_told_and_go() {
    let kind = memcached_kind();
    let mut object = json!({
        "apiVersion": "cache.example.com/v1",
        "kind": "Memcached",
        "metadata": {"name": "a", "creationTimestamp": null, "foo": 1},
        "bar": 1,
        "spec": {
            "size": 1,
            "nope": true,
            "labels": {"a": "b"},
            "containers": [{"name": "c", "imag": "x", "mounts": [{"path": "/", "ro": true}]}],
            "raw": {"any": {"thing": [1]}, "known": {"a": 1, "b": 2}},
            "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "nam": "q"}, "spec": {"x": 1}},
            "claim": {"apiVersion": "v1", "kind": "Claim", "metadata": {"labels": {"a": "b"}}, "spec": {"size": "1", "more": 1}, "extra": 1},
        },
    });
    let unpruned = object.clone();
    let expected = [
        "unknown field \"metadata.foo\"",
        "unknown field \"bar\"",
        "unknown field \"spec.claim.extra\"",
        "unknown field \"spec.claim.spec.more\"",
        "unknown field \"spec.containers[0].imag\"",
        "unknown field \"spec.containers[0].mounts[0].ro\"",
        "unknown field \"spec.nope\"",
        "unknown field \"spec.raw.known.b\"",
        "unknown field \"spec.template.metadata.nam\"",
    ];
    let mut kept = unpruned.clone();
    assert_eq!(kind.check_fields(&mut kept, false).expect("right types"), expected);
    assert_eq!(kept["spec"], unpruned["spec"]);
    assert_eq!(kind.check_fields(&mut object, true).expect("right types"), expected);
    assert_eq!(
        object,
        json!({
            "apiVersion": "cache.example.com/v1",
            "kind": "Memcached",
            "metadata": {"name": "a"},
            "spec": {
                "size": 1,
                "labels": {"a": "b"},
                "containers": [{"name": "c", "mounts": [{"path": "/"}]}],
                "raw": {"any": {"thing": [1]}, "known": {"a": 1}},
                "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": 1}},
                "claim": {"apiVersion": "v1", "kind": "Claim", "metadata": {"labels": {"a": "b"}}, "spec": {"size": "1"}},
            },
        })
    );
    let open = first(memcached());
    assert_eq!(open.check_fields(&mut unpruned.clone(), true).expect("right types"), ["unknown field \"metadata.foo\""]);
    let error = kind.check_fields(&mut json!({"metadata": {"labels": {"a": 1}}}), true).expect_err("a number");
    assert_eq!(
        error.message,
        "Memcached in version \"v1\" cannot be handled as a Memcached: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"
    );
}

#[test]
fn defaults_are_filled_in() {
    let kind = memcached_kind();
    let mut object = json!({"spec": {
        "size": null,
        "mode": null,
        "note": null,
        "containers": [{"name": "a", "mounts": [{}]}, {"name": "b", "port": 1}],
        "labels": {"a": null},
        "raw": {"free": null},
    }});
    kind.default(&mut object);
    assert_eq!(
        object,
        json!({"spec": {
            "mode": "Single",
            "note": null,
            "containers": [{"name": "a", "port": 80, "mounts": [{"readOnly": false}]}, {"name": "b", "port": 1}],
            "labels": {},
            "raw": {"free": null},
        }})
    );
    let mut twice = object.clone();
    kind.default(&mut twice);
    assert_eq!(twice, object);
}

#[test]
fn values_follow_their_schema() {
    let of = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
    let long = "x".repeat(4);
    for (schema, value, expected) in [
        (
            json!({"type": "integer"}),
            json!("3"),
            vec!["spec.a: Invalid value: \"string\": spec.a in body must be of type integer: \"string\""],
        ),
        (
            json!({"type": "integer"}),
            json!(1.5),
            vec!["spec.a: Invalid value: \"number\": spec.a in body must be of type integer: \"number\""],
        ),
        (json!({"type": "integer"}), json!(2.0), vec![]),
        (json!({"type": "number"}), json!(2), vec![]),
        (
            json!({"type": "string"}),
            json!(true),
            vec!["spec.a: Invalid value: \"boolean\": spec.a in body must be of type string: \"boolean\""],
        ),
        (
            json!({"type": "string"}),
            Value::Null,
            vec!["spec.a: Invalid value: \"null\": spec.a in body must be of type string: \"null\""],
        ),
        (json!({"type": "string", "nullable": true}), Value::Null, vec![]),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["x", 1]),
            vec!["spec.a[1]: Invalid value: \"integer\": spec.a[1] in body must be of type string: \"integer\""],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "boolean"}}),
            json!({"k": "v"}),
            vec!["spec.a.k: Invalid value: \"string\": spec.a.k in body must be of type boolean: \"string\""],
        ),
        (json!({"x-kubernetes-int-or-string": true}), json!("50%"), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            vec!["spec.a: Invalid value: \"boolean\": spec.a in body must be of type integer,string: \"boolean\""],
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 10}),
            json!(0),
            vec!["spec.a: Invalid value: 0: spec.a in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 10}),
            json!(11),
            vec!["spec.a: Invalid value: 11: spec.a in body should be less than or equal to 10"],
        ),
        (
            json!({"type": "number", "minimum": 0.5, "exclusiveMinimum": true}),
            json!(0.5),
            vec!["spec.a: Invalid value: 0.5: spec.a in body should be greater than 0.5"],
        ),
        (
            json!({"type": "number", "maximum": 2, "exclusiveMaximum": true}),
            json!(2),
            vec!["spec.a: Invalid value: 2: spec.a in body should be less than 2"],
        ),
        (
            json!({"type": "integer", "multipleOf": 5}),
            json!(7),
            vec!["spec.a: Invalid value: 7: spec.a in body should be a multiple of 5"],
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(5_000_000_000_i64),
            vec!["<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.a"],
        ),
        (json!({"type": "string", "maxLength": 3}), json!(long), vec!["spec.a: Too long: may not be more than 3 bytes"]),
        (
            json!({"type": "string", "minLength": 5}),
            json!("x"),
            vec!["spec.a: Invalid value: \"x\": spec.a in body should be at least 5 chars long"],
        ),
        (
            json!({"type": "string", "pattern": "^[a-z]+$"}),
            json!("A"),
            vec!["spec.a: Invalid value: \"A\": spec.a in body should match '^[a-z]+$'"],
        ),
        (
            json!({"type": "string", "enum": ["b", "a"]}),
            json!("x"),
            vec!["spec.a: Unsupported value: \"x\": supported values: \"b\", \"a\""],
        ),
        (
            json!({"type": "integer", "enum": [1, 2]}),
            json!(3),
            vec!["spec.a: Unsupported value: 3: supported values: \"1\", \"2\""],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("yesterday"),
            vec!["spec.a: Invalid value: \"yesterday\": spec.a in body must be of type date-time: \"yesterday\""],
        ),
        (json!({"type": "string", "format": "unheard-of"}), json!("x"), vec![]),
        (
            json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
            json!([]),
            vec!["spec.a: Invalid value: 0: spec.a in body should have at least 1 items"],
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["x", "y"]),
            vec!["spec.a: Too many: 2: must have at most 1 items"],
        ),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            vec!["spec.a: Invalid value: 0: spec.a in body should have at least 1 properties"],
        ),
        (
            json!({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}}),
            json!({"a": "", "b": ""}),
            vec!["spec.a: Too many: 2: must have at most 1 items"],
        ),
        (
            json!({"type": "object", "required": ["b"], "properties": {"b": {"type": "string"}}}),
            json!({}),
            vec!["spec.a.b: Required value"],
        ),
        (
            json!({"type": "string", "anyOf": [{"pattern": "^a"}, {"minLength": 5}]}),
            json!("b"),
            vec![
                "<nil>: Invalid value: \"\": \"spec.a\" must validate at least one schema (anyOf)",
                "spec.a: Invalid value: \"b\": spec.a in body should match '^a'",
            ],
        ),
        (
            json!({"type": "string", "oneOf": [{"pattern": "^a"}, {"minLength": 1}]}),
            json!("ab"),
            vec![
                "<nil>: Invalid value: \"\": \"spec.a\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ],
        ),
        (
            json!({"type": "string", "allOf": [{"pattern": "^a"}, {"minLength": 1}]}),
            json!("b"),
            vec![
                "spec.a: Invalid value: \"b\": spec.a in body should match '^a'",
                "<nil>: Invalid value: \"\": \"spec.a\" must validate all the schemas (allOf)",
            ],
        ),
        (
            json!({"type": "string", "not": {"pattern": "^a"}}),
            json!("a"),
            vec!["<nil>: Invalid value: \"\": \"spec.a\" must not validate the schema (not)"],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
            json!(["x", "y", "x", "x"]),
            vec!["spec.a[2]: Duplicate value: \"x\""],
        ),
    ] {
        check(of(schema), json!({"a": value}), &expected);
    }
}

#[test]
fn objects_of_a_real_definition() {
    let kind = memcached_kind();
    let mut object = json!({
        "apiVersion": "cache.example.com/v1",
        "kind": "Memcached",
        "metadata": {"name": "a"},
        "spec": {
            "size": 1,
            "port": "http",
            "containers": [{"name": "c", "port": 80}, {"name": "d", "port": 80}],
            "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}},
            "storage": {"file": "x"},
        },
    });
    assert_eq!(texts(kind.validate(&object)), [""; 0]);
    let valid = object.clone();
    object["spec"] = json!({
        "port": true,
        "containers": [{"name": "c", "port": 80}, {"name": "c", "port": 80}],
        "template": {"apiVersion": "a/b/c", "metadata": {"name": "p/q", "labels": {"-": ""}}},
        "storage": {"file": "x", "memory": "y"},
    });
    assert_eq!(
        texts(kind.validate(&object)),
        [
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            "<nil>: Invalid value: \"\": \"spec.port\" must validate at least one schema (anyOf)",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer: \"boolean\"",
            "<nil>: Invalid value: \"\": \"spec.storage\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            "spec.size: Required value",
            "spec.template.kind: Required value",
            "spec.template.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            "spec.template.metadata.name: Invalid value: \"p/q\": may not contain '/'",
            "spec.template.metadata.labels: Invalid value: \"-\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "spec.containers[1]: Duplicate value: {\"name\":\"c\",\"port\":80}",
        ]
    );
    // What was wrong before and is not touched is let through.
    let mut old = valid.clone();
    old["spec"]["size"] = (-1).into();
    old["spec"]["containers"][0]["mounts"] = json!([{"path": ""}]);
    let mut new = old.clone();
    new["spec"]["containers"][1]["mounts"] = json!([{"path": ""}]);
    assert_eq!(
        texts(kind.validate_change(&new, &old)),
        [
            "spec.containers[1].mounts[0].path: Invalid value: \"\": spec.containers[1].mounts[0].path in body should be at least 1 chars long"
        ]
    );
    new["spec"]["size"] = (-2).into();
    assert_eq!(texts(kind.validate_change(&new, &old)).len(), 2);
}

#[test]
fn scales_are_numbers() {
    let kind = first(cron_tab());
    let object =
        |spec: Value, status: Value| json!({"spec": {"replicas": spec}, "status": {"replicas": status, "labelSelector": 1}});
    assert_eq!(
        texts(kind.validate(&object(json!(-1), json!("x")))),
        [
            "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 1",
            "status.labelSelector: Invalid value: \"integer\": status.labelSelector in body must be of type string: \"integer\"",
            "status.replicas: Invalid value: \"string\": status.replicas in body must be of type integer: \"string\"",
            ".spec.replicas: Invalid value: -1: should be a non-negative integer",
            ".status.replicas: Invalid value: 0: .status.replicas accessor error: x is of the type string, expected int64",
            ".status.labelSelector: Invalid value: \"\": .status.labelSelector accessor error: 1 is of the type int64, expected string",
        ]
    );
}

#[test]
fn writes_and_generations() {
    let kind = first(cron_tab());
    let mut old = json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}, "status": {"replicas": 5}});
    kind.prepare_create(&mut old);
    assert_eq!(old, json!({"metadata": {"name": "a", "generation": 1}, "spec": {"replicas": 1}}));
    old["status"] = json!({"replicas": 1});
    let mut new = old.clone();
    new["status"] = json!({"replicas": 2});
    new["metadata"]["labels"] = json!({"a": "b"});
    kind.prepare_update(&mut new, &old);
    assert_eq!((&new["status"], &new["metadata"]["generation"]), (&json!({"replicas": 1}), &json!(1)));
    new["spec"]["replicas"] = 2.into();
    kind.prepare_update(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 2);
    let mut new = json!({"metadata": {"name": "a", "labels": {"x": "y"}, "managedFields": [1]}, "spec": {"replicas": 9}, "status": {"replicas": 3}});
    kind.prepare_status_update(&mut new, &old);
    assert_eq!(
        new,
        json!({"metadata": {"name": "a", "generation": 1, "managedFields": [1]}, "spec": {"replicas": 1}, "status": {"replicas": 3}})
    );
    assert_eq!(kind.reset_fields("status"), [&["metadata"][..], &["spec"]]);
    assert_eq!(kind.reset_fields(""), [&["status"][..]]);
    // Without a status subresource, a status is like any other member.
    let kind = first(memcached());
    kind.prepare_update(&mut new, &old);
    assert_eq!((&new["status"], &new["metadata"]["generation"]), (&json!({"replicas": 3}), &json!(2)));
    assert!(kind.reset_fields("").is_empty());
}

#[test]
fn statuses_are_checked_alone() {
    let kind = memcached_kind();
    let condition =
        json!({"type": "Ready", "status": "Maybe", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let object = json!({"spec": {"size": "wrong"}, "status": {"conditions": [condition.clone(), condition]}});
    assert_eq!(
        texts(kind.validate_status_update(&object, &json!({}))),
        [
            "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"True\", \"False\", \"Unknown\"",
            "status.conditions[1].status: Unsupported value: \"Maybe\": supported values: \"True\", \"False\", \"Unknown\"",
            "status.conditions[1]: Duplicate value: {\"type\":\"Ready\"}",
        ]
    );
    assert_eq!(texts(kind.validate_status_update(&object, &object)), [""; 0], "old faults stay");
}

#[test]
fn tables() {
    let now = "2026-01-01T00:04:10Z".parse().expect("a time");
    let kind = first(cron_tab());
    let headings: Vec<_> = kind.columns().iter().map(|one| (one.name, one.kind, one.format, one.priority)).collect();
    assert_eq!(
        headings,
        [("Name", "string", "name", 0), ("Spec", "string", "", 0), ("Replicas", "integer", "", 0), ("Age", "date", "", 0)]
    );
    assert_eq!(
        kind.columns()[3].description,
        "Custom resource definition column (in JSONPath format): .metadata.creationTimestamp"
    );
    let object =
        json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"cronSpec": "* * * * */5"}});
    assert_eq!(Value::from(kind.cells(&object, now)), json!(["a", "* * * * */5", null, "4m10s"]));
    let kinds = CustomKind::of(&served(memcached()));
    assert_eq!(kinds[0].columns().iter().map(|one| one.name).collect::<Vec<_>>(), ["Name", "Age"]);
    assert_eq!(Value::from(kinds[0].cells(&object, now)), json!(["a", "4m10s"]));
    let object = json!({
        "metadata": {"name": "m"},
        "spec": {"containers": [{"name": "x"}, {"name": "y"}], "storage": {"file": "f"}},
        "status": {"conditions": [
            {"type": "Synced", "status": "False", "lastTransitionTime": "yesterday"},
            {"type": "Ready", "status": "True"},
        ]},
    });
    assert_eq!(Value::from(kinds[1].cells(&object, now)), json!(["m", "True", "x", "{\"file\":\"f\"}", "<invalid>"]));
}

#[test]
fn apply_sees_list_types_and_open_places() {
    let kind = memcached_kind();
    let root = kind.view().expect("a schema");
    let shown = |path: &str| {
        let mut at = root;
        for name in path.split('.') {
            at = match at.shape() {
                Shape::List { of, .. } => of.field(name),
                Shape::Map { of, .. } => at.field(name).or(of),
                _ => at.field(name),
            }
            .unwrap_or_else(|| panic!("{name} of {path}"));
        }
        let keys: Vec<String> = at.keys().iter().map(|key| format!("{}={:?}", key.name, key.default)).collect();
        match at.shape() {
            Shape::List { kind: ListKind::Map, .. } => format!("map {}", keys.join(" ")),
            Shape::List { kind, .. } => format!("{kind:?}"),
            Shape::Map { of, atomic } => format!("object {} {}", of.is_some(), atomic),
            Shape::Scalar(scalar) => format!("{scalar:?}"),
            Shape::Untyped => "untyped".to_owned(),
            Shape::Deduced => "deduced".to_owned(),
        }
    };
    for (path, expected) in [
        ("apiVersion", "Text"),
        ("metadata.labels", "object true false"),
        ("metadata.finalizers", "Set"),
        ("spec", "object false false"),
        ("spec.size", "Numeric"),
        ("spec.port", "Any"),
        ("spec.labels", "object true false"),
        ("spec.args", "Set"),
        ("spec.containers", "map name=None port=Some(Number(80))"),
        ("spec.containers.mounts", "Atomic"),
        ("spec.raw", "object true false"),
        ("spec.raw.any", "deduced"),
        ("spec.template.metadata.ownerReferences", "map uid=None"),
        ("status.conditions", "map type=None"),
    ] {
        assert_eq!(shown(path), expected, "{path}");
    }
}
