//! Validation rules (`x-kubernetes-validations`): expressions in CEL over a value and what it was before.
//!
//! Expressions are parsed and checked once, with their schema, and evaluated by the `cel` crate. It has no types before it
//! runs and no limits of its own: which names, functions and members an expression uses is checked here ([`check`]), and how
//! many elements it goes through is counted ([`budget`]).
//!
//! Not as in the real server: types of operands are checked when a rule is evaluated, costs are not estimated when a
//! definition is written, lists of type `set` and `map` are equal in the same order alone, and there is no library of
//! semantic versions (a definition whose rules call it is refused).
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/cel/validation.go.

mod addresses;
mod arguments;
mod budget;
mod check;
mod environment;
mod formats;
mod list_functions;
mod map;
mod quantity;
mod text_functions;
mod url;
mod value;
mod walk;

use cel::common::ast::IdedExpr;
use daruma_api::status::FieldError;
use serde_json::Value;

use super::schema::Schema;
use crate::access::{flag, has, text};

pub(super) use walk::{default_errors, errors};

/// Bytes of a message that an expression makes.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    source: String,
    expression: Result<IdedExpr, String>,
    message: String,
    message_expression: Option<Result<IdedExpr, String>>,
    reason: String,
    field_path: String,
    optional_old: bool,
    says_optional_old: bool,
    uses_old: bool,
}

/// What is wrong with a rule of a definition: with which member of it, and what.
pub(crate) struct RuleError {
    /// `rule`, `messageExpression`, `optionalOldSelf`.
    pub member: &'static str,
    /// In words.
    pub detail: String,
}

impl Rule {
    /// Parses a rule. One that does not compile fails every value, as it does in the real server.
    pub(super) fn parse(rule: &Value) -> Self {
        let source = text(rule, "rule").to_owned();
        let expression = environment::parse(&source);
        let uses_old = expression.as_ref().is_ok_and(|expression| expression.references().has_variable("oldSelf"));
        let message = text(rule, "messageExpression");
        Self {
            expression,
            message: text(rule, "message").to_owned(),
            message_expression: (!message.trim().is_empty()).then(|| environment::parse(message)),
            reason: text(rule, "reason").to_owned(),
            field_path: text(rule, "fieldPath").trim().to_owned(),
            optional_old: flag(rule, "optionalOldSelf"),
            says_optional_old: has(rule, "optionalOldSelf"),
            uses_old,
            source,
        }
    }

    /// Whether it compares with the old value.
    pub(crate) fn uses_old(&self) -> bool {
        self.uses_old
    }

    /// Everything that is wrong with its expressions on values of a schema. `root` tells whether they are whole objects.
    pub(crate) fn errors(&self, schema: &Schema, root: bool) -> Vec<RuleError> {
        let mut wrong = Vec::new();
        let mut expression = |member, expression: &Result<IdedExpr, String>| {
            let found = match expression {
                Ok(expression) => check::errors(expression, schema, root, self.optional_old),
                Err(why) => vec![why.clone()],
            };
            wrong.extend(found.into_iter().map(|why| RuleError { member, detail: format!("compilation failed: {why}") }));
        };
        expression("rule", &self.expression);
        if let Some(message) = &self.message_expression {
            expression("messageExpression", message);
        }
        if self.says_optional_old && !self.uses_old && self.expression.is_ok() {
            let detail = "may not be set if oldSelf is not used in rule".to_owned();
            wrong.push(RuleError { member: "optionalOldSelf", detail });
        }
        wrong
    }

    fn said(&self) -> &str {
        if self.message.is_empty() { self.source.trim() } else { self.message.trim() }
    }

    /// What a broken rule says where it has no message of its own.
    fn default_message(&self) -> String {
        if self.message.is_empty() { format!("failed rule: {}", self.said()) } else { self.said().to_owned() }
    }
}

/// The error of a reason.
fn error(path: String, value: Option<String>, detail: String, reason: &str) -> FieldError {
    match reason {
        "FieldValueForbidden" => FieldError::forbidden(path, detail),
        "FieldValueRequired" => FieldError::required(path, detail),
        "FieldValueDuplicate" => FieldError { value, ..FieldError::duplicate(path, "") },
        _ => FieldError { value, ..FieldError::invalid(path, "", detail) },
    }
}

#[cfg(test)]
mod tests;
