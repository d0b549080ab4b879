//! What kubectl would print: a command line is read ([`Command`]), the server is asked for a table, its columns are
//! laid out as kubectl lays them out.

mod command;
mod layout;
mod top;

use daruma_client::{Client, ClientError, TransportError, empty_body};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;

pub use command::{Command, What};
pub(crate) use layout::lay_out;

/// Asks for the table of one kind (kubectl's own header).
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Runs a command line; gives what kubectl prints, without the last line break.
pub async fn run(client: &Client, command: &Command) -> Result<String, ClientError> {
    match &command.what {
        What::Kind { .. } => get(client, command).await,
        What::TopNodes => top::nodes(client).await,
        What::TopPods => top::pods(client, command).await,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    column_definitions: Vec<Column>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(default)]
    priority: i32,
}

#[derive(Deserialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(default)]
    object: Value,
}

async fn get(client: &Client, command: &Command) -> Result<String, ClientError> {
    let path = command.path();
    let request = http::Request::builder()
        .uri(&path)
        .header(http::header::ACCEPT, TABLE)
        .body(empty_body())
        .map_err(|error| TransportError(format!("bad request {path}: {error}")))?;
    let response = client.raw(request).await?;
    let status = response.status();
    let collected = response.into_body().collect().await;
    let content = collected.map_err(|error| TransportError(format!("response broke off: {error}")))?.to_bytes();
    if !status.is_success() {
        let found: Result<daruma_api::metav1::Status, _> = serde_json::from_slice(&content);
        return Err(match found {
            Ok(status) => daruma_api::status::ApiError::from_status(status).into(),
            Err(_) => TransportError(format!("the server answered {status}")).into(),
        });
    }
    let table: Table = serde_json::from_slice(&content)
        .map_err(|source| ClientError::Decode { what: path, source: std::sync::Arc::new(source) })?;
    Ok(show(&table, command))
}

fn show(table: &Table, command: &Command) -> String {
    if table.rows.is_empty() {
        return match &command.namespace {
            Some(namespace) if command.is_namespaced() => format!("No resources found in {namespace} namespace."),
            _ => "No resources found".to_owned(),
        };
    }
    let with_namespace = command.namespace.is_none() && command.is_namespaced();
    let shown: Vec<usize> = (0..table.column_definitions.len())
        .filter(|index| command.wide || table.column_definitions[*index].priority == 0)
        .collect();
    let mut lines = Vec::with_capacity(table.rows.len() + 1);
    let namespace = |text: &str| with_namespace.then(|| text.to_owned());
    let heading = shown.iter().map(|index| table.column_definitions[*index].name.to_uppercase());
    lines.push(namespace("NAMESPACE").into_iter().chain(heading).collect());
    for row in &table.rows {
        let of = row.object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        let cells = shown.iter().map(|index| match row.cells.get(*index) {
            None | Some(Value::Null) => "<none>".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        });
        lines.push(namespace(of).into_iter().chain(cells).collect());
    }
    lay_out(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Kinds;
    use serde_json::json;

    #[test]
    fn as_kubectl_prints_it() {
        let table = json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Ready"}, {"name": "Nominated Node", "priority": 1}],
            "rows": [{"cells": ["web-1", "1/1", "<none>"], "object": {"metadata": {"namespace": "default"}}}, {"cells": ["web-22", "0/1", null]}],
        });
        let table: Table = serde_json::from_value(table).unwrap();
        for (line, expected) in [
            ("get pods", "NAME     READY\nweb-1    1/1\nweb-22   0/1"),
            ("get pods -o wide", "NAME     READY   NOMINATED NODE\nweb-1    1/1     <none>\nweb-22   0/1     <none>"),
            ("get po -A", "NAMESPACE   NAME     READY\ndefault     web-1    1/1\n            web-22   0/1"),
        ] {
            assert_eq!(show(&table, &Command::parse(line, &Kinds::default()).unwrap()), expected, "{line}");
        }
        let empty = Table { column_definitions: Vec::new(), rows: Vec::new() };
        assert_eq!(
            show(&empty, &Command::parse("get po -n shop", &Kinds::default()).unwrap()),
            "No resources found in shop namespace."
        );
        assert_eq!(show(&empty, &Command::parse("get no", &Kinds::default()).unwrap()), "No resources found");
    }
}
