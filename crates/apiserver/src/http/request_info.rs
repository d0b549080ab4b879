//! What a request's path and method ask for.
//!
//! Rules: kubernetes apiserver pkg/endpoints/request/requestinfo.go.

use daruma_api::selector::Selector;
use http::Method;
use percent_encoding::percent_decode_str;

use super::Query;

fn decode(part: &str) -> String {
    if part.contains('%') { percent_decode_str(part).decode_utf8_lossy().into_owned() } else { part.to_owned() }
}

/// A request in the words of authorization.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it is about a resource; all else is a non-resource path.
    pub is_resource: bool,
    /// The decoded path.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the HTTP
    /// method in lower case for other paths.
    pub verb: String,
    /// API group; empty for core.
    pub group: String,
    /// Version of the group.
    pub version: String,
    /// Namespace; empty for cluster scope and for all namespaces.
    pub namespace: String,
    /// Plural, e.g. `pods`.
    pub resource: String,
    /// E.g. `status`; empty for the main resource.
    pub subresource: String,
    /// Object name; for lists and watches the one that the field selector names, if any.
    pub name: String,
    /// Whether the path itself names an object.
    pub names_object: bool,
    /// What follows the subresource (of `proxy`), as it came, with its leading slash.
    pub rest: String,
}

const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads the request line.
    pub fn parse(method: &Method, raw_path: &str, query: &Query) -> Self {
        let mut info = Self { path: decode(raw_path), verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        let parts: Vec<&str> = raw_path.split('/').filter(|part| !part.is_empty()).collect();
        let mut rest: &[&str] = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = decode(version);
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                (info.group, info.version) = (decode(group), decode(version));
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        if let ["namespaces", namespace, tail @ ..] = rest {
            info.namespace = decode(namespace);
            if !tail.is_empty() && !NAMESPACE_SUBRESOURCES.contains(&tail[0]) {
                rest = tail;
            }
        }
        info.resource = rest.first().map(|part| decode(part)).unwrap_or_default();
        info.name = rest.get(1).map(|part| decode(part)).unwrap_or_default();
        info.names_object = !info.name.is_empty();
        info.subresource = rest.get(2).map(|part| decode(part)).unwrap_or_default();
        if rest.len() > 3 {
            info.rest = format!("/{}", rest[3..].join("/"));
        }
        if rest.len() > 2 && raw_path.ends_with('/') {
            info.rest.push('/');
        }
        info.set_verb(method, query);
        info
    }

    fn set_verb(&mut self, method: &Method, query: &Query) {
        let verb = match method.as_str() {
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        };
        verb.clone_into(&mut self.verb);
        if self.name.is_empty() && self.verb == "get" {
            let verb = if query.flag("watch") { "watch" } else { "list" };
            verb.clone_into(&mut self.verb);
        } else if self.name.is_empty() && self.verb == "delete" {
            "deletecollection".clone_into(&mut self.verb);
        }
        // `GET …/pods/x?watch=true` is a get of one object in the path's words, and a watch in older clients'.
        if matches!(self.verb.as_str(), "list" | "watch" | "deletecollection")
            && let Some(name) = query
                .text("fieldSelector")
                .and_then(|text| Selector::parse_fields(text).ok())
                .and_then(|selector| selector.exact("metadata.name").map(str::to_owned))
        {
            self.name = name;
        }
    }

    /// Whether the request may stay open for long and is exempt from limits in number and time.
    pub fn is_long_running(&self) -> bool {
        self.is_resource
            && (self.verb == "watch" || matches!(self.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward"))
    }

    /// Whether the request only reads.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, uri: &str, expected: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let method = Method::from_bytes(method.as_bytes()).expect("method");
        let info = RequestInfo::parse(&method, path, &Query::parse(query));
        let shown = if info.is_resource {
            format!(
                "{} {}/{} ns={} {}{}{} name={} rest={}",
                info.verb,
                info.group,
                info.version,
                info.namespace,
                info.resource,
                if info.subresource.is_empty() { "" } else { "/" },
                info.subresource,
                info.name,
                info.rest
            )
        } else {
            format!("{} {}", info.verb, info.path)
        };
        assert_eq!(shown, expected, "{uri}");
    }

    #[test]
    fn paths() {
        check("GET", "/api/v1/pods", "list /v1 ns= pods name= rest=");
        check("GET", "/api/v1/namespaces/a/pods/b", "get /v1 ns=a pods name=b rest=");
        check("GET", "/api/v1/namespaces/a", "get /v1 ns=a namespaces name=a rest=");
        check("PUT", "/api/v1/namespaces/a/finalize", "update /v1 ns=a namespaces/finalize name=a rest=");
        check("GET", "/api/v1/namespaces", "list /v1 ns= namespaces name= rest=");
        check("GET", "/apis/apps/v1/namespaces/a/deployments?watch=1", "watch apps/v1 ns=a deployments name= rest=");
        check("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection apps/v1 ns=a deployments name= rest=");
        check("GET", "/api/v1/nodes/n/proxy/stats/summary", "get /v1 ns= nodes/proxy name=n rest=/stats/summary");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list /v1 ns= pods name=x rest=");
        check("GET", "/healthz", "get /healthz");
        check("GET", "/apis/apps/v1", "get /apis/apps/v1");
    }
}
