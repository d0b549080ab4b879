//! Functions that expressions may call.
//!
//! Source: apiserver pkg/cel/environment/base.go (which libraries there are) and pkg/cel/library.

use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::common::types::{CelString, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, extensions};

use super::{addresses, budget, formats, list_functions, quantity, text_functions, url};

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let environment = build().expect("every function is declared once; a test builds the environment");
    Arc::new(environment)
});

/// The environment of all rules.
pub(super) fn shared() -> Arc<Env> {
    Arc::clone(&ENVIRONMENT)
}

fn build() -> Result<Env, DeclarationError> {
    let mut environment = Env::stdlib();
    extensions::strings(&mut environment)?;
    environment.add_overload(budget::CHARGE, budget::CHARGE, vec![DYN_TYPE], budget::charge)?;
    list_functions::declare(&mut environment)?;
    text_functions::declare(&mut environment)?;
    quantity::declare(&mut environment)?;
    addresses::declare(&mut environment)?;
    url::declare(&mut environment)?;
    formats::declare(&mut environment)?;
    Ok(environment)
}

/// Parses an expression; its loops are metered.
///
/// # Errors
/// What is no expression.
pub(super) fn parse(source: &str) -> Result<IdedExpr, String> {
    let mut expression = shared().parser().parse(source).map_err(|error| error.to_string().trim().to_owned())?;
    budget::meter(&mut expression);
    Ok(expression)
}

/// A text as a value of another type, by the function of its name; `None` where it is none.
pub(super) fn convert(function: &str, text: &str) -> Option<Box<dyn Val>> {
    let args = vec![CowVal::owned(CelString::from(text.to_owned()))];
    let convert = shared().find_overload(function, &args)?;
    convert(args).ok().map(CowVal::into_owned)
}
