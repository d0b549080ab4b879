//! Strict decoding: unknown members, wrong types, and the canonical form of quantities and times.
//!
//! Messages are those of sigs.k8s.io/json (unknown members) and Go's encoding/json (types).

use daruma_api::quantity::Quantity;
use daruma_api::status::ApiError;
use serde_json::{Map, Value};

use super::arena::{Arena, Node, Struct};
use super::document::Trail;

/// Checks a decoded object of a kind against its schema, in one walk and without copies.
///
/// Returns the unknown members, each as the real server words it (`unknown field "spec.foo"`), and
/// removes them where `prune` is set. Members that are null are removed, quantities and times are
/// brought to the form in which the real server stores them. A kind without a schema passes as it is.
///
/// # Errors
/// 400 for a member of the wrong type.
pub fn check_fields(group: &str, version: &str, kind: &str, value: &mut Value, prune: bool) -> Result<Vec<String>, ApiError> {
    let Some(arena) = super::arena(group, version) else { return Ok(Vec::new()) };
    let Some(root) = arena.root(kind) else { return Ok(Vec::new()) };
    let mut walk = Walk { arena, prune, owner: root, unknown: Vec::new() };
    match walk.value(value, &Node::Struct(root), &Trail::Start) {
        Ok(()) => Ok(walk.unknown),
        Err(text) => Err(ApiError::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {text}"))),
    }
}

/// The same for the metadata of any object, embedded ones too. Paths begin in the metadata.
///
/// # Errors
/// What is of the wrong type, as Go's decoder says it.
pub(crate) fn check_metadata(metadata: &mut Value, prune: bool) -> Result<Vec<String>, String> {
    let arena = super::arena("", "v1").expect("the core group is always served");
    let owner = arena.root("ConfigMap").expect("a kind of the core group");
    let node = &arena.get(owner).field("metadata").expect("every kind has metadata").node;
    let mut walk = Walk { arena, prune, owner, unknown: Vec::new() };
    walk.value(metadata, node, &Trail::Start).map(|()| walk.unknown)
}

struct Walk<'a> {
    arena: &'a Arena,
    prune: bool,
    /// The innermost struct, for messages.
    owner: u32,
    unknown: Vec<String>,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value, node: &Node, trail: &Trail<'_>) -> Result<(), String> {
        match (node, &mut *value) {
            (Node::Any, _)
            | (Node::StructOr(_), Value::Bool(_) | Value::Array(_))
            | (_, Value::Null)
            | (Node::Text | Node::IntOrString, Value::String(_))
            | (Node::Bool, Value::Bool(_))
            | (Node::Float, Value::Number(_)) => Ok(()),
            (Node::Int64, Value::Number(number)) if number.is_i64() => Ok(()),
            (Node::Int32 | Node::IntOrString, Value::Number(number))
                if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) =>
            {
                Ok(())
            }
            // Go's decoder of such types is silent about unknown members.
            (Node::StructOr(index), Value::Object(_)) => {
                let known = self.unknown.len();
                let walked = self.value(value, &Node::Struct(*index), trail);
                self.unknown.truncate(known);
                walked
            }
            (Node::Struct(index), Value::Object(object)) => {
                let (outer, schema) = (self.owner, self.arena.get(*index));
                self.owner = *index;
                let walked = self.members(object, schema, trail);
                self.owner = outer;
                walked
            }
            (Node::List(of), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if !item.is_null() {
                        self.value(item, of, &Trail::Item(trail, index))?;
                    }
                }
                Ok(())
            }
            (Node::Map(of), Value::Object(object)) => {
                for (key, member) in object.iter_mut() {
                    if member.is_null() && matches!(**of, Node::Text) {
                        *member = Value::String(String::new());
                    }
                    // Go's decoder names the map, not the key, where a value is of the wrong type.
                    match **of {
                        Node::Struct(_) | Node::List(_) | Node::Map(_) => self.value(member, of, &Trail::Member(trail, key))?,
                        _ => self.value(member, of, trail)?,
                    }
                }
                Ok(())
            }
            (Node::Bytes, Value::String(text)) => match bad_base64(text) {
                Some(at) => Err(format!("illegal base64 data at input byte {at}")),
                None => Ok(()),
            },
            (Node::Quantity, Value::String(_) | Value::Number(_)) => canonical_quantity(value),
            (Node::Time, Value::String(text)) => canonical_time(text, false),
            (Node::MicroTime, Value::String(text)) => canonical_time(text, true),
            _ => Err(self.mismatch(value, node, trail)),
        }
    }

    /// Members and fields come in the order of their names, so that both are gone through once, side by side.
    fn members(&mut self, object: &mut Map<String, Value>, schema: &Struct, trail: &Trail<'_>) -> Result<(), String> {
        let mut fields = schema.fields.iter().peekable();
        let mut leaves = false;
        for (key, member) in object.iter_mut() {
            while fields.next_if(|field| *field.name < **key).is_some() {}
            match fields.next_if(|field| *field.name == **key) {
                None => {
                    self.unknown.push(format!("unknown field \"{}\"", Trail::Member(trail, key)));
                    leaves |= self.prune;
                }
                Some(_) if member.is_null() => leaves = true,
                Some(field) => self.value(member, &field.node, &Trail::Member(trail, key))?,
            }
        }
        // Seldom: taking members out costs more than all of the above.
        if leaves {
            object.retain(|key, member| schema.field(key).map_or(!self.prune, |_| !member.is_null()));
        }
        Ok(())
    }

    fn mismatch(&self, value: &Value, node: &Node, trail: &Trail<'_>) -> String {
        let found = match value {
            Value::String(_) => "string".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
            Value::Number(number) if matches!(node, Node::Int32 | Node::Int64) => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::Null => "null".to_owned(),
        };
        let wanted = self.go_type(node);
        let path = trail.members();
        if path.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {wanted}");
        }
        let owner = &self.arena.get(self.owner).name;
        format!("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")
    }

    fn go_type(&self, node: &Node) -> String {
        match node {
            Node::Any => "interface {}".to_owned(),
            Node::Text | Node::Quantity | Node::Time | Node::MicroTime => "string".to_owned(),
            Node::Bytes => "[]uint8".to_owned(),
            Node::IntOrString | Node::Int32 => "int32".to_owned(),
            Node::Bool => "bool".to_owned(),
            Node::Int64 => "int64".to_owned(),
            Node::Float => "float64".to_owned(),
            Node::Struct(index) | Node::StructOr(index) => format!("v1.{}", self.arena.get(*index).name),
            Node::List(of) => format!("[]{}", self.go_type(of)),
            Node::Map(of) => format!("map[string]{}", self.go_type(of)),
        }
    }
}

/// The first byte that does not belong into padded base64.
fn bad_base64(text: &str) -> Option<usize> {
    let body = text.trim_end_matches('=');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'\r' | b'\n');
    if let Some(at) = body.bytes().position(|byte| !fits(byte)) {
        return Some(at);
    }
    let count = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).count();
    (count % 4 != 0 || text.len() - body.len() > 2).then_some(text.len())
}

fn canonical_quantity(value: &mut Value) -> Result<(), String> {
    let parsed: Quantity = match &*value {
        Value::String(text) => text.trim().parse(),
        other => other.to_string().parse(),
    }
    .map_err(|error| format!("{error}"))?;
    let canonical = parsed.to_string();
    if value.as_str() != Some(canonical.as_str()) {
        *value = Value::String(canonical);
    }
    Ok(())
}

fn canonical_time(text: &mut String, micro: bool) -> Result<(), String> {
    let digits = |text: &str| {
        text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            10 => byte == b'T',
            13 | 16 => byte == b':',
            19 => byte == if micro { b'.' } else { b'Z' },
            26 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
    };
    let length = if micro { 27 } else { 20 };
    let is_canonical = text.len() == length && digits(text);
    if is_canonical && is_in_every_month(text.as_bytes()) {
        return Ok(());
    }
    let parsed = text.parse::<jiff::Timestamp>();
    let Ok(parsed) = parsed else {
        let format = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
        return Err(format!("parsing time \"{text}\" as \"{format}\": cannot parse \"{text}\" as \"2006\""));
    };
    if !is_canonical {
        *text = parsed.strftime(if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" }).to_string();
    }
    Ok(())
}

/// Whether there is the day in every month, and the time in every hour: what has this form needs no calendar to be right.
fn is_in_every_month(canonical: &[u8]) -> bool {
    let number = |at: usize| 10 * (canonical[at] - b'0') + canonical[at + 1] - b'0';
    let (month, day, hour, minute, second) = (number(5), number(8), number(11), number(14), number(17));
    (1..=12).contains(&month) && (1..=28).contains(&day) && hour < 24 && minute < 60 && second < 60
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(kind: &str, mut object: Value, unknown: &[&str], stored: Value) {
        let group = if kind == "Deployment" { "apps" } else { "" };
        let found = check_fields(group, "v1", kind, &mut object, true).expect("right types");
        assert_eq!(found, unknown);
        assert_eq!(object, stored);
    }

    #[test]
    fn unknown_and_null_members_go() {
        check(
            "Deployment",
            json!({"metadata": {"name": "a", "creationTimestamp": null}, "spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "c", "imag": "x"}]}}}}),
            &["unknown field \"spec.foo\"", "unknown field \"spec.template.spec.containers[0].imag\""],
            json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}),
        );
        let mut object = json!({"metadata": {"name": "a"}, "bar": 1});
        assert_eq!(check_fields("", "v1", "ConfigMap", &mut object, false).expect("fits"), ["unknown field \"bar\""]);
        assert_eq!(object, json!({"metadata": {"name": "a"}, "bar": 1}));
    }

    #[test]
    fn canonical_forms() {
        check(
            "Pod",
            json!({"spec": {"containers": [{"resources": {"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {"cpu": "0.1"}}}]},
                   "status": {"startTime": "2026-01-02T03:04:05.5+01:00"}}),
            &[],
            json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}]},
                   "status": {"startTime": "2026-01-02T02:04:05Z"}}),
        );
        for right in ["2024-02-29T23:59:59Z", "2026-12-28T00:00:00Z"] {
            check("Pod", json!({"status": {"startTime": right}}), &[], json!({"status": {"startTime": right}}));
        }
        for wrong in [
            "2026-02-29T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
        ] {
            let mut object = json!({"status": {"startTime": wrong}});
            let error = check_fields("", "v1", "Pod", &mut object, true).expect_err(wrong);
            assert!(error.message.contains("parsing time"), "{error}");
        }
        check("Event", json!({"eventTime": "2026-01-02T03:04:05Z"}), &[], json!({"eventTime": "2026-01-02T03:04:05.000000Z"}));
    }

    #[test]
    fn wrong_types() {
        for (group, kind, object, expected) in [
            (
                "apps",
                "Deployment",
                json!({"spec": {"replicas": "3"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "apps",
                "Deployment",
                json!({"spec": {"replicas": 1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "",
                "Pod",
                json!({"spec": {"containers": [{"image": 1}]}}),
                "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
            ),
            (
                "",
                "Pod",
                json!({"metadata": {"labels": {"a": true}}}),
                "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            ("", "Pod", json!({"spec": []}), "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
            (
                "",
                "Pod",
                json!({"spec": {"containers": {}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            ("", "Secret", json!({"data": {"a": "*"}}), "illegal base64 data at input byte 0"),
        ] {
            let mut object = object;
            let error = check_fields(group, "v1", kind, &mut object, true).expect_err(expected);
            assert_eq!(error.message, format!("{kind} in version \"v1\" cannot be handled as a {kind}: {expected}"));
            assert_eq!(error.code, 400);
        }
    }
}
