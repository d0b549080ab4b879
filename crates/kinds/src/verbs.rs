//! Sets of verbs as discovery prints them.

/// Everything that a stored resource can do.
pub(crate) const ALL: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// The same without deletion of a whole collection.
pub(crate) const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
/// A part of an object, such as its status.
pub(crate) const PART: &[&str] = &["get", "patch", "update"];
/// Streams.
pub(crate) const CONNECT: &[&str] = &["create", "get"];
/// Proxies.
pub(crate) const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
/// Requests that store nothing.
pub(crate) const CREATE: &[&str] = &["create"];
/// Reading alone.
pub(crate) const GET: &[&str] = &["get"];
/// Replacing alone.
pub(crate) const UPDATE: &[&str] = &["update"];
