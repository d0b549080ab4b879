//! Rules of a whole object, place by place.

use cel::common::ast::IdedExpr;
use cel::common::types::{CelBool, CelOptional, CelString};
use cel::common::value::Val;
use cel::{Context, ExecutionError};
use daruma_api::status::FieldError;
use serde_json::Value;

use super::{LONGEST_MESSAGE, Rule, budget, environment, error, value};
use crate::custom::list_type::same_element;
use crate::custom::schema::{Additional, Schema};

/// Everything that the rules of a schema find wrong with an object, `old` being what it was. Faults of values that did not
/// change are let through, but for those of rules that compare with the old value.
pub(in crate::custom) fn errors(schema: &Schema, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    ask(schema, object, old, "", true)
}

/// The same for a default, which is at `path`.
pub(in crate::custom) fn default_errors(schema: &Schema, default: &Value, path: &str) -> Vec<FieldError> {
    ask(schema, default, None, path, false)
}

fn ask(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, root: bool) -> Vec<FieldError> {
    if !schema.has_rules {
        return Vec::new();
    }
    budget::start();
    let mut walk = Walk { wrong: Vec::new(), stopped: false };
    walk.value(schema, value, old, path, root);
    walk.wrong
}

struct Walk {
    wrong: Vec<FieldError>,
    stopped: bool,
}

impl Walk {
    fn value(&mut self, schema: &Schema, own: &Value, old: Option<&Value>, path: &str, root: bool) {
        if self.stopped || own.is_null() || !schema.has_rules {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        self.rules(schema, own, old, path, root);
        match own {
            Value::Array(items) => {
                let Some(of) = &schema.items else { return };
                for (index, item) in items.iter().enumerate() {
                    let before = old.and_then(|old| same_element(schema, item, old));
                    self.value(of, item, before, &format!("{path}[{index}]"), false);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    let before = old.and_then(|old| old.get(name));
                    if let Some(of) = schema.properties.get(name.as_str()) {
                        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                        self.value(of, member, before, &path, false);
                    } else if let Additional::Of(of) = &schema.additional {
                        self.value(of, member, before, &format!("{path}[{name}]"), false);
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, schema: &Schema, own: &Value, old: Option<&Value>, path: &str, root: bool) {
        if schema.validations.is_empty() {
            return;
        }
        let at = if path.is_empty() { "<nil>" } else { path };
        let kind = schema.kind.map_or("", super::super::schema::Type::name);
        let is_object = root || schema.embedded;
        let (value, before) = (value::of(own, schema, is_object), old.map(|old| value::of(old, schema, is_object)));
        for rule in &schema.validations {
            if rule.uses_old && before.is_none() && !rule.optional_old {
                continue;
            }
            let old_value = match (&before, rule.optional_old) {
                (Some(before), false) => Some(before.clone()),
                (Some(before), true) => Some(Box::new(CelOptional::of(before.clone())) as Box<dyn Val>),
                (None, true) => Some(Box::new(CelOptional::none()) as Box<dyn Val>),
                (None, false) => None,
            };
            let found = match &rule.expression {
                Ok(expression) => evaluate(expression, &*value, old_value.as_deref()),
                Err(why) => Err(format!("rule compile error: {why}")),
            };
            let fault = match found {
                Ok(Outcome::True) => continue,
                Ok(_) => {
                    let detail = message(rule, &*value, old_value.as_deref()).unwrap_or_else(|| rule.default_message());
                    let shown = (!matches!(kind, "object" | "array")).then(|| own.to_string());
                    let path = match (path, rule.field_path.as_str()) {
                        (_, "") => at.to_owned(),
                        ("", below) => below.trim_start_matches('.').to_owned(),
                        (path, below) if below.starts_with(['.', '[']) => format!("{path}{below}"),
                        (path, below) => format!("{path}.{below}"),
                    };
                    error(path, shown, detail, &rule.reason)
                }
                Err(why) if budget::is_spent() => {
                    self.stopped = true;
                    let detail = format!(
                        "'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                        rule.said()
                    );
                    self.wrong.push(FieldError::invalid(at, format!("{kind:?}"), detail));
                    return;
                }
                Err(why) if why.starts_with("no such overload") => FieldError::invalid(
                    at,
                    format!("{kind:?}"),
                    format!(
                        "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                        rule.said()
                    ),
                ),
                Err(why) if why.starts_with("rule compile error") => FieldError::invalid(at, format!("{kind:?}"), why),
                Err(why) => FieldError::invalid(at, format!("{kind:?}"), format!("{why} evaluating rule: {}", rule.said())),
            };
            let unchanged = old == Some(own) && !rule.uses_old;
            if !unchanged {
                self.wrong.push(fault);
            }
        }
    }
}

enum Outcome {
    True,
    Text(String),
    Other,
}

fn evaluate(expression: &IdedExpr, value: &dyn Val, old: Option<&dyn Val>) -> Result<Outcome, String> {
    let mut context = Context::with_env(environment::shared());
    context.add_variable_as_val("self", value.clone_as_boxed());
    if let Some(old) = old {
        context.add_variable_as_val("oldSelf", old.clone_as_boxed());
    }
    let found = cel::Value::resolve_val(expression, &context).map_err(|error| in_words(&error))?;
    if let Some(truth) = found.downcast_ref::<CelBool>() {
        return Ok(if *truth.inner() { Outcome::True } else { Outcome::Other });
    }
    Ok(found.downcast_ref::<CelString>().map_or(Outcome::Other, |text| Outcome::Text(text.inner().to_owned())))
}

/// The message that a rule makes of the value; `None` where it makes none that can be shown.
fn message(rule: &Rule, value: &dyn Val, old: Option<&dyn Val>) -> Option<String> {
    let expression = rule.message_expression.as_ref()?.as_ref().ok()?;
    let Ok(Outcome::Text(text)) = evaluate(expression, value, old) else { return None };
    let text = text.trim();
    let fits = !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n');
    fits.then(|| text.to_owned())
}

/// Errors as cel-go words them.
fn in_words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::NotSupportedAsMethod { .. }
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnsupportedBinaryOperator(..) => "no such overload".to_owned(),
        ExecutionError::UndeclaredReference(name) => format!("no such attribute(s): {name}"),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(index) => format!("index out of bounds: {index:?}"),
        ExecutionError::FunctionError { message, .. } => message.clone(),
        ExecutionError::InternalError(text) => text.clone(),
        other => other.to_string(),
    }
}
