//! Whether values follow a schema.
//!
//! Messages, and which of several failed alternatives is told, are those of the real server; so are its oddities: what
//! `anyOf` and its like say names no field, and errors of a status are told with paths that begin in it.
//!
//! Source: kube-openapi pkg/validation/{validate,errors}, apiextensions-apiserver
//! pkg/apiserver/validation/{validation,ratcheting}.go.

use daruma_api::status::FieldError;
use serde_json::{Map, Number, Value};

use super::list_type::same_element;
use super::number;
use super::schema::{Additional, Rules, Schema, Type};

/// Everything that is wrong with a value. Parts that equal those of `old` are let through. `base` is where the value is
/// in its object, `None` for the object itself.
pub(crate) fn errors(schema: &Schema, value: &Value, old: Option<&Value>, base: Option<&str>) -> Vec<FieldError> {
    Walk { base }.value(schema, value, old, "").errors
}

/// What came out of a check: faults, and how many checks a value passed. The more it passed, the better an alternative fits.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    passed: u32,
}

impl Outcome {
    fn passed() -> Self {
        Self { errors: Vec::new(), passed: 1 }
    }

    fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.passed += other.passed;
    }
}

struct Walk<'a> {
    base: Option<&'a str>,
}

impl Walk<'_> {
    fn at(&self, path: &str) -> String {
        match (self.base, path.trim_start_matches('.')) {
            (None, "") => "<nil>".to_owned(),
            (None, path) => path.to_owned(),
            (Some(base), "") => base.to_owned(),
            (Some(base), path) => format!("{base}.{path}"),
        }
    }

    fn invalid(&self, path: &str, value: impl Into<String>, why: &str) -> FieldError {
        FieldError::invalid(self.at(path), value, format!("{path} in body {why}"))
    }

    /// A fault that is told of the object as a whole.
    fn general(&self, text: String) -> FieldError {
        FieldError::invalid(self.at(""), "\"\"", text)
    }

    fn wrong_type(&self, path: &str, wanted: &str, found: &str) -> FieldError {
        let mut error = self.invalid(path, format!("{found:?}"), &format!("must be of type {wanted}: {found:?}"));
        error.reason = "FieldValueTypeInvalid";
        error
    }

    fn value(&self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) -> Outcome {
        let mut outcome = Outcome::default();
        if value.is_null() {
            outcome.merge(self.kind(schema, value, path));
            outcome.merge(self.allowed(schema, value, path));
        } else {
            if schema.kind.is_some() || schema.int_or_string || format_of(schema).is_some() {
                outcome.merge(self.kind(schema, value, path));
                outcome.passed += 1;
            }
            if let Some(rules) = &schema.rules {
                outcome.merge(self.alternatives(rules, value, old, path));
            }
            outcome.passed += 1;
            match value {
                Value::String(text) => {
                    outcome.merge(self.text(schema, text, path));
                    outcome.passed += 1;
                }
                Value::Number(one) => {
                    outcome.merge(self.number(schema, one, path));
                    outcome.passed += 2;
                }
                Value::Array(items) => {
                    outcome.merge(self.items(schema, items, old, path));
                    outcome.passed += 2;
                }
                _ => {}
            }
            outcome.merge(self.allowed(schema, value, path));
            outcome.passed += 1;
            if let Value::Object(members) = value {
                outcome.merge(self.members(schema, members, old, path));
                outcome.passed += 1;
            }
            outcome.passed += 1;
        }
        if !outcome.errors.is_empty() && old == Some(value) {
            outcome.errors.clear();
        }
        outcome
    }

    fn kind(&self, schema: &Schema, value: &Value, path: &str) -> Outcome {
        let wanted: &[Type] = match (&schema.kind, schema.int_or_string) {
            (_, true) => &[Type::Integer, Type::String],
            (Some(kind), false) => std::slice::from_ref(kind),
            (None, false) => &[],
        };
        let fail = |wanted: &str, found: &str| Outcome { errors: vec![self.wrong_type(path, wanted, found)], passed: 0 };
        let names = || wanted.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(",");
        let (found, found_format) = match value {
            Value::Null if wanted.is_empty() || schema.nullable => return Outcome::passed(),
            Value::Null => return fail(&names(), "null"),
            Value::Bool(_) => (Type::Boolean, ""),
            Value::String(_) => (Type::String, ""),
            Value::Array(_) => (Type::Array, ""),
            Value::Object(_) => (Type::Object, ""),
            Value::Number(one) if one.is_f64() => (Type::Number, "float64"),
            Value::Number(_) => (Type::Integer, "int64"),
        };
        let whole = value.as_f64().is_some_and(is_whole);
        let fits = wanted.contains(&found)
            || (found == Type::Number && whole && wanted.contains(&Type::Integer))
            || (found == Type::Integer && wanted.contains(&Type::Number));
        let has_text = matches!(found, Type::String | Type::Array);
        if let Some(format) = format_of(schema) {
            if !has_text && !fits && format != found_format {
                return fail(format, found_format);
            }
            if has_text && !wanted.contains(&Type::Number) && !wanted.contains(&Type::Integer) {
                return Outcome::passed();
            }
        }
        if fits { Outcome::passed() } else { fail(&names(), found.name()) }
    }

    fn allowed(&self, schema: &Schema, value: &Value, path: &str) -> Outcome {
        let Some(allowed) = schema.rules.as_ref().map(|rules| &rules.allowed).filter(|allowed| !allowed.is_empty()) else {
            return Outcome::default();
        };
        if !value.is_null() && allowed.iter().any(|one| equal(one, value)) {
            return Outcome::default();
        }
        let texts: Vec<String> = allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        Outcome { errors: vec![FieldError::not_supported(self.at(path), shown(value), &texts)], passed: 0 }
    }

    /// `anyOf`, `oneOf`, `allOf`, `not`.
    fn alternatives(&self, rules: &Rules, value: &Value, old: Option<&Value>, path: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let check =
            |schemas: &[Schema]| -> Vec<Outcome> { schemas.iter().map(|schema| self.value(schema, value, old, path)).collect() };
        let any = check(&rules.any_of);
        if !any.is_empty() {
            match any.iter().position(|one| one.errors.is_empty()) {
                Some(first) => outcome.merge(any.into_iter().nth(first).unwrap_or_default()),
                None => {
                    outcome.errors.push(self.general(format!("{path:?} must validate at least one schema (anyOf)")));
                    outcome.merge(best(any));
                }
            }
        }
        let mut one = check(&rules.one_of);
        if !one.is_empty() {
            let good = one.iter().filter(|one| one.errors.is_empty()).count();
            let verdict = match good {
                0 => "Found none valid".to_owned(),
                _ => format!("Found {good} valid alternatives"),
            };
            if good != 1 {
                let text = format!("{path:?} must validate one and only one schema (oneOf). {verdict}");
                outcome.errors.push(self.general(text));
            }
            match good {
                0 => outcome.merge(best(one)),
                1 => {
                    one.retain(|one| one.errors.is_empty());
                    outcome.merge(one.pop().unwrap_or_default());
                }
                _ => {}
            }
        }
        let all = check(&rules.all_of);
        if !all.is_empty() {
            let good = all.iter().filter(|one| one.errors.is_empty()).count();
            let complete = good == all.len();
            for one in all {
                outcome.merge(one);
            }
            if !complete {
                let tail = if good == 0 { ". None validated" } else { "" };
                outcome.errors.push(self.general(format!("{path:?} must validate all the schemas (allOf){tail}")));
            }
        }
        if let Some(not) = &rules.not
            && self.value(not, value, old, path).errors.is_empty()
        {
            outcome.errors.push(self.general(format!("{path:?} must not validate the schema (not)")));
        }
        outcome.passed += 1;
        outcome
    }

    fn text(&self, schema: &Schema, text: &str, path: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(rules) = &schema.rules else { return outcome };
        let length = text.chars().count() as i64;
        let value = || format!("{text:?}");
        if let Some(most) = rules.max_length.filter(|most| length > *most) {
            outcome.errors.push(FieldError {
                reason: "FieldValueTooLong",
                field: self.at(path),
                value: None,
                detail: format!("may not be more than {most} bytes"),
            });
        } else if let Some(least) = rules.min_length.filter(|least| length < *least) {
            outcome.errors.push(self.invalid(path, value(), &format!("should be at least {least} chars long")));
        } else if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
            let why = match pattern.error() {
                Some(error) => format!("should match '{}, but pattern is invalid: {error}'", pattern.source),
                None => format!("should match '{}'", pattern.source),
            };
            outcome.errors.push(self.invalid(path, value(), &why));
        }
        if let Some(format) = rules.format.filter(|format| format.is_of_texts()) {
            if !format.accepts(text) {
                outcome.errors.push(self.wrong_type(path, format.name, text));
            }
            outcome.passed += 1;
        }
        outcome
    }

    fn number(&self, schema: &Schema, one: &Number, path: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let (Some(rules), Some(value)) = (&schema.rules, one.as_f64()) else { return outcome };
        let fits = match format_of(schema) {
            Some("int32") => value >= f64::from(i32::MIN) && value <= f64::from(i32::MAX),
            Some("float") => value.abs() <= f64::from(f32::MAX),
            _ => true,
        };
        if let (false, Some(format), Some(kind)) = (fits, format_of(schema), schema.kind) {
            let text = format!("Checked value must be of type {} with format {format} in {path}", kind.name());
            outcome.errors.push(self.general(text));
        }
        let mut invalid = |why: String| outcome.errors.push(self.invalid(path, number::shown(one), &why));
        // Whole numbers are compared as such: what is behind the point of a bound does not count.
        let bound = |bound: f64| if one.is_i64() { bound.trunc() } else { bound };
        if let Some(factor) = rules.multiple_of {
            let factor = bound(factor);
            let is_multiple = match (one.as_i64(), factor) {
                (_, ..=0.0) => true,
                (Some(whole), factor) => whole % (factor as i64) == 0,
                (None, factor) if factor < 1.0 => is_whole(1.0 / factor * value),
                (None, factor) => is_whole(value / factor),
            };
            if factor <= 0.0 {
                let text = format!("factor MultipleOf declared for {path} must be positive: {}", number::float(factor));
                outcome.errors.push(FieldError::invalid(self.at(path), number::float(factor), text));
                return outcome;
            }
            if !is_multiple {
                invalid(format!("should be a multiple of {}", number::float(factor)));
            }
        }
        if let Some((least, exclusive)) = rules.minimum.map(|(least, exclusive)| (bound(least), exclusive))
            && (value < least || (exclusive && value <= least))
        {
            let than = if exclusive { "greater than" } else { "greater than or equal to" };
            invalid(format!("should be {than} {}", number::float(least)));
        }
        if let Some((most, exclusive)) = rules.maximum.map(|(most, exclusive)| (bound(most), exclusive))
            && (value > most || (exclusive && value >= most))
        {
            let than = if exclusive { "less than" } else { "less than or equal to" };
            invalid(format!("should be {than} {}", number::float(most)));
        }
        outcome
    }

    fn items(&self, schema: &Schema, items: &[Value], old: Option<&Value>, path: &str) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(of) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                let before = old.and_then(|old| same_element(schema, item, old));
                outcome.merge(self.value(of, item, before, &format!("{path}[{index}]")));
            }
        }
        let Some(rules) = &schema.rules else { return outcome };
        let count = items.len() as i64;
        if let Some(least) = rules.min_items.filter(|least| count < *least) {
            outcome.errors.push(self.invalid(path, count.to_string(), &format!("should have at least {least} items")));
        }
        if let Some(most) = rules.max_items.filter(|most| count > *most) {
            outcome.errors.push(self.too_many(path, count, most));
        }
        outcome
    }

    fn too_many(&self, path: &str, count: i64, most: i64) -> FieldError {
        FieldError {
            reason: "FieldValueTooMany",
            field: self.at(path),
            value: Some(count.to_string()),
            detail: format!("must have at most {most} items"),
        }
    }

    fn members(&self, schema: &Schema, members: &Map<String, Value>, old: Option<&Value>, path: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let count = members.len() as i64;
        if let Some(rules) = &schema.rules {
            if let Some(least) = rules.min_properties.filter(|least| count < *least) {
                let why = format!("should have at least {least} properties");
                outcome.errors.push(self.invalid(path, count.to_string(), &why));
            }
            if let Some(most) = rules.max_properties.filter(|most| count > *most) {
                outcome.errors.push(self.too_many(path, count, most));
            }
        }
        for (name, member) in members {
            let before = old.filter(|_| !schema.atomic).and_then(|old| old.get(name));
            match (schema.properties.get(name.as_str()), &schema.additional) {
                (Some(of), _) => {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    outcome.merge(self.value(of, member, before, &path));
                }
                (None, Additional::Of(of)) => outcome.merge(self.value(of, member, before, &format!("{path}.{name}"))),
                (None, Additional::Any(false)) => {
                    let text = format!("{path}.{name} in body is a forbidden property");
                    outcome.errors.push(FieldError::invalid(self.at(path), format!("{name:?}"), text));
                }
                (None, Additional::Any(true) | Additional::None) => {}
            }
        }
        for name in schema.rules.iter().flat_map(|rules| &rules.required) {
            if !members.contains_key(&**name) {
                outcome.errors.push(FieldError::required(self.at(&format!("{path}.{name}")), ""));
            }
        }
        outcome
    }
}

/// The alternative that passed the most checks, the first of equal ones.
fn best(outcomes: Vec<Outcome>) -> Outcome {
    outcomes.into_iter().reduce(|best, one| if one.passed > best.passed { one } else { best }).unwrap_or_default()
}

fn format_of(schema: &Schema) -> Option<&'static str> {
    schema.rules.as_ref()?.format.map(|format| format.name)
}

fn is_whole(value: f64) -> bool {
    value.is_finite() && value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_991.0
}

fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(one) => number::shown(one),
        other => other.to_string(),
    }
}
