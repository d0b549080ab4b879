//! How much the rules of one object may cost: elements that macros go through.
//!
//! Each range of a loop is wrapped in a call that charges its length before the loop begins, so that loops in loops are
//! charged for each turn. The count belongs to the thread, because overloads are plain functions; it is set anew before each
//! object, so that what comes out depends on the object alone.
//!
//! Source: apiserver pkg/apis/cel/config.go has limits of another unit (estimated costs).

use std::cell::Cell;

use cel::ExecutionError;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr};
use cel::common::value::CowVal;

/// Elements that the rules of one object go through at most.
const MOST: i64 = 1_000_000;
/// No expression can call a function of this name.
pub(super) const CHARGE: &str = "@charge";

thread_local! {
    static LEFT: Cell<i64> = const { Cell::new(0) };
}

/// Before the rules of an object.
pub(super) fn start() {
    LEFT.set(MOST);
}

/// Whether the rules have cost too much.
pub(super) fn is_spent() -> bool {
    LEFT.get() < 0
}

/// Charges the length of a list or map and gives it back.
pub(super) fn charge<'b, 'v>(mut args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let range = args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let length = range.as_sizer().map_or(1, |sizer| *sizer.size().inner());
    LEFT.set(LEFT.get().saturating_sub(length));
    if is_spent() {
        return Err(ExecutionError::InternalError("operation cancelled: actual cost limit exceeded".to_owned()));
    }
    Ok(range)
}

/// Wraps the ranges of all loops of an expression.
pub(super) fn meter(expression: &mut IdedExpr) {
    match &mut expression.expr {
        Expr::Call(call) => {
            if let Some(target) = &mut call.target {
                meter(target);
            }
            call.args.iter_mut().for_each(meter);
        }
        Expr::Comprehension(loop_) => {
            for part in
                [&mut loop_.iter_range, &mut loop_.accu_init, &mut loop_.loop_cond, &mut loop_.loop_step, &mut loop_.result]
            {
                meter(part);
            }
            let range = std::mem::take(&mut loop_.iter_range);
            let id = range.id;
            let call = CallExpr { func_name: CHARGE.to_owned(), target: None, args: vec![range] };
            loop_.iter_range = IdedExpr { id, expr: Expr::Call(call) };
        }
        Expr::List(list) => list.elements.iter_mut().for_each(meter),
        Expr::Select(select) => meter(&mut select.operand),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    meter(&mut entry.key);
                    meter(&mut entry.value);
                }
            }
        }
        Expr::Struct(_) | Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}
