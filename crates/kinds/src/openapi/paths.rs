//! Paths and operations of a document.

use serde_json::{Map, Value, json};

use crate::kind::{Kind, Names as KindNames, Scope};

use super::components::{Names, reference};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Stored kinds of a group version.
pub(super) fn resources<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static dyn Kind> + use<'a> {
    crate::ALL.iter().copied().filter(move |kind| kind.names().group == group && kind.names().version == version)
}

/// Kinds of a group version that are asked and not stored.
pub(super) fn reviews<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static KindNames> + use<'a> {
    crate::VIRTUAL.iter().filter(move |names| names.group == group && names.version == version)
}

/// `api/v1` or `apis/GROUP/VERSION`.
pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// All paths of a group version.
pub(super) fn build(group: &str, version: &str, names: &Names) -> Map<String, Value> {
    let mut paths = Map::new();
    let root = format!("/{}", root(group, version));
    for kind in resources(group, version) {
        let list = names.get(kind.names().kind).map(|schema| format!("{schema}List")).unwrap_or_default();
        of_kind(&mut paths, &root, kind, &list, names);
    }
    for own in reviews(group, version) {
        let Some(schema) = names.get(own.kind) else { continue };
        let mut item = path_item(own, false);
        let gvk = (own.group, own.version, own.kind);
        item.insert("post".into(), operation((own, true), gvk, "", "create", "post", writing(), Some(schema), schema));
        paths.insert(collection(&root, own), item.into());
    }
    paths
}

/// The paths of one kind; `list` is the schema of its lists.
pub(super) fn of_kind(paths: &mut Map<String, Value>, root: &str, kind: &dyn Kind, list: &str, names: &Names) {
    let own = kind.names();
    let (typed, collection) = (kind.supports_strategic_merge(), collection(root, own));
    let item = format!("{collection}/{{name}}");
    let schema = names.get(own.kind).map(String::as_str).unwrap_or_default();
    let operation = |verb: &str, action: &str, parameters: Vec<Value>, body: Option<&str>, answer: &str| {
        self::operation((own, typed), (own.group, own.version, own.kind), "", verb, action, parameters, body, answer)
    };
    let mut many = path_item(own, false);
    let mut one = path_item(own, true);
    for verb in own.verbs {
        match *verb {
            "list" => many.insert("get".into(), operation("list", "list", listing(), None, list)),
            "create" => many.insert("post".into(), operation("create", "post", writing(), Some(schema), schema)),
            "deletecollection" => {
                let status = format!("{META}.Status");
                many.insert(
                    "delete".into(),
                    operation("deletecollection", "deletecollection", listing(), Some(&delete_options()), &status),
                )
            }
            "get" => one.insert("get".into(), operation("read", "get", Vec::new(), None, schema)),
            "update" => one.insert("put".into(), operation("replace", "put", writing(), Some(schema), schema)),
            "patch" => one.insert("patch".into(), operation("patch", "patch", patching(), None, schema)),
            "delete" => {
                let status = format!("{META}.Status");
                one.insert("delete".into(), operation("delete", "delete", deleting(), Some(&delete_options()), &status))
            }
            _ => None,
        };
    }
    paths.insert(collection.clone(), many.into());
    if own.scope == Scope::Namespaced {
        let mut everywhere = path_item(own, false);
        everywhere.remove("parameters");
        everywhere.insert("get".into(), operation("listForAllNamespaces", "list", listing(), None, list));
        paths.insert(format!("{root}/{}", own.plural), everywhere.into());
    }
    for part in kind.subresources() {
        let (group, version) = if part.version.is_empty() { (own.group, own.version) } else { (part.group, part.version) };
        let Some(schema) = names.get(part.kind) else { continue };
        let mut item_of_part = path_item(own, true);
        for verb in part.verbs {
            let (method, id, action, parameters, body) = match *verb {
                "get" => ("get", "read", "get", Vec::new(), None),
                "update" => ("put", "replace", "put", writing(), Some(schema.as_str())),
                "patch" => ("patch", "patch", "patch", patching(), None),
                "create" => ("post", "create", "post", writing(), Some(schema.as_str())),
                _ => continue,
            };
            let gvk = (group, version, part.kind);
            item_of_part
                .insert(method.into(), self::operation((own, typed), gvk, part.name, id, action, parameters, body, schema));
        }
        paths.insert(format!("{item}/{}", part.name), item_of_part.into());
    }
    paths.insert(item, one.into());
}

fn collection(root: &str, own: &KindNames) -> String {
    match own.scope {
        Scope::Namespaced => format!("{root}/namespaces/{{namespace}}/{}", own.plural),
        Scope::Cluster => format!("{root}/{}", own.plural),
    }
}

fn delete_options() -> String {
    format!("{META}.DeleteOptions")
}

fn path_item(own: &KindNames, named: bool) -> Map<String, Value> {
    let mut parameters = Vec::new();
    let in_path = |name: &str, what: &str| json!({"name": name, "in": "path", "required": true, "description": what, "schema": {"type": "string", "uniqueItems": true}});
    if named {
        parameters.push(in_path("name", &format!("name of the {}", own.kind)));
    }
    if own.scope == Scope::Namespaced {
        parameters.push(in_path("namespace", "object name and auth scope, such as for teams and projects"));
    }
    parameters.push(query("pretty", "string", "Whether to print the output for people."));
    let mut item = Map::new();
    item.insert("parameters".into(), parameters.into());
    item
}

fn query(name: &str, kind: &str, what: &str) -> Value {
    json!({"name": name, "in": "query", "description": what, "schema": {"type": kind, "uniqueItems": true}})
}

fn writing() -> Vec<Value> {
    vec![
        query("dryRun", "string", "All: do everything but store."),
        query("fieldManager", "string", "Who makes the change."),
        query("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
    ]
}

fn patching() -> Vec<Value> {
    let mut parameters = writing();
    parameters.push(query("force", "boolean", "Whether apply takes over the fields of others."));
    parameters
}

fn deleting() -> Vec<Value> {
    vec![
        query("dryRun", "string", "All: do everything but delete."),
        query("gracePeriodSeconds", "integer", "Seconds until the object is gone."),
        query("orphanDependents", "boolean", "Deprecated: whether dependents stay."),
        query("propagationPolicy", "string", "Orphan, Background or Foreground."),
    ]
}

fn listing() -> Vec<Value> {
    vec![
        query("allowWatchBookmarks", "boolean", "Whether a watch may be sent bookmarks."),
        query("continue", "string", "Where the previous part of the list ended."),
        query("fieldSelector", "string", "Fields that the objects must have."),
        query("labelSelector", "string", "Labels that the objects must have."),
        query("limit", "integer", "How many objects at most."),
        query("resourceVersion", "string", "How new the answer must be."),
        query("resourceVersionMatch", "string", "How resourceVersion is meant."),
        query("sendInitialEvents", "boolean", "Whether a watch begins with what there is."),
        query("timeoutSeconds", "integer", "Seconds for which the call may last."),
        query("watch", "boolean", "Whether to go on with changes."),
    ]
}

#[expect(clippy::too_many_arguments, reason = "an operation is its arguments; a struct would name them twice")]
fn operation(
    (own, typed): (&KindNames, bool),
    (group, version, kind): (&str, &str, &str),
    part: &str,
    id: &str,
    action: &str,
    parameters: Vec<Value>,
    body: Option<&str>,
    answer: &str,
) -> Value {
    let upper = |text: &str| -> String {
        let mut letters = text.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
    };
    let group_name = group_name(own.group);
    let namespaced = if own.scope == Scope::Namespaced { "Namespaced" } else { "" };
    let id = format!("{id}{}{}{namespaced}{}{}", upper(&group_name), upper(own.version), own.kind, upper(part));
    let encodings = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
    let encodings = if typed { &encodings[..] } else { &encodings[..2] };
    let answer: Map<String, Value> =
        encodings.iter().map(|encoding| ((*encoding).to_owned(), json!({"schema": reference(answer)}))).collect();
    let mut operation = json!({
        "tags": [format!("{group_name}_{}", own.version)],
        "operationId": id,
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": answer}, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    });
    if action == "patch" {
        let schema = json!({"schema": reference(&format!("{META}.Patch"))});
        operation["requestBody"] = json!({"required": true, "content": {
            "application/apply-patch+yaml": schema,
            "application/json-patch+json": schema,
            "application/merge-patch+json": schema,
        }});
        if typed {
            operation["requestBody"]["content"]["application/strategic-merge-patch+json"] = schema;
        }
    } else if let Some(body) = body {
        operation["requestBody"] = json!({"content": {"*/*": {"schema": reference(body)}}});
    }
    operation
}

/// A group as tags and identifiers spell it: `apps`, `rbacAuthorization`, `stableExampleCom`.
///
/// Source: apiserver pkg/endpoints/openapi/openapi.go (`GetOperationIDAndTags`).
fn group_name(group: &str) -> String {
    if group.is_empty() {
        return "core".to_owned();
    }
    let mut words = group.strip_suffix(".k8s.io").unwrap_or(group).split(|letter: char| !letter.is_ascii_alphanumeric());
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        name + &letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    })
}
