//! Functions of texts: what matches a pattern.
//!
//! Source: apiserver pkg/cel/library/regex.go.

use cel::common::types::{CelList, CelString, INT_TYPE, STRING_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::arguments::{Answer, fault, integer, text, words};
use crate::custom::pattern::Pattern;

/// Declares them.
pub(super) fn declare(environment: &mut Env) -> Result<(), DeclarationError> {
    environment.add_member_overload("find", "string.find(string)", STRING_TYPE, vec![STRING_TYPE], find)?;
    environment.add_member_overload("findAll", "string.findAll(string)", STRING_TYPE, vec![STRING_TYPE], find_all)?;
    let args = vec![STRING_TYPE, INT_TYPE];
    environment.add_member_overload("findAll", "string.findAll(string,int)", STRING_TYPE, args, find_all)
}

fn pattern(args: &[CowVal<'_, '_>]) -> Result<Pattern, ExecutionError> {
    let pattern = Pattern::new(text(args, 1)?);
    match pattern.error() {
        Some(why) => Err(fault("find", format!("Illegal regex: {why}"))),
        None => Ok(pattern),
    }
}

fn find<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let found = pattern(&args)?.find_all(text(&args, 0)?, 1);
    words(found.into_iter().next().unwrap_or_default())
}

fn find_all<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let most = if args.len() > 2 { usize::try_from(integer(&args, 2)?).unwrap_or(usize::MAX) } else { usize::MAX };
    let found = pattern(&args)?.find_all(text(&args, 0)?, most);
    let found: Vec<Box<dyn Val>> =
        found.into_iter().map(|one| Box::new(CelString::from(one.to_owned())) as Box<dyn Val>).collect();
    Ok(CowVal::owned(CelList::from(found)))
}
