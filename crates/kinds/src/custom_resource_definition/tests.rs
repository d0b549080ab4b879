//! Definitions, good and bad.

use serde_json::{Value, json};

use super::*;
use crate::custom::fixtures::{cron_tab, memcached};

fn created(mut definition: Value) -> Value {
    CustomResourceDefinition.default(&mut definition);
    CustomResourceDefinition.prepare_create(&mut definition);
    definition
}

fn texts(errors: Vec<FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut definition = cron_tab();
    change(&mut definition);
    let found = texts(CustomResourceDefinition.validate(&created(definition)));
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        // Lists of versions are long, and not what is tested.
        let shown = expected.split_once("[…]");
        let fits = shown.map_or(found == expected, |(head, tail)| found.starts_with(head) && found.ends_with(tail));
        assert!(fits, "{found}\n{expected}");
    }
}

/// The same with another schema of `spec`.
#[track_caller]
fn check_spec(spec: Value, expected: &[&str]) {
    let set = |definition: &mut Value| {
        let version = &mut definition["spec"]["versions"][0];
        version["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec;
        version["selectableFields"] = Value::Null;
    };
    let expected: Vec<String> =
        expected.iter().map(|one| format!("spec.validation.openAPIV3Schema.properties[spec]{one}")).collect();
    check(set, &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn definitions_are_defaulted_and_prepared() {
    let definition = created(memcached());
    assert_eq!(definition["spec"]["names"]["singular"], "memcached");
    assert_eq!(definition["spec"]["names"]["listKind"], "MemcachedList");
    assert_eq!(definition["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(definition["status"], json!({"acceptedNames": {"kind": "", "plural": ""}, "storedVersions": ["v1"]}));
    assert_eq!(definition["metadata"]["generation"], 1);
    let mut new = definition.clone();
    new["spec"]["versions"][0]["storage"] = true.into();
    new["spec"]["versions"][1]["storage"] = false.into();
    new["status"] = Value::Null;
    CustomResourceDefinition.prepare_update(&mut new, &definition);
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v1alpha1"]));
    assert_eq!(new["metadata"]["generation"], 2);
    let mut status = definition.clone();
    status["spec"]["group"] = "other".into();
    status["status"]["acceptedNames"]["kind"] = "Memcached".into();
    CustomResourceDefinition.prepare_status_update(&mut status, &definition);
    assert_eq!(status["spec"], definition["spec"]);
    assert_eq!(status["status"]["acceptedNames"]["kind"], "Memcached");
}

#[test]
fn unknown_members_of_schemas_go_and_types_are_checked() {
    let mut definition = cron_tab();
    definition["spec"]["foo"] = 1.into();
    let root = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let properties = definition.pointer_mut(root).expect("members");
    properties["list"] = json!({"type": "array", "items": {"type": "string", "foo": 1}, "bar": 2});
    properties["open"] = json!({"type": "object", "additionalProperties": true, "default": {"any": [null]}});
    let unknown = CustomResourceDefinition.check_fields(&mut definition, true).expect("right types");
    assert_eq!(
        unknown,
        [
            "unknown field \"spec.foo\"",
            "unknown field \"spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.list.bar\"",
        ]
    );
    let properties = definition.pointer(root).expect("members");
    assert_eq!(properties["list"], json!({"type": "array", "items": {"type": "string"}}));
    assert_eq!(properties["open"]["default"], json!({"any": [null]}));
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["items"] = json!({"type": 5});
    let error = CustomResourceDefinition.check_fields(&mut definition, true).expect_err("a number");
    assert!(error.message.contains("cannot unmarshal number into Go struct field JSONSchemaProps"), "{}", error.message);
}

#[test]
fn good_definitions_pass() {
    check(|_| {}, &[]);
    assert_eq!(texts(CustomResourceDefinition.validate(&created(memcached()))), [""; 0]);
}

#[test]
fn names_and_versions() {
    check(
        |one| one["metadata"]["name"] = "tabs".into(),
        &["metadata.name: Invalid value: \"tabs\": must be spec.names.plural+\".\"+spec.group"],
    );
    check(
        |one| {
            one["metadata"]["name"] = "crontabs.example".into();
            one["spec"]["group"] = "example".into();
            one["spec"]["scope"] = "Galaxy".into();
        },
        &[
            "spec.group: Invalid value: \"example\": should be a domain with at least one dot",
            "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"",
        ],
    );
    check(
        |one| {
            one["spec"]["names"]["kind"] = "Cron_Tab".into();
            one["spec"]["names"]["listKind"] = "Cron_Tab".into();
            one["spec"]["names"]["shortNames"] = json!(["Ct"]);
        },
        &[
            "spec.names.kind: Invalid value: \"Cron_Tab\": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            "spec.names.listKind: Invalid value: \"Cron_Tab\": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            "spec.names.shortNames[0]: Invalid value: \"Ct\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            "spec.names.listKind: Invalid value: \"Cron_Tab\": kind and listKind may not be the same",
        ],
    );
    check(
        |one| {
            let mut other = one["spec"]["versions"][0].clone();
            other["schema"] = Value::Null;
            one["spec"]["versions"].as_array_mut().expect("a list").push(other);
        },
        &[
            "spec.versions[1].schema.openAPIV3Schema: Required value",
            "spec.versions: Invalid value: […]: must contain unique version names",
            "spec.versions: Invalid value: […]: must have exactly one version marked as storage version",
        ],
    );
    check(
        |one| one["spec"]["versions"][0]["deprecationWarning"] = "old".into(),
        &["spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions"],
    );
    check(
        |one| one["spec"]["preserveUnknownFields"] = true.into(),
        &[
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ],
    );
    check(
        |one| {
            one["metadata"]["name"] = "crontabs.example.k8s.io".into();
            one["spec"]["group"] = "example.k8s.io".into();
        },
        &[
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ],
    );
    for (approval, wrong) in [("unapproved, a test", 0), ("https://github.com/kubernetes/kubernetes/pull/1", 0), ("yes", 1)] {
        let mut one = cron_tab();
        one["metadata"]["name"] = "crontabs.example.k8s.io".into();
        one["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": approval});
        one["spec"]["group"] = "example.k8s.io".into();
        assert_eq!(CustomResourceDefinition.validate(&created(one)).len(), wrong, "{approval}");
    }
}

#[test]
fn columns_subresources_fields_and_conversion() {
    check(
        |one| {
            one["spec"]["versions"][0]["additionalPrinterColumns"] =
                json!([{"name": "", "type": "text", "format": "x", "jsonPath": "spec"}, {"name": "a", "type": "string"}]);
        },
        &[
            "spec.additionalPrinterColumns[0].name: Required value",
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].format: Invalid value: \"x\": must be one of byte,date,date-time,double,float,int32,int64,password",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path starting with .",
            "spec.additionalPrinterColumns[1].JSONPath: Required value",
        ],
    );
    check(
        |one| {
            one["spec"]["versions"][0]["subresources"]["scale"] =
                json!({"specReplicasPath": ".status.replicas", "labelSelectorPath": "metadata.labels"});
        },
        &[
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.replicas\": should be a json path under .spec",
            "spec.subresources.scale.statusReplicasPath: Required value",
            "spec.subresources.scale.labelSelectorPath: Invalid value: \"metadata.labels\": must be a simple json path starting with .",
        ],
    );
    check(
        |one| {
            one["spec"]["versions"][0]["selectableFields"] = json!([
                {"jsonPath": ".spec.image"}, {"jsonPath": ".spec.image"}, {"jsonPath": ".spec.list[0]"}, {"jsonPath": ".spec"}, {"jsonPath": ".spec.nope"},
            ]);
        },
        &[
            "spec.selectableFields[1].jsonPath: Duplicate value: \".spec.image\"",
            "spec.selectableFields[2].jsonPath: Invalid value: \".spec.list[0]\": is an invalid path: does not refer to a valid field",
            "spec.selectableFields[3].jsonPath: Invalid value: \".spec\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            "spec.selectableFields[4].jsonPath: Invalid value: \".spec.nope\": is an invalid path: does not refer to a valid field",
        ],
    );
    check(
        |one| {
            one["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
                "clientConfig": {"url": "http://u@example.com/x?y"}, "conversionReviewVersions": ["v2", "v2"]}});
        },
        &[
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "spec.conversion.webhookClientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
            "spec.conversion.webhookClientConfig.url: Invalid value: \"y\": query parameters are not permitted in the URL",
            "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include at least one of v1, v1beta1",
        ],
    );
    check(
        |one| {
            one["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
                "clientConfig": {"service": {"name": "a", "namespace": "b", "path": "x//y"}}, "conversionReviewVersions": ["v1"]}});
        },
        &[
            "spec.conversion.webhookClientConfig.service.path: Invalid value: \"x//y\": must start with a '/'",
            "spec.conversion.webhookClientConfig.service.path: Invalid value: \"x//y\": segment[0] may not be empty",
            "spec.conversion.webhookClientConfig.service.path: Invalid value: \"x//y\": segment[1] may not be empty",
        ],
    );
    check(
        |one| one["spec"]["conversion"] = json!({"strategy": "Magic"}),
        &["spec.conversion.strategy: Unsupported value: \"Magic\": supported values: \"None\", \"Webhook\""],
    );
}

#[test]
fn schemas_are_structural() {
    check_spec(
        json!({"properties": {"a": {"type": "array"}, "b": {"type": "array", "items": {}}}}),
        &[
            ".properties[a].items: Required value: must be specified",
            ".properties[b].items.type: Required value: must not be empty for specified array items",
            ".type: Required value: must not be empty for specified object fields",
        ],
    );
    check_spec(
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [
            {"properties": {"a": {"type": "string", "pattern": "^(a"}, "b": {"minLength": 1}}, "description": "x"},
        ]}),
        &[
            ".anyOf[0].description: Forbidden: must be empty to be structural",
            ".anyOf[0].properties[a].pattern: Invalid value: \"^(a\": must be a valid regular expression, but isn't: unclosed group",
            ".anyOf[0].properties[a].type: Forbidden: must be empty to be structural",
        ],
    );
    check(
        |one| {
            one["spec"]["versions"][0]["subresources"] = Value::Null;
            one["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["anyOf"] =
                json!([{"properties": {"spec": {"properties": {"b": {"minLength": 1}}}}}]);
        },
        &[
            "spec.validation.openAPIV3Schema.properties[spec].properties[b]: Required value: because it is defined in spec.validation.openAPIV3Schema.anyOf[0].properties[spec].properties[b]",
        ],
    );
    check_spec(
        json!({"type": "object", "properties": {
            "good": {"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "^a"}]},
            "bad": {"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true},
            "e": {"x-kubernetes-embedded-resource": true, "additionalProperties": {"type": "string"}},
        }}),
        &[
            ".properties[bad].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
            ".properties[e].additionalProperties: Forbidden: must not be used if x-kubernetes-embedded-resource is set",
            ".properties[e].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ".properties[e].type: Required value: must be object if x-kubernetes-embedded-resource is true",
        ],
    );
    check(
        |one| {
            let schema = &mut one["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            schema["properties"]["metadata"] = json!({"type": "object", "properties": {"labels": {"type": "object"}}});
            schema["allOf"] = json!([{"properties": {"metadata": {"required": ["labels"]}}}]);
        },
        &[
            "spec.validation.openAPIV3Schema: Invalid value: […]: only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is enabled",
            "spec.validation.openAPIV3Schema.allOf[0].properties[metadata]: Forbidden: must not be specified in a nested context",
            "spec.validation.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ],
    );
}

#[test]
fn schemas_hold_what_they_may() {
    check_spec(
        json!({"type": "object", "$ref": "#/x", "uniqueItems": true, "properties": {
            "a": {"type": "text"},
            "b": {"type": "object", "properties": {"c": {"type": "string"}}, "additionalProperties": {"type": "string"}},
            "d": {"type": "object", "x-kubernetes-list-type": "set", "x-kubernetes-map-type": "loose"},
            "e": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}},
            "f": {"type": "array", "x-kubernetes-list-map-keys": ["a"], "items": {"type": "string"}},
        }}),
        &[
            ".$ref: Forbidden: $ref is not supported",
            ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ".properties[a].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            ".properties[b].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ".properties[d].x-kubernetes-map-type: Unsupported value: \"loose\": supported values: \"atomic\", \"granular\"",
            ".properties[d].type: Invalid value: \"object\": must be array if x-kubernetes-list-type is specified",
            ".properties[e].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
            ".properties[f].x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty",
        ],
    );
    check_spec(
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b", "c", "c"], "items": {
            "type": "object", "nullable": true, "properties": {"a": {"type": "object"}, "c": {"type": "string", "nullable": true}},
        }}),
        &[
            ".items.properties[a].type: Invalid value: \"object\": must be a scalar type if parent array's x-kubernetes-list-type is map",
            ".x-kubernetes-list-map-keys: Invalid value: [\"a\",\"b\",\"c\",\"c\"]: entries must all be names of item properties",
            ".x-kubernetes-list-map-keys: Invalid value: [\"a\",\"b\",\"c\",\"c\"]: must not contain duplicate entries",
            ".items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
            ".items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ".items.properties[c].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ".items.properties[c].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ".items.properties[c].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ".items.properties[c].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
        ],
    );
    check(
        |one| {
            let schema = &mut one["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            schema["properties"]["kind"] = json!({"type": "string", "default": "CronTab"});
        },
        &["spec.validation.openAPIV3Schema.properties[kind].default: Forbidden: must not be set in top-level kind"],
    );
}

#[test]
fn defaults_are_values_of_their_schemas() {
    check_spec(
        json!({"type": "object", "properties": {
            "a": {"type": "integer", "default": "x"},
            "b": {"type": "object", "default": {"c": 1, "d": 2}, "properties": {"c": {"type": "integer", "minimum": 2}}},
            "e": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true, "default": {"kind": "A"}},
        }}),
        &[
            ".properties[a].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
            ".properties[b].default: Invalid value: {\"c\":1,\"d\":2}: must not have unknown fields",
            ".properties[b].default.c: Invalid value: 1: c in body should be greater than or equal to 2",
            ".properties[e].default.apiVersion: Required value",
        ],
    );
}

#[test]
fn rules_compile() {
    let with = |rule: Value| {
        json!({"type": "object", "x-kubernetes-validations": [rule], "properties": {
            "a": {"type": "integer"}, "b": {"type": "integer"}, "list": {"type": "array", "items": {"type": "object", "properties": {
                "name": {"type": "string"}, "x-y": {"type": "string"},
            }}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }})
    };
    for rule in [
        json!({"rule": "self.a < self.b"}),
        json!({"rule": "self.list.all(x, x.name != '' && has(x.x__dash__y))", "message": "names", "fieldPath": ".list"}),
        json!({"rule": "!has(oldSelf.a) || self.a >= oldSelf.a", "reason": "FieldValueForbidden"}),
        json!({"rule": "oldSelf.hasValue() || self.a > 0", "optionalOldSelf": true}),
        json!({"rule": "quantity('1Gi').isGreaterThan(quantity('1Mi'))", "messageExpression": "'a is ' + string(self.a)"}),
        json!({"rule": "ip.isCanonical('::1') && cidr('10.0.0.0/8').containsIP('10.1.1.1') && url('https://a/b').getHost() == 'a'"}),
        json!({"rule": "!format.dns1123Label().validate('a').hasValue() && !format.named('uuid').value().validate('a').hasValue()"}),
        json!({"rule": "sets.contains([1, 2], [self.a]) && [1, 2].sum() == 3 && 'abc'.find('b+') == 'b'"}),
    ] {
        check_spec(with(rule), &[]);
    }
    let rule = ".x-kubernetes-validations[0]";
    for (source, expected) in [
        ("self.c < 1", "compilation failed: undefined field 'c'"),
        ("self.list.all(x, x.nam != '')", "compilation failed: undefined field 'nam'"),
        ("self.list[0].nam != ''", "compilation failed: undefined field 'nam'"),
        ("self.open.x == 1", "compilation failed: undefined field 'open'"),
        ("this.a < 1", "compilation failed: undeclared reference to 'this' (in container '')"),
        ("semver('1.2.3').major() == 1", "compilation failed: undeclared reference to 'semver' (in container '')"),
    ] {
        let shown = format!("{rule}.rule: Invalid value: {{\"rule\":{source:?}}}: {expected}");
        let more =
            if source.starts_with("semver") { vec![shown.clone(), shown.replace("'semver'", "'major'")] } else { vec![shown] };
        let mut more: Vec<&str> = more.iter().map(String::as_str).collect();
        more.reverse();
        if source.starts_with("semver") {
            more.reverse();
        }
        check_spec(with(json!({"rule": source})), &more);
    }
    check_spec(
        with(json!({"rule": " ", "message": "a\nb", "messageExpression": " ", "reason": "Because", "fieldPath": ".c"})),
        &[
            &format!("{rule}.rule: Required value: rule is not specified"),
            &format!("{rule}.messageExpression: Required value: messageExpression must be non-empty if specified"),
            &format!(
                "{rule}.reason: Unsupported value: \"Because\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\""
            ),
            &format!("{rule}.fieldPath: Invalid value: \".c\": must be a valid path"),
        ],
    );
    check_spec(
        with(json!({"rule": "self.a > 0", "optionalOldSelf": true})),
        &[&format!("{rule}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule")],
    );
    check_spec(
        json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}),
        &[
            ".items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[spec]",
        ],
    );
    check_spec(
        json!({"type": "object", "properties": {"a": {"type": "integer", "default": 1, "x-kubernetes-validations": [{"rule": "self > 1"}]}}}),
        &[".properties[a].default: Invalid value: 1: failed rule: self > 1"],
    );
}

#[test]
fn expressions_that_do_not_parse_are_refused() {
    let mut definition = cron_tab();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{"rule": "self.spec.replicas >"}]);
    let found = texts(CustomResourceDefinition.validate(&created(definition)));
    assert_eq!(found.len(), 1, "{found:#?}");
    let begin = "spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule: Invalid value: {\"rule\":\"self.spec.replicas >\"}: compilation failed: ";
    assert!(found[0].starts_with(begin), "{}", found[0]);
}

#[test]
fn unknown_formats_are_told() {
    let mut old = cron_tab();
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    old.pointer_mut(properties).expect("members")["image"]["format"] = "image".into();
    let mut new = old.clone();
    new.pointer_mut(properties).expect("members")["replicas"]["format"] = "int16".into();
    let image = "unrecognized format \"image\"";
    assert_eq!(CustomResourceDefinition.warnings(&old, None), [image]);
    assert_eq!(CustomResourceDefinition.warnings(&new, None), [image, "unrecognized format \"int16\""]);
    assert_eq!(CustomResourceDefinition.warnings(&new, Some(&old)), ["unrecognized format \"int16\""]);
    assert!(CustomResourceDefinition.warnings(&memcached(), None).is_empty());
}

#[test]
fn what_is_told_of_one_version_alone_names_it() {
    let mut definition = memcached();
    definition["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"]["type"] = "".into();
    let found = texts(CustomResourceDefinition.validate(&created(definition)));
    assert_eq!(
        found,
        [
            "spec.versions[1].schema.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields"
        ]
    );
}

#[test]
fn changes() {
    let mut old = created(cron_tab());
    let change = |definition: &mut Value| {
        definition["spec"]["scope"] = "Cluster".into();
        definition["spec"]["names"]["kind"] = "Tab".into();
        definition["spec"]["names"]["plural"] = "tabs".into();
    };
    let mut new = old.clone();
    change(&mut new);
    let plural = "spec.names.plural: Invalid value: \"tabs\": field is immutable";
    assert_eq!(texts(CustomResourceDefinition.validate_update(&new, &old)), [plural]);
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    assert_eq!(
        texts(CustomResourceDefinition.validate_update(&new, &old)),
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "spec.names.kind: Invalid value: \"Tab\": field is immutable",
            plural,
        ]
    );
    old["status"]["storedVersions"] = json!(["v1", "v0"]);
    assert_eq!(
        texts(CustomResourceDefinition.validate(&old)),
        [
            "status.storedVersions[1]: Invalid value: \"v0\": missing from spec.versions; v0 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 and removes v0 from status.storedVersions"
        ]
    );
}
