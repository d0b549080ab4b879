//! Objects in the shape that was asked for: whole, metadata only, or rows of a table.

use std::sync::Arc;

use bytes::Bytes;
use daruma_api::status::ApiError;
use serde_json::{Value, json};

use crate::http::{Accept, IncludeObject, Query, Shape};
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::storage::{Item, RecentDocuments, write_partial};

/// Writes objects of one resource in one shape.
#[derive(Clone)]
pub struct Painter {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The shape.
    pub shape: Shape,
    include: IncludeObject,
    now: jiff::Timestamp,
    documents: Arc<RecentDocuments>,
}

impl Painter {
    /// A painter for what was negotiated; ages are those of now.
    ///
    /// # Errors
    /// 400 for an unknown `includeObject`.
    pub fn new(server: &Arc<ApiServer>, resource: &Arc<Resource>, accept: Accept, query: &Query) -> Result<Self, ApiError> {
        let include = match query.text("includeObject") {
            None | Some("Metadata") => IncludeObject::Metadata,
            Some("Object") => IncludeObject::Object,
            Some("None") => IncludeObject::None,
            Some(other) => return Err(ApiError::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        };
        let shape = if accept.shape == Shape::Discovery { Shape::Object } else { accept.shape };
        Ok(Self { resource: resource.clone(), shape, include, now: server.world.now(), documents: server.documents.clone() })
    }

    /// The same with another time for ages.
    #[must_use]
    pub fn at(&self, now: jiff::Timestamp) -> Self {
        Self { now, ..self.clone() }
    }

    fn decode(&self, stored: &[u8], revision: u64) -> Value {
        self.resource.head.decode(stored, revision).unwrap_or_else(|error| {
            tracing::warn!(%error, resource = self.resource.plural(), "a stored object does not parse");
            json!({"metadata": {}})
        })
    }

    fn partial(&self, stored: &[u8], revision: u64, out: &mut Vec<u8>) {
        let begins = out.len();
        if let Err(error) = self.resource.head.splice_partial(stored, revision, out) {
            tracing::warn!(%error, resource = self.resource.plural(), "a stored object does not parse");
            out.truncate(begins);
            write_partial(&Value::Null, out);
        }
    }

    /// One object alone.
    pub fn one(&self, stored: &[u8], revision: u64) -> Bytes {
        self.one_with_columns(stored, revision, true)
    }

    /// One object alone; tables of later watch events come without column definitions.
    pub fn one_with_columns(&self, stored: &[u8], revision: u64, columns: bool) -> Bytes {
        match self.shape {
            Shape::Object | Shape::Discovery => self.resource.head.show(stored, revision),
            Shape::Partial => {
                let mut out = Vec::with_capacity(stored.len().min(1024));
                self.partial(stored, revision, &mut out);
                Bytes::from(out)
            }
            Shape::Table => {
                let mut out = Vec::with_capacity(1024);
                self.table_head(&json!({"resourceVersion": revision.to_string()}), columns, &mut out);
                self.row(&self.decode(stored, revision), stored, revision, &mut out);
                out.extend_from_slice(b"]}");
                Bytes::from(out)
            }
        }
    }

    /// What stands before the items of a list.
    pub fn list_head(&self, metadata: &Value, out: &mut Vec<u8>) {
        match self.shape {
            Shape::Object | Shape::Discovery => {
                let (kind, version) = (self.resource.list_kind(), self.resource.api_version());
                out.extend_from_slice(
                    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[").as_bytes(),
                );
            }
            Shape::Partial => out.extend_from_slice(
                format!("{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{metadata},\"items\":[")
                    .as_bytes(),
            ),
            Shape::Table => self.table_head(metadata, true, out),
        }
    }

    /// One item of a list.
    pub fn list_item(&self, item: &Item, out: &mut Vec<u8>) {
        match self.shape {
            Shape::Object | Shape::Discovery => self.resource.head.splice_item(&item.value, item.revision, out),
            Shape::Partial => self.partial(&item.value, item.revision, out),
            Shape::Table => match self.documents.of_item(&self.resource.head, &self.resource.prefix, item) {
                Some(object) => self.row(&object, &item.value, item.revision, out),
                None => self.row(&self.decode(&item.value, item.revision), &item.value, item.revision, out),
            },
        }
    }

    /// What stands after the items of a list.
    pub fn list_tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"]}");
    }

    fn table_head(&self, metadata: &Value, columns: bool, out: &mut Vec<u8>) {
        let definitions: Vec<Value> = if columns {
            let columns = self.resource.kind.columns().iter();
            columns
                .map(|column| {
                    json!({"name": column.name, "type": column.kind, "format": column.format,
                        "description": column.description, "priority": column.priority})
                })
                .collect()
        } else {
            Vec::new()
        };
        let definitions = if columns { Value::Array(definitions) } else { Value::Null };
        out.extend_from_slice(
            format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{metadata},\"columnDefinitions\":{definitions},\"rows\":["
            )
            .as_bytes(),
        );
    }

    fn row(&self, object: &Value, stored: &[u8], revision: u64, out: &mut Vec<u8>) {
        let cells = Value::Array(self.resource.kind.cells(object, self.now));
        out.extend_from_slice(b"{\"cells\":");
        out.extend_from_slice(cells.to_string().as_bytes());
        match self.include {
            IncludeObject::None => {}
            IncludeObject::Metadata => {
                out.extend_from_slice(b",\"object\":");
                write_partial(object, out);
            }
            IncludeObject::Object => {
                out.extend_from_slice(b",\"object\":");
                self.resource.head.splice(stored, revision, out);
            }
        }
        out.push(b'}');
    }
}
