//! Quantities of resources.
//!
//! Source: apiserver pkg/cel/library/quantity.go.

use std::any::Any;

use cel::common::types::{CelDouble, INT_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use daruma_api::quantity::Quantity;

use super::arguments::{Answer, fault, integer, text, truth, typed, whole};

static TYPE: Type = Type::new_unspecified_type("kubernetes.Quantity");

/// A quantity.
#[derive(Debug, Clone, Copy)]
struct Amount(Quantity);

impl Val for Amount {
    fn get_type(&self) -> &Type {
        &TYPE
    }
    fn cel_type() -> &'static Type {
        &TYPE
    }
    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| other.0 == self.0)
    }
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(*self)
    }
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Amount {}

/// Declares them.
pub(super) fn declare(environment: &mut Env) -> Result<(), DeclarationError> {
    let own = || TYPE.to_owned();
    environment.add_overload("quantity", "quantity(string)", vec![STRING_TYPE], |args| {
        let source = text(&args, 0)?;
        source.parse().map(|parsed| CowVal::owned(Amount(parsed))).map_err(|error| fault("quantity", format!("{error}")))
    })?;
    environment.add_overload("isQuantity", "isQuantity(string)", vec![STRING_TYPE], |args| {
        truth(text(&args, 0)?.parse::<Quantity>().is_ok())
    })?;
    environment.add_member_overload("sign", "quantity.sign()", own(), vec![], |args| {
        let amount = amount(&args, 0)?;
        whole(if amount.is_zero() {
            0
        } else if amount.is_negative() {
            -1
        } else {
            1
        })
    })?;
    environment
        .add_member_overload("isInteger", "quantity.isInteger()", own(), vec![], |args| truth(amount(&args, 0)?.is_whole()))?;
    environment.add_member_overload("asInteger", "quantity.asInteger()", own(), vec![], |args| {
        let amount = amount(&args, 0)?;
        if !amount.is_whole() {
            return Err(fault("asInteger", "cannot convert value to integer"));
        }
        whole(amount.value())
    })?;
    environment.add_member_overload("asApproximateFloat", "quantity.asApproximateFloat()", own(), vec![], |args| {
        let amount = amount(&args, 0)?;
        let value = if amount.is_whole() { amount.value() as f64 } else { amount.milli_value() as f64 / 1000.0 };
        Ok(CowVal::owned(CelDouble::from(value)))
    })?;
    environment.add_member_overload("isGreaterThan", "quantity.isGreaterThan(quantity)", own(), vec![own()], |args| {
        truth(amount(&args, 0)? > amount(&args, 1)?)
    })?;
    environment.add_member_overload("isLessThan", "quantity.isLessThan(quantity)", own(), vec![own()], |args| {
        truth(amount(&args, 0)? < amount(&args, 1)?)
    })?;
    environment.add_member_overload("compareTo", "quantity.compareTo(quantity)", own(), vec![own()], |args| {
        whole(amount(&args, 0)?.cmp(&amount(&args, 1)?) as i64)
    })?;
    for (name, negative) in [("add", false), ("sub", true)] {
        let change: cel::common::functions::Function = if negative { sub } else { add };
        environment.add_member_overload(name, &format!("quantity.{name}(quantity)"), own(), vec![own()], change)?;
        environment.add_member_overload(name, &format!("quantity.{name}(int)"), own(), vec![INT_TYPE], change)?;
    }
    Ok(())
}

fn amount(args: &[CowVal<'_, '_>], index: usize) -> Result<Quantity, ExecutionError> {
    typed::<Amount>(args, index).map(|amount| amount.0)
}

/// The second argument: a quantity or a number.
fn other(args: &[CowVal<'_, '_>]) -> Result<Quantity, ExecutionError> {
    amount(args, 1).or_else(|_| integer(args, 1).map(Quantity::units))
}

fn add<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    Ok(CowVal::owned(Amount(amount(&args, 0)? + other(&args)?)))
}

fn sub<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    Ok(CowVal::owned(Amount(amount(&args, 0)? - other(&args)?)))
}
