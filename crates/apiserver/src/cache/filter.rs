//! Which objects a list or watch shows.

use daruma_api::selector::{Operator, Requirement, Selector};

use crate::storage::Item;

/// Namespace, label selector and field selector.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Empty for all.
    pub namespace: String,
    /// Labels.
    pub labels: Selector,
    fields: Vec<(Field, Requirement)>,
}

/// Where a field's value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    Other(usize),
}

/// The one value of one field that all selected objects share; watchers are filed under it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum IndexKey {
    /// `metadata.name`.
    Name(Box<str>),
    /// The selectable field of this number.
    Field(usize, Box<str>),
}

impl Filter {
    /// Puts the three together. `place` gives the number, in the cache, of a field other than name and namespace.
    ///
    /// # Errors
    /// The first field that the kind does not select by.
    pub fn new(
        namespace: &str,
        labels: Selector,
        fields: Selector,
        place: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, String> {
        let mut known = Vec::with_capacity(fields.requirements.len());
        for requirement in fields.requirements {
            let field = match requirement.key.as_str() {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                key => match place(key) {
                    Some(index) => Field::Other(index),
                    None => return Err(requirement.key),
                },
            };
            known.push((field, requirement));
        }
        Ok(Self { namespace: namespace.into(), labels, fields: known })
    }

    /// Everything in one namespace.
    pub fn of_namespace(namespace: &str) -> Self {
        Self { namespace: namespace.into(), ..Self::default() }
    }

    /// Whether everything of the namespace is selected.
    pub fn selects_all(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// The name that all selected objects must have.
    pub fn exact_name(&self) -> Option<&str> {
        self.exact(Field::Name)
    }

    /// The value that the selectable field of this number must have.
    pub fn exact_field(&self, index: usize) -> Option<&str> {
        self.exact(Field::Other(index))
    }

    /// Whether `item` is selected.
    pub fn matches(&self, item: &Item) -> bool {
        (self.namespace.is_empty() || item.namespace() == self.namespace)
            && self.fields.iter().all(|(field, requirement)| {
                requirement.matches(Some(match field {
                    Field::Name => item.name(),
                    Field::Namespace => item.namespace(),
                    Field::Other(index) => item.field(*index),
                }))
            })
            && self.labels.matches_with(|key| item.label(key))
    }

    /// Under what a watcher with this filter is filed; `None` where it may meet any object.
    pub fn index_key(&self) -> Option<IndexKey> {
        if let Some(name) = self.exact(Field::Name) {
            return Some(IndexKey::Name(name.into()));
        }
        self.fields.iter().find_map(|(field, requirement)| match (field, requirement.operator, requirement.values.as_slice()) {
            (Field::Other(index), Operator::In, [value]) => Some(IndexKey::Field(*index, value.as_str().into())),
            _ => None,
        })
    }

    fn exact(&self, wanted: Field) -> Option<&str> {
        self.fields.iter().find_map(|(field, requirement)| match (requirement.operator, requirement.values.as_slice()) {
            (Operator::In, [value]) if *field == wanted => Some(value.as_str()),
            _ => None,
        })
    }
}
