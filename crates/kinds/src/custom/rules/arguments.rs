//! Arguments of functions.

use cel::ExecutionError;
use cel::common::traits::Iterable;
use cel::common::types::{CelBool, CelInt, CelString};
use cel::common::value::{CowVal, FromVal, Val};

/// What a function gives.
pub(super) type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// A fault of a function.
pub(super) fn fault(function: &str, message: impl Into<String>) -> ExecutionError {
    ExecutionError::FunctionError { function: function.to_owned(), message: message.into() }
}

/// An argument of a type.
pub(super) fn typed<'b, 'v, T: FromVal<'b, 'v> + Val>(args: &'b [CowVal<'_, 'v>], index: usize) -> Result<&'b T, ExecutionError> {
    let value: &'b (dyn Val + 'v) = args.get(index).ok_or(ExecutionError::MissingArgumentOrTarget)?.as_ref();
    value.downcast_ref::<T>().ok_or_else(|| ExecutionError::UnexpectedType {
        got: value.get_type().name().to_owned(),
        want: T::cel_type().name().to_owned(),
    })
}

/// A text.
pub(super) fn text<'b>(args: &'b [CowVal<'_, '_>], index: usize) -> Result<&'b str, ExecutionError> {
    typed::<CelString<'_>>(args, index).map(CelString::inner)
}

/// A whole number.
pub(super) fn integer(args: &[CowVal<'_, '_>], index: usize) -> Result<i64, ExecutionError> {
    typed::<CelInt>(args, index).map(|one| *one.inner())
}

/// The elements of a list.
pub(super) fn elements<'b, 'v>(args: &'b [CowVal<'_, 'v>], index: usize) -> Result<Vec<&'b (dyn Val + 'v)>, ExecutionError> {
    let list = args.get(index).ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let list: &'b (dyn Iterable + 'v) = list
        .as_iterable()
        .ok_or_else(|| ExecutionError::UnexpectedType { got: list.get_type().name().to_owned(), want: "list".to_owned() })?;
    let mut iterator = list.iter();
    Ok(std::iter::from_fn(|| iterator.next()).collect())
}

/// A truth as an answer.
pub(super) fn truth<'b, 'v>(value: bool) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(value)))
}

/// A number as an answer.
pub(super) fn whole<'b, 'v>(value: i64) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelInt::from(value)))
}

/// A text as an answer.
pub(super) fn words<'b, 'v>(value: impl Into<String>) -> Answer<'b, 'v> {
    Ok(CowVal::owned(CelString::from(value.into())))
}
