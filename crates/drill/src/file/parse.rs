//! From text to a verified [`Drill`].

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::placed::{Placed, Places};
use super::yaml::{Data, Fault, Key, Node, Position, documents};
use super::{API_VERSION, Drill, verify};

/// Something that is wrong in a drill file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct FileError {
    /// Name of the file.
    pub file: String,
    /// Where.
    pub position: Position,
    /// Path of the place in the document, e.g. `spec.steps[2].target.machine`; empty for its top.
    pub place: String,
    /// What.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        write!(formatter, "{}:{line}:{column}: ", self.file)?;
        if !self.place.is_empty() {
            write!(formatter, "{}: ", self.place)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Everything that is wrong in a drill file, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FileErrors(pub Vec<FileError>);

impl fmt::Display for FileErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// Reads a drill and verifies all that can be verified without a cluster.
///
/// `name` is the file's name for errors, `sets` are values of parameters, and `read` gives the text of the
/// files that the drill names (`{file: PATH}`), as they are written there.
///
/// # Errors
/// Everything that is wrong, each with line and column.
pub fn parse(
    name: &str,
    text: &str,
    sets: &BTreeMap<String, String>,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Drill, FileErrors> {
    parse_placed(name, text, sets, read).map(|placed| placed.drill)
}

/// As [`parse`], for those who may find out more that is wrong.
///
/// # Errors
/// As [`parse`].
pub fn parse_placed(
    name: &str,
    text: &str,
    sets: &BTreeMap<String, String>,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Placed, FileErrors> {
    let alone = |root: Option<&Node>, fault: Fault| {
        let position = fault.at.unwrap_or(Position { line: 1, column: 1 });
        let place = root.zip(fault.at).map(|(root, at)| root.path_of(at)).unwrap_or_default();
        FileErrors(vec![FileError { file: name.to_owned(), position, place, message: fault.message }])
    };
    let mut documents = documents(text).map_err(|fault| alone(None, fault))?;
    if let Some(second) = documents.get(1) {
        return Err(alone(None, Fault::new(second.at, "a drill is one document, and here begins a second one")));
    }
    let Some(mut root) = documents.pop() else {
        return Err(alone(None, Fault { at: None, message: "there is nothing in it".to_owned() }));
    };
    identify(&root).map_err(|fault| alone(Some(&root), fault))?;
    let values = parameters(&root, sets).map_err(|fault| alone(Some(&root), fault))?;
    if let Some(spec) = root.get_mut("spec") {
        include(spec, &values, read).map_err(|fault| alone(None, fault))?;
    }
    let drill = Drill::deserialize(&root).map_err(|fault| alone(Some(&root), fault))?;
    let file = Places { name: name.to_owned(), root };
    file.refuse(verify::problems(&drill))?;
    Ok(Placed { drill, file })
}

/// Says what the file is before complaining of details.
fn identify(root: &Node) -> Result<(), Fault> {
    let text = |key| root.get(key).and_then(Node::text);
    if text("kind") != Some("Drill") || text("apiVersion") != Some(API_VERSION) {
        let at = root.get("kind").or_else(|| root.get("apiVersion")).map_or(root.at, |node| node.at);
        return Err(Fault::new(at, format!("a drill begins with `apiVersion: {API_VERSION}` and `kind: Drill`")));
    }
    Ok(())
}

/// Values of the declared parameters.
fn parameters(root: &Node, sets: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Fault> {
    let declared = match root.get("spec").and_then(|spec| spec.get("parameters")).map(|node| &node.data) {
        Some(Data::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    if let Some(name) = sets.keys().find(|name| !declared.iter().any(|(key, _)| key.text == **name)) {
        let known: Vec<&str> = declared.iter().map(|(key, _)| key.text.as_str()).collect();
        let known = if known.is_empty() { "it declares none".to_owned() } else { format!("there are {}", known.join(", ")) };
        return Err(Fault { at: None, message: format!("the drill has no parameter {name:?} to set; {known}") });
    }
    let value = |(key, node): &(Key, Node)| {
        let default = node.get("default").filter(|default| !default.is_null()).and_then(Node::text);
        match sets.get(&key.text).map(String::as_str).or(default) {
            Some(value) => Ok((key.text.clone(), value.to_owned())),
            None => Err(Fault::new(key.at, format!("parameter {:?} has no default and must be set: --set {0}=…", key.text))),
        }
    };
    declared.iter().map(value).collect()
}

/// Puts parameters and files in their places.
fn include(
    spec: &mut Node,
    values: &BTreeMap<String, String>,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<(), Fault> {
    if let Data::Map(entries) = &mut spec.data {
        for (key, value) in entries.iter_mut().filter(|(key, _)| key.text != "parameters") {
            value.substitute(values)?;
            match (key.text.as_str(), &mut value.data) {
                ("manifests", _) => include_files(value, values, read)?,
                ("steps", Data::List(steps)) => {
                    for step in steps {
                        for field in ["apply", "delete"] {
                            if let Some(objects) = step.get_mut(field) {
                                include_files(objects, values, read)?;
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Replaces each `{file: PATH}` of a list by the documents of that file, placed where it is named.
fn include_files(
    list: &mut Node,
    values: &BTreeMap<String, String>,
    read: &dyn Fn(&str) -> Result<String, String>,
) -> Result<(), Fault> {
    let Data::List(items) = &mut list.data else { return Ok(()) };
    let mut all = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        let path = match &item.data {
            Data::Map(entries) if entries.len() == 1 => item.get("file").and_then(Node::text).map(str::to_owned),
            _ => None,
        };
        let Some(path) = path else {
            all.push(item);
            continue;
        };
        let text = read(&path).map_err(|error| Fault::new(item.at, format!("cannot read {path:?}: {error}")))?;
        let inside = |fault: Fault| {
            let Position { line, column } = fault.at.unwrap_or_default();
            Fault::new(item.at, format!("{path}:{line}:{column}: {fault}"))
        };
        for mut document in documents(&text).map_err(inside)? {
            document.substitute(values).map_err(inside)?;
            document.place(item.at);
            all.push(document);
        }
    }
    *items = all;
    Ok(())
}
