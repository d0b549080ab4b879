//! One request on its way through the server.

use std::sync::{Arc, Mutex};

use daruma_api::selector::Selector;
use daruma_api::status::ApiError;
use http::HeaderMap;

use crate::cache::Filter;
use crate::http::{Accept, Query, RequestInfo};
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::show::Painter;
use crate::user::User;

/// An authenticated and authorized request, its body excepted.
pub struct Call {
    /// The server.
    pub server: Arc<ApiServer>,
    /// What is asked.
    pub info: Arc<RequestInfo>,
    /// Query parameters.
    pub query: Query,
    /// The path as it came.
    pub raw_path: String,
    /// The raw query string.
    pub raw_query: String,
    /// Who asks.
    pub user: Arc<User>,
    /// What the answer should look like.
    pub accept: Accept,
    /// Request headers.
    pub headers: HeaderMap,
    /// HTTP method.
    pub method: http::Method,
    /// The connection, where it may be taken over.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
    /// What clients in this process have decoded, where there are any; told of what is written.
    pub neighbours: Option<Arc<daruma_client::DecodedObjects>>,
    /// Texts for `Warning` headers of the answer.
    pub warnings: Warnings,
}

/// Warnings to the client, collected while a request is served.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// Adds one.
    pub fn add(&self, text: impl Into<String>) {
        self.0.lock().expect("no panic while held").push(text.into());
    }
    /// All of them, taken away.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic while held"))
    }
}

impl Call {
    /// Whether nothing is to be written.
    ///
    /// # Errors
    /// 400 for a value other than `All`.
    pub fn dry_run(&self, in_options: &[&str]) -> Result<bool, ApiError> {
        let mut dry = false;
        for value in self.query.all("dryRun").chain(in_options.iter().copied()).filter(|value| !value.is_empty()) {
            if value != "All" {
                let why = format!("dryRun: Unsupported value: {value:?}: supported values: \"All\"");
                return Err(ApiError::new(422, "Invalid", format!("options.meta.k8s.io \"\" is invalid: {why}")));
            }
            dry = true;
        }
        Ok(dry)
    }

    /// Writes the answer's objects.
    ///
    /// # Errors
    /// 400 for a bad `includeObject`.
    pub fn painter(&self, resource: &Arc<Resource>) -> Result<Painter, ApiError> {
        Painter::new(&self.server, resource, self.accept, &self.query)
    }

    /// The selectors of the query.
    ///
    /// # Errors
    /// 400 for what does not parse or names an unknown field.
    pub fn filter(&self, resource: &Resource) -> Result<Filter, ApiError> {
        let labels = self.query.text("labelSelector").unwrap_or_default();
        let fields = self.query.text("fieldSelector").unwrap_or_default();
        let labels_parsed = Selector::parse(labels).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let fields_parsed = Selector::parse_fields(fields).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let namespace = if resource.is_namespaced() { self.info.namespace.as_str() } else { "" };
        Filter::new(namespace, labels_parsed, fields_parsed, |field| resource.field_index(field)).map_err(|field| {
            let why = if resource.kind.selectable_fields().is_empty() && resource.custom_kind().is_none() {
                format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
            } else {
                format!("field label not supported: {field}")
            };
            // kubectl adds which resource and selectors it asked for.
            ApiError::bad_request(why)
        })
    }
}
