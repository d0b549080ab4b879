//! Maps in the order of their keys.

use std::any::Any;
use std::collections::BTreeMap;

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator, Sizer};
use cel::common::types::{CelInt, CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};

/// A map with texts for keys. Those of the `cel` crate have no order, and what a rule says must not depend on chance.
#[derive(Debug, Clone)]
pub(super) struct OrderedMap(BTreeMap<String, (CelString<'static>, Box<dyn Val>)>);

static TYPE: Type = MAP_TYPE;

impl OrderedMap {
    /// From its entries.
    pub(super) fn new(entries: impl std::iter::Iterator<Item = (String, Box<dyn Val>)>) -> Self {
        Self(entries.map(|(key, value)| (key.clone(), (CelString::from(key), value))).collect())
    }

    fn find(&self, key: &dyn Val) -> Result<Option<&(dyn Val + 'static)>, ExecutionError> {
        let Some(key) = key.downcast_ref::<CelString>() else {
            let (got, want) = (key.get_type().name().to_owned(), "map key".to_owned());
            return Err(ExecutionError::UnexpectedType { got, want });
        };
        Ok(self.0.get(key.inner()).map(|(_, value)| &**value))
    }
}

impl Val for OrderedMap {
    fn get_type(&self) -> &Type {
        &TYPE
    }
    fn cel_type() -> &'static Type {
        &TYPE
    }
    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }
    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }
    fn into_indexer<'v>(self: Box<Self>) -> Option<Box<dyn Indexer + 'v>>
    where
        Self: 'v,
    {
        Some(self)
    }
    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }
    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }
    fn equals(&self, other: &dyn Val) -> bool {
        if let Some(other) = other.downcast_ref::<Self>() {
            return self.0.len() == other.0.len()
                && self.0.iter().zip(&other.0).all(|((key, (_, one)), (same, (_, other)))| key == same && one.equals(&**other));
        }
        let (Some(sizer), Some(indexer)) = (other.as_sizer(), other.as_indexer()) else { return false };
        *sizer.size().inner() == self.0.len() as i64
            && self.0.values().all(|(key, value)| indexer.get(key).is_ok_and(|other| value.equals(other.as_ref())))
    }
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for OrderedMap {}

impl Container for OrderedMap {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        self.find(key).map(|found| found.is_some())
    }
}

impl Sizer for OrderedMap {
    fn size(&self) -> CelInt {
        CelInt::from(self.0.len() as i64)
    }
}

fn missing(key: &dyn Val) -> ExecutionError {
    let name = key.downcast_ref::<CelString>().map(|key| key.inner().to_owned()).unwrap_or_default();
    ExecutionError::NoSuchKey(std::sync::Arc::new(name))
}

impl Indexer for OrderedMap {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        match self.find(key)? {
            Some(value) => Ok(CowVal::Borrowed(value)),
            None => Err(missing(key)),
        }
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        match self.find(key)? {
            Some(value) => Ok(value.clone_as_boxed()),
            None => Err(missing(key)),
        }
    }
}

impl Iterable for OrderedMap {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Keys(self.0.values()))
    }
}

struct Keys<'b>(std::collections::btree_map::Values<'b, String, (CelString<'static>, Box<dyn Val>)>);

impl<'b, 'v> Iterator<'b, 'v> for Keys<'b> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|(key, _)| key as &dyn Val)
    }
}
