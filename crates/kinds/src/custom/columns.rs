//! Printer columns of custom resources.
//!
//! Source: apiextensions-apiserver pkg/registry/customresource/tableconvertor/tableconvertor.go, and client-go
//! util/jsonpath/jsonpath.go (`PrintResults`) for texts.

use serde_json::Value;

use super::json_path::JsonPath;
use super::{intern, number};
use crate::access::text;
use crate::kind::Column;
use crate::printing::{self, NAME};

/// Columns of a version and where their cells are.
#[derive(Debug)]
pub(super) struct Columns {
    headers: &'static [Column],
    paths: Vec<JsonPath>,
}

impl Columns {
    /// From `additionalPrinterColumns`; without any, the age is shown. A path that cannot be read ends the table, as it
    /// does in the real server.
    pub(super) fn of(columns: &[Value]) -> Self {
        let (mut headers, mut paths) = (vec![NAME], Vec::new());
        if columns.is_empty() {
            let description = "When the object was created.";
            headers.push(Column { name: "Age", kind: "date", format: "", description, priority: 0 });
            paths.extend(JsonPath::parse(".metadata.creationTimestamp"));
        }
        for column in columns {
            let path = text(column, "jsonPath");
            let Some(parsed) = JsonPath::parse(path) else { break };
            let description = match text(column, "description") {
                "" => &format!("Custom resource definition column (in JSONPath format): {path}"),
                own => own,
            };
            headers.push(Column {
                name: intern::text(text(column, "name")),
                kind: intern::text(text(column, "type")),
                format: intern::text(text(column, "format")),
                description: intern::text(description),
                priority: crate::access::number(column, "priority") as i32,
            });
            paths.push(parsed);
        }
        Self { headers: intern::columns(headers), paths }
    }

    /// Headings, the name's first.
    pub(super) fn headers(&self) -> &'static [Column] {
        self.headers
    }

    /// Cells of an object.
    pub(super) fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let own = self.paths.iter().zip(&self.headers[1..]).map(|(path, column)| {
            let found = path.find(object).ok().and_then(|found| found.into_iter().next());
            found.map_or(Value::Null, |value| cell(column.kind, value, now))
        });
        std::iter::once(printing::name(object)).chain(own).collect()
    }
}

fn cell(kind: &str, value: &Value, now: jiff::Timestamp) -> Value {
    match (kind, value) {
        ("string", value) => printed(value).into(),
        ("integer", Value::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)).map_or(Value::Null, Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) if text.is_empty() => "<unknown>".into(),
        ("date", Value::String(text)) => match text.parse::<jiff::Timestamp>() {
            Ok(_) => printing::since(value, now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(one) => number::shown(one),
        other => other.to_string(),
    }
}
