//! What kubectl 1.32 sends, and bytes made by hand for what it does not send.

use serde_json::json;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

fn number(number: u8, value: u64) -> Vec<u8> {
    [vec![number << 3], varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field of bytes, text or other fields.
fn field(number: u16, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(u64::from(number) << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn object(api_version: &str, kind: &str, fields: &[Vec<u8>]) -> Vec<u8> {
    let type_meta = [field(1, api_version), field(2, kind)].concat();
    [PREFIX.to_vec(), field(1, type_meta), field(2, fields.concat()), field(3, ""), field(4, "")].concat()
}

#[track_caller]
fn check(content: &[u8], expected: Value) {
    assert_eq!(decode(content).expect("decodes"), expected);
}

/// `spec` of a pod.
#[track_caller]
fn check_pod_spec(fields: &[Vec<u8>], expected: Value) {
    let decoded = decode(&object("v1", "Pod", &[field(2, fields.concat())])).expect("decodes");
    assert_eq!(decoded["spec"], expected);
}

#[track_caller]
fn check_refusal(content: &[u8], expected: &str) {
    assert_eq!(decode(content).expect_err("broken").to_string(), expected);
}

#[test]
fn what_kubectl_sends() {
    // kubectl create deployment x --image=y --replicas=4
    check(
        &bytes(
            "6b3873000a150a07617070732f7631120a4465706c6f796d656e74129b010a1b0a017812001a0022002a003200380042005a080a03617070
             120178126e0804120a0a080a036170701201781a560a1a0a0012001a0022002a003200380042005a080a036170701201781238121a0a0179
             1201792a0042006a007200800100880100900100a201001a00320042004a0052005800600068008201008a01009a0100c2010022020a0028
             0038001a0c0800100018002000280038001a002200",
        ),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "labels": {"app": "x"}}, "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "y", "image": "y"}]}},
        }}),
    );
    // kubectl create configmap c --from-file=bin --from-file=txt
    check(
        &bytes(
            "6b3873000a0f0a0276311209436f6e6669674d6170122c0a110a016312001a0022002a00320038004200120c0a03747874120568656c6c6f
             1a090a0362696e1202ff001a002200",
        ),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"txt": "hello"},
            "binaryData": {"bin": "/wA="}}),
    );
    // kubectl create service nodeport s --tcp=80:http --node-port=30080
    check(
        &bytes(
            "6b3873000a0d0a02763112075365727669636512670a1b0a017312001a0022002a003200380042005a080a0361707012017312440a200a07
             38302d6874747012035443501850220a080110001a04687474702880eb0112080a036170701201731a0022084e6f6465506f72743a004200
             52005a00600068001a020a001a002200",
        ),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "labels": {"app": "s"}}, "spec": {
            "ports": [{"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http", "nodePort": 30080}],
            "selector": {"app": "s"},
            "type": "NodePort",
        }}),
    );
    // kubectl create priorityclass high --value=7 --description=d
    check(
        &bytes(
            "6b3873000a250a147363686564756c696e672e6b38732e696f2f7631120d5072696f72697479436c61737312330a140a046869676812001a
             0022002a00320038004200100718002201642a14507265656d70744c6f7765725072696f726974791a002200",
        ),
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 7,
            "description": "d", "preemptionPolicy": "PreemptLowerPriority"}),
    );
}

#[test]
fn zero_values() {
    let spec = [number(1, 0), field(3, []), number(5, 0), number(7, 0)];
    let expected = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0}});
    // Pointers keep their zero; minReadySeconds, paused and the empty template go, and the unset times of the metadata.
    check(&object("apps/v1", "Deployment", &[field(1, field(8, [])), field(2, spec.concat()), field(3, [])]), expected);
    let value = [field(1, ""), field(2, "")].concat();
    // An empty name is shown, as a volume's is; an empty emptyDir is a choice; an image that is not given is not.
    check_pod_spec(
        &[
            field(1, [field(1, ""), field(2, field(2, []))].concat()),
            field(2, [field(1, ""), field(2, ""), field(7, value), field(8, [])].concat()),
        ],
        json!({"volumes": [{"name": "", "emptyDir": {}}], "containers": [{"name": "", "env": [{"name": ""}]}]}),
    );
    // Keys and values of maps stay, elements of lists too.
    check(
        &object("v1", "ConfigMap", &[field(2, []), field(2, field(1, "k")), field(3, field(1, "b"))]),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"": "", "k": ""}, "binaryData": {"b": ""}}),
    );
}

#[test]
fn special_types() {
    let int = |value: u64| [number(1, 0), number(2, value), field(3, "")].concat();
    let string = |value: &str| [number(1, 1), number(2, 0), field(3, value)].concat();
    let rolling = [field(1, string("25%")), field(2, int(0))].concat();
    let strategy = [field(1, "RollingUpdate"), field(2, rolling)].concat();
    check(
        &object("apps/v1", "Deployment", &[field(2, field(4, strategy))]),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"strategy": {"type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 0}}}}),
    );
    // Quantities, negative numbers, inlined handlers with a port that must be shown.
    let quantity = |key: &str, value: &str| [field(1, key), field(2, field(1, value))].concat();
    let resources = [field(1, quantity("cpu", "1500m")), field(2, quantity("memory", "64Mi"))].concat();
    let probe = [field(1, field(2, [field(1, "/"), field(2, int(0))].concat())), number(2, 5)].concat();
    check_pod_spec(
        &[field(2, [field(1, "c"), field(8, resources), field(10, probe)].concat()), vec![0xc8, 0x01], varint(u64::MAX)],
        json!({"priority": -1, "containers": [{"name": "c",
            "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": 0}, "initialDelaySeconds": 5}}]}),
    );
    // Numbers in lists come one by one or packed.
    let groups = [number(4, 7), field(4, [varint(300), varint(0)].concat())].concat();
    check_pod_spec(&[field(14, groups)], json!({"securityContext": {"supplementalGroups": [7, 300, 0]}}));
    let time = |seconds: u64, nanos: u64| [number(1, seconds), number(2, nanos)].concat();
    check(
        &object(
            "coordination.k8s.io/v1",
            "Lease",
            &[
                field(1, [field(1, "l"), field(8, time(1_700_000_000, 5)), field(9, time(0, 0))].concat()),
                field(2, [field(3, time(1_700_000_000, 120_345_678)), field(4, time(1_700_000_000, 0))].concat()),
            ],
        ),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "l", "creationTimestamp": "2023-11-14T22:13:20Z", "deletionTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"acquireTime": "2023-11-14T22:13:20.120345Z", "renewTime": "2023-11-14T22:13:20.000000Z"}}),
    );
    // Embedded JSON, and managed fields (number 17 of the metadata).
    let managed = field(17, [field(1, "m"), field(7, field(1, r#"{"f:data":{}}"#))].concat());
    check(
        &object("apps/v1", "ControllerRevision", &[field(1, managed), field(2, field(1, r#"{"a":1}"#)), number(3, 0)]),
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "data": {"a": 1}, "revision": 0,
            "metadata": {"managedFields": [{"manager": "m", "fieldsV1": {"f:data": {}}}]}}),
    );
    // A message that is a list.
    let extra = field(5, [field(1, "scopes"), field(2, [field(1, "a"), field(1, "")].concat())].concat());
    check(
        &object("authorization.k8s.io/v1", "SubjectAccessReview", &[field(2, [field(3, "u"), extra].concat())]),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "u", "extra": {"scopes": ["a", ""]}}}),
    );
}

#[test]
fn what_is_not_an_object_itself() {
    // Options carry the group version of what they are used on.
    check(
        &object("apps/v1", "DeleteOptions", &[number(1, 0), field(2, field(1, "u")), field(4, "Foreground"), field(5, "All")]),
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"},
            "propagationPolicy": "Foreground", "dryRun": ["All"]}),
    );
    check(
        &object("policy/v1", "Eviction", &[field(1, field(1, "p")), field(2, number(1, 3))]),
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 3}}),
    );
    check(
        &object("autoscaling/v1", "Scale", &[field(1, field(1, "d")), field(2, number(1, 3)), field(3, number(1, 0))]),
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 3},
            "status": {"replicas": 0}}),
    );
    check(
        &object("authentication.k8s.io/v1", "TokenRequest", &[field(2, [field(1, "a"), number(4, 600)].concat())]),
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": ["a"], "expirationSeconds": 600}}),
    );
    // What a newer client sends beside is passed over.
    check(
        &object("v1", "Secret", &[field(1, field(1, "s")), field(99, "?"), number(15, 1), vec![0x7d, 1, 2, 3, 4]]),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
    );
}

#[test]
fn refusals() {
    let pod = |fields: &[Vec<u8>]| object("v1", "Pod", fields);
    check_refusal(b"", "empty data");
    check_refusal(b"{}", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]");
    check_refusal(PREFIX, "empty body");
    check_refusal(b"k8s\0\x0a\x05", "unexpected EOF");
    check_refusal(&object("v1", "", &[]), "Object 'Kind' is missing");
    check_refusal(&object("", "Pod", &[]), "Object 'apiVersion' is missing");
    check_refusal(&object("v1", "Container", &[]), r#"no kind "Container" is registered for version "v1""#);
    let prefix = r#"Pod in version "v1" cannot be handled as a Pod: "#;
    check_refusal(&pod(&[vec![0x0a, 9, 1]]), &format!("{prefix}unexpected EOF"));
    check_refusal(&pod(&[number(1, 1)]), &format!("{prefix}proto: wrong wireType = 0 for field metadata"));
    check_refusal(&pod(&[field(1, field(7, ""))]), &format!("{prefix}proto: wrong wireType = 2 for field generation"));
    let port = field(2, field(2, field(10, field(1, field(2, field(2, number(1, 2)))))));
    check_refusal(&pod(&[port]), &format!("{prefix}port: impossible IntOrString.Type 2"));
    let late = field(1, field(8, number(1, i64::MAX as u64)));
    assert!(decode(&pod(&[late])).expect_err("too late").to_string().starts_with(&format!("{prefix}creationTimestamp: ")));
    let revision = object("apps/v1", "ControllerRevision", &[field(2, field(1, "{"))]);
    assert!(decode(&revision).expect_err("no JSON").to_string().contains("cannot be handled as a ControllerRevision: data: EOF"));
}

/// Every cut of a body is refused or, between two fields, understood; none panics.
#[test]
fn cuts() {
    let whole = object("v1", "ConfigMap", &[field(1, field(1, "c")), field(2, [field(1, "k"), field(2, "v")].concat())]);
    for end in 0..whole.len() {
        if let Ok(decoded) = decode(&whole[..end]) {
            assert_eq!(decoded["kind"], "ConfigMap", "{end}");
        }
    }
}
