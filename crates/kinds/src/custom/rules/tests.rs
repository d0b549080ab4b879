//! Rules in CEL.

use serde_json::{Value, json};

use crate::custom::fixtures::{first, with_spec};
use crate::kind::Kind;

fn texts(errors: Vec<daruma_api::status::FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// A schema of `spec` with one rule.
fn schema(rule: Value) -> Value {
    json!({
        "type": "object",
        "x-kubernetes-validations": [rule],
        "properties": {
            "min": {"type": "integer"},
            "max": {"type": "integer"},
            "ratio": {"type": "number"},
            "port": {"x-kubernetes-int-or-string": true},
            "size": {"type": "string"},
            "since": {"type": "string", "format": "date-time"},
            "wait": {"type": "string", "format": "duration"},
            "a.b-c": {"type": "string"},
            "for": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
            }},
        },
    })
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"}, "spec": spec})
}

#[track_caller]
fn check(rule: &str, spec: Value, expected: &[&str]) {
    let kind = first(with_spec(schema(json!({"rule": rule}))));
    assert_eq!(texts(kind.validate(&object(spec))), expected, "{rule}");
}

#[test]
fn expressions_say_what_they_say_in_the_real_server() {
    let spec = json!({
        "min": 1, "max": 3, "ratio": 1, "port": "http", "size": "1Gi", "since": "2026-01-01T00:00:00Z", "wait": "90s", "a.b-c": "x",
        "for": "y", "labels": {"a.b/c": "1", "d": "2"}, "names": ["x", "y"], "parts": [{"name": "p", "count": 2}, {"name": "q"}],
    });
    for rule in [
        "self.min < self.max",
        "self.ratio == 1.0 && self.ratio < 2.0",
        "self.port == 'http'",
        "type(self.port) == string",
        "has(self.size) && quantity(self.size).isGreaterThan(quantity('500Mi'))",
        "quantity(self.size).add(quantity('1Gi')).compareTo(quantity('2Gi')) == 0",
        "self.since < timestamp('2026-01-02T00:00:00Z')",
        "self.wait == duration('1m30s')",
        "self.a__dot__b__dash__c == 'x' && self.__for__ == 'y'",
        "self.labels.all(k, k.size() > 0) && self.labels['a.b/c'] == '1' && 'd' in self.labels",
        "self.names.exists(n, n == 'x') && self.names.isSorted() && self.names.indexOf('y') == 1",
        "self.parts.filter(p, has(p.count)).map(p, p.count) == [2]",
        "self.parts.exists_one(p, p.name == 'p')",
        "self.parts.map(p, p.name).max() == 'q' && [1, 2].sum() == 3",
        "sets.equivalent(self.names, ['y', 'x']) && sets.intersects(self.names, ['x']) && !sets.contains(self.names, ['z'])",
        "'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'a1b22'.find('[0-9]+') == '1'",
        "'a-b'.split('-')[1] == 'b' && 'A'.lowerAscii() == 'a' && ' a '.trim() == 'a'",
        "isIP('10.0.0.1') && ip('fe80::1').isLinkLocalUnicast() && !isIP('10.0.0.256')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsCIDR('11.0.0.0/9') && isCIDR('::/0')",
        "url('https://u@example.com:80/a?b=c').getPort() == '80' && url('https://h/?b=c').getQuery()['b'] == ['c'] && !isURL('x')",
        "self.?missing.orValue(5) == 5",
        "(self.max > 1 ? 'big' : 'small') == 'big'",
        "!has(self.parts[1].count)",
        "size(self.names) == 2 && self.min in [1, 2]",
        "!format.dns1123Label().validate(self.size.lowerAscii()).hasValue() && format.dns1123Label().validate('A').value().size() == 1",
        "format.named('qualifiedName').value().validate('a/b/c').hasValue() && !format.named('nope').hasValue()",
    ] {
        check(rule, spec.clone(), &[]);
    }
}

#[test]
fn broken_rules_are_told() {
    let spec = json!({"min": 3, "max": 1, "names": ["x"]});
    let told = "spec: Invalid value: \"object\"";
    check("self.min < self.max", spec.clone(), &["spec: Invalid value: failed rule: self.min < self.max"]);
    check("self.ratio > 1.0", spec.clone(), &[&format!("{told}: no such key: ratio evaluating rule: self.ratio > 1.0")]);
    check(
        "self.min / (self.max - 1) > 0",
        spec.clone(),
        &[&format!("{told}: division by zero evaluating rule: self.min / (self.max - 1) > 0")],
    );
    check(
        "self.min < self.names",
        spec.clone(),
        &[&format!(
            "{told}: 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self.min < self.names"
        )],
    );
    check("self.min", spec.clone(), &["spec: Invalid value: failed rule: self.min"]);
    for (rule, expected) in [
        (json!({"rule": "self.min < self.max", "message": " min first "}), "spec: Invalid value: min first"),
        (
            json!({"rule": "self.min < self.max", "messageExpression": "'%d is not below %d'.format([self.min, self.max])"}),
            "spec: Invalid value: 3 is not below 1",
        ),
        (
            json!({"rule": "self.min < self.max", "message": "m", "messageExpression": "string(self.ratio)"}),
            "spec: Invalid value: m",
        ),
        (
            json!({"rule": "self.min < self.max", "message": "no", "reason": "FieldValueForbidden", "fieldPath": ".min"}),
            "spec.min: Forbidden: no",
        ),
        (json!({"rule": "self.min < self.max", "message": "no", "reason": "FieldValueRequired"}), "spec: Required value: no"),
    ] {
        let kind = first(with_spec(schema(rule)));
        assert_eq!(texts(kind.validate(&object(spec.clone()))), [expected]);
    }
    let kind = first(with_spec(json!({"type": "object", "properties": {
        "a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self % 2 == 0", "message": "must be even"}]},
        "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'"}]}},
        "needed": {"type": "string", "maxLength": 1},
    }})));
    assert_eq!(
        texts(kind.validate(&object(json!({"a": 3, "list": ["y", "x"]})))),
        ["spec.a: Invalid value: 3: must be even", "spec.list[1]: Invalid value: \"x\": failed rule: self != 'x'"]
    );
    assert_eq!(
        texts(kind.validate(&object(json!({"a": 3, "needed": "xx"})))),
        [
            "spec.needed: Too long: may not be more than 1 bytes",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ]
    );
}

#[test]
fn rules_compare_with_what_was() {
    let kind = first(with_spec(schema(json!({"rule": "self.min >= oldSelf.min", "message": "may not shrink"}))));
    let of = |min: i64| object(json!({"min": min}));
    assert_eq!(texts(kind.validate(&of(1))), [""; 0], "nothing to compare with");
    assert_eq!(texts(kind.validate_change(&of(2), &of(1))), [""; 0]);
    assert_eq!(texts(kind.validate_change(&of(1), &of(2))), ["spec: Invalid value: may not shrink"]);
    let kind = first(with_spec(schema(
        json!({"rule": "oldSelf.hasValue() || self.min == 0", "optionalOldSelf": true, "message": "begins at zero"}),
    )));
    assert_eq!(texts(kind.validate(&of(1))), ["spec: Invalid value: begins at zero"]);
    assert_eq!(texts(kind.validate_change(&of(1), &of(0))), [""; 0]);
    // Faults of what did not change are let through.
    let kind = first(with_spec(schema(json!({"rule": "self.min > 5"}))));
    let mut new = of(1);
    new["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(texts(kind.validate_change(&new, &of(1))), [""; 0]);
    assert_eq!(texts(kind.validate_change(&of(2), &of(1))), ["spec: Invalid value: failed rule: self.min > 5"]);
    // Elements of maps are told by their keys.
    let parts = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
        "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "count": {
            "type": "integer", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}],
        }},
    }});
    let kind = first(with_spec(json!({"type": "object", "properties": {"parts": parts}})));
    let old = object(json!({"parts": [{"name": "a", "count": 1}, {"name": "b", "count": 2}]}));
    let new = object(json!({"parts": [{"name": "b", "count": 3}, {"name": "a", "count": 1}, {"name": "c", "count": 9}]}));
    assert_eq!(texts(kind.validate_change(&new, &old)), ["spec.parts[0].count: Invalid value: 3: is immutable"]);
}

#[test]
fn rules_see_names_and_may_not_cost_everything() {
    let mut definition = with_spec(schema(json!({"rule": "true"})));
    let root = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    root["x-kubernetes-validations"] = json!([
        {"rule": "self.metadata.name.startsWith('a') && self.kind == 'CronTab'"},
        {"rule": "self.metadata.name.size() > 3", "message": "a longer name", "fieldPath": ".spec"},
    ]);
    let kind = first(definition);
    assert_eq!(texts(kind.validate(&object(json!({"min": 1})))), ["spec: Invalid value: a longer name"]);
    let names: Vec<String> = (0..400).map(|index| index.to_string()).collect();
    let rule = "self.names.all(a, self.names.all(b, self.names.all(c, a != '' && b != '' && c != '')))";
    let kind = first(with_spec(schema(json!({"rule": rule}))));
    assert_eq!(
        texts(kind.validate(&object(json!({"names": names})))),
        [format!(
            "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
        )]
    );
}
