//! What apply must know of a type. Kinds give it from their schemas.

use serde_json::Value;

/// A place in a type: the type itself and what its surroundings say of it. Cheap to copy.
pub trait Schema: Copy {
    /// What a value of this type is.
    fn shape(self) -> Shape<Self>;

    /// What `value` is here: where the type is deduced, the value tells. What is null or missing tells nothing of a map.
    fn shape_of(self, value: Option<&Value>) -> Shape<Self> {
        match (self.shape(), value) {
            (Shape::Deduced, Some(Value::Object(_))) => Shape::Map { of: Some(self), atomic: false },
            (Shape::Deduced, Some(Value::Array(_))) => Shape::List { of: self, kind: ListKind::Atomic },
            (Shape::Deduced, _) => Shape::Scalar(Scalar::Any),
            (shape, _) => shape,
        }
    }

    /// A declared member of a struct; `None` for members of free maps, and where there is no such member.
    fn field(self, name: &str) -> Option<Self>;

    /// The keys of a list of kind [`ListKind::Map`].
    fn keys(&self) -> &[ListKey];

    /// Whether a struct here is there with its parent, empty where nothing is in it: a struct that Go does not hold by
    /// pointer. Who writes the first member of it does not own it for that.
    fn is_always_there(self) -> bool {
        false
    }

    /// Whether a free map or a list here is left out of what is written once it is empty, as Go does with members of its structs.
    fn is_left_out_when_empty(self) -> bool {
        true
    }
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape<S> {
    /// A plain value.
    Scalar(Scalar),
    /// Anything, replaced as a whole.
    Untyped,
    /// Anything: the members of an object, of this kind again, one by one; everything else as a whole
    /// (`__untyped_deduced_` of kube-openapi pkg/schemaconv). See [`Schema::shape_of`].
    Deduced,
    /// A list.
    List {
        /// Its elements.
        of: S,
        /// How it merges.
        kind: ListKind,
    },
    /// A struct or a map.
    Map {
        /// Members that are not declared; `None` where there may be none.
        of: Option<S>,
        /// Whether it is replaced as a whole.
        atomic: bool,
    },
}

/// Plain values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// A number.
    Numeric,
    /// A text.
    Text,
    /// True or false.
    Boolean,
    /// Any of them.
    Any,
}

/// How a list merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// As a whole.
    Atomic,
    /// By the values of its elements.
    Set,
    /// By keys of its elements.
    Map,
}

/// A key of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListKey {
    /// The member of the elements.
    pub name: Box<str>,
    /// What it is where an element has none.
    pub default: Option<Value>,
}
