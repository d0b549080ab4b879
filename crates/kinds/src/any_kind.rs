//! A kind, whoever tells of it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::Kind;
use crate::custom::CustomKind;

/// What the objects of a resource are.
#[derive(Clone)]
pub enum AnyKind {
    /// One of [`crate::ALL`].
    BuiltIn(&'static dyn Kind),
    /// A served version of a CustomResourceDefinition.
    Custom(Arc<CustomKind>),
}

impl Deref for AnyKind {
    type Target = dyn Kind;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::BuiltIn(kind) => *kind,
            Self::Custom(kind) => &**kind,
        }
    }
}

impl fmt::Debug for AnyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        write!(f, "{}/{} {}", names.group, names.version, names.kind)
    }
}
