//! Server-side apply: which manager owns which fields of an object, and what an applied configuration makes of both.
//!
//! [`FieldManager`] is the way in. Below it: sets of field paths ([`Set`]) and their written form, the view of a type that
//! apply needs ([`Schema`]), four walks over values of a type (check, field set, compare, merge, and removal of items), and
//! the rules of ownership.
//!
//! Source: kubernetes apimachinery pkg/util/managedfields and sigs.k8s.io/structured-merge-diff.
//!
//! Invariant: pure. Knows no kinds (a [`Schema`] is given), no store, no clock: who calls says what time it is.

mod cap;
mod check;
mod compare;
mod conflict;
mod element;
mod field_manager;
mod field_set;
mod fields_v1;
mod items;
mod last_applied;
mod literal;
mod managers;
mod merge;
mod name;
mod ownership;
mod remove;
mod scale;
mod schema;
mod set;

pub use conflict::{Conflict, Conflicts};
pub use element::{Path, PathElement};
pub use field_manager::{ApplyError, FieldManager, Versions, is_tracked, same_managers, set_managed_fields};
pub use fields_v1::FieldsError;
pub use literal::Literal;
pub use managers::{ManagedError, ManagerId, Managers, Operation, Owned};
pub use name::{check_manager, manager_of_agent};
pub use scale::ScaleFields;
pub use schema::{ListKey, ListKind, Scalar, Schema, Shape};
pub use set::Set;

#[cfg(test)]
mod test_schema;
#[cfg(test)]
mod tests;
