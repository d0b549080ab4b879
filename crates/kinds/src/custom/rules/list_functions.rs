//! Functions of lists, and lists as sets.
//!
//! Source: apiserver pkg/cel/library/lists.go, cel-go ext/sets.go.

use std::cmp::Ordering;

use cel::common::types::{BOOL_TYPE, BYTES_TYPE, DOUBLE_TYPE, DURATION_TYPE, DYN_TYPE, INT_TYPE, TIMESTAMP_TYPE, UINT_TYPE};
use cel::common::types::{CelDouble, CelInt, CelString, LIST_TYPE, STRING_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::arguments::{Answer, elements, fault, truth, whole};

/// Declares them.
pub(super) fn declare(environment: &mut Env) -> Result<(), DeclarationError> {
    environment.add_member_overload("isSorted", "list.isSorted()", LIST_TYPE, vec![], is_sorted)?;
    environment.add_member_overload("sum", "list.sum()", LIST_TYPE, vec![], sum)?;
    environment.add_member_overload("min", "list.min()", LIST_TYPE, vec![], min)?;
    environment.add_member_overload("max", "list.max()", LIST_TYPE, vec![], max)?;
    // Of strings `indexOf` is declared for their own type: one overload for each type of element keeps the two apart.
    for of in
        [STRING_TYPE, INT_TYPE, UINT_TYPE, DOUBLE_TYPE, BOOL_TYPE, BYTES_TYPE, DURATION_TYPE, TIMESTAMP_TYPE, LIST_TYPE, DYN_TYPE]
    {
        let name = of.name().to_owned();
        environment.add_member_overload("indexOf", &format!("list.indexOf({name})"), LIST_TYPE, vec![of.to_owned()], index_of)?;
        let id = format!("list.lastIndexOf({name})");
        environment.add_member_overload("lastIndexOf", &id, LIST_TYPE, vec![of], last_index_of)?;
    }
    let lists = || vec![LIST_TYPE, LIST_TYPE];
    environment.add_overload("sets.contains", "sets.contains(list,list)", lists(), sets_contains)?;
    environment.add_overload("sets.equivalent", "sets.equivalent(list,list)", lists(), sets_equivalent)?;
    environment.add_overload("sets.intersects", "sets.intersects(list,list)", lists(), sets_intersects)
}

fn order(one: &dyn Val, other: &dyn Val) -> Result<Ordering, ExecutionError> {
    let (got, want) = (one.get_type().name().to_owned(), "comparable".to_owned());
    one.as_comparer().ok_or(ExecutionError::UnexpectedType { got, want })?.compare(other)
}

fn is_sorted<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    for pair in elements(&args, 0)?.windows(2) {
        if order(pair[0], pair[1])?.is_gt() {
            return truth(false);
        }
    }
    truth(true)
}

fn sum<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let mut total: Box<dyn Val + 'v> = Box::new(CelInt::from(0));
    for (index, item) in elements(&args, 0)?.into_iter().enumerate() {
        total = if index == 0 {
            item.clone_as_boxed()
        } else {
            let (got, want) = (total.get_type().name().to_owned(), "number".to_owned());
            let adder = total.as_adder().ok_or(ExecutionError::UnexpectedType { got, want })?;
            adder.add(item)?.into_owned()
        };
    }
    Ok(CowVal::Owned(total))
}

fn extreme<'b, 'v>(args: &[CowVal<'b, 'v>], name: &str, wanted: Ordering) -> Answer<'b, 'v> {
    let mut items = elements(args, 0)?.into_iter();
    let mut best = items.next().ok_or_else(|| fault(name, format!("{name} called on empty list")))?;
    for item in items {
        if order(item, best)? == wanted {
            best = item;
        }
    }
    Ok(CowVal::Owned(best.clone_as_boxed()))
}

fn min<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    extreme(&args, "min", Ordering::Less)
}

fn max<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    extreme(&args, "max", Ordering::Greater)
}

fn index_of<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    whole(elements(&args, 0)?.iter().position(|item| item.equals(args[1].as_ref())).map_or(-1, |at| at as i64))
}

fn last_index_of<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    whole(elements(&args, 0)?.iter().rposition(|item| item.equals(args[1].as_ref())).map_or(-1, |at| at as i64))
}

/// Whether all elements of the second list are in the first.
fn includes(args: &[CowVal<'_, '_>], whole: usize, part: usize) -> Result<bool, ExecutionError> {
    let whole = elements(args, whole)?;
    Ok(elements(args, part)?.iter().all(|item| whole.iter().any(|one| same(*one, *item))))
}

fn sets_contains<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    truth(includes(&args, 0, 1)?)
}

fn sets_equivalent<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    truth(includes(&args, 0, 1)? && includes(&args, 1, 0)?)
}

fn sets_intersects<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let other = elements(&args, 1)?;
    truth(elements(&args, 0)?.iter().any(|item| other.iter().any(|one| same(*one, *item))))
}

/// Equality across kinds of numbers.
fn same(one: &dyn Val, other: &dyn Val) -> bool {
    let number = |value: &dyn Val| {
        let whole = value.downcast_ref::<CelInt>().map(|whole| *whole.inner() as f64);
        whole.or_else(|| value.downcast_ref::<CelDouble>().map(|double| *double.inner()))
    };
    match (one.downcast_ref::<CelString<'_>>(), number(one), number(other)) {
        (None, Some(one), Some(other)) => (one - other).abs() < f64::EPSILON,
        _ => one.equals(other),
    }
}
