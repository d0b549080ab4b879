//! Values of objects as expressions see them: typed by the schema, without what it does not declare.
//!
//! Source: apiserver pkg/cel/common/values.go, apiextensions-apiserver pkg/apiserver/schema/cel/model (names and types).

use base64::Engine;
use cel::common::types::{CelBool, CelBytes, CelDouble, CelInt, CelList, CelNull, CelString};
use cel::common::value::Val;
use serde_json::{Number, Value};

use super::environment;
use super::map::OrderedMap;
use crate::custom::schema::{Additional, Schema, Type};

/// Words of CEL that stand for themselves in expressions.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A member's name as expressions spell it: `__dot__` for a dot and so on; `None` for a name that they cannot spell.
pub(super) fn escaped(name: &str) -> Option<String> {
    let begins = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    let spelled = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte));
    if !begins || !spelled {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let plain = name.replace("__", "__underscores__");
    Some(plain.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}

/// Whether expressions can see values of a schema at all: what is open is hidden from them.
pub(super) fn is_visible(schema: &Schema) -> bool {
    match schema.kind {
        None => schema.int_or_string,
        Some(Type::Object) => {
            let open = schema.properties.is_empty() && !matches!(schema.additional, Additional::Of(_));
            !(open && schema.preserve) || schema.embedded
        }
        Some(Type::Array) => schema.items.as_deref().is_none_or(is_visible),
        Some(_) => true,
    }
}

/// A value. `is_object` tells whether it has `apiVersion`, `kind` and `metadata` without declaring them.
pub(super) fn of(value: &Value, schema: &Schema, is_object: bool) -> Box<dyn Val> {
    match value {
        Value::Object(members) => match &schema.additional {
            Additional::Of(of) if schema.properties.is_empty() => {
                let entries = members.iter().map(|(name, member)| (name.clone(), self::of(member, of, of.embedded)));
                Box::new(OrderedMap::new(entries))
            }
            _ => Box::new(OrderedMap::new(members.iter().filter_map(|(name, member)| {
                if is_object {
                    match name.as_str() {
                        "apiVersion" | "kind" => return Some((name.clone(), text(member))),
                        "metadata" => return Some((name.clone(), metadata(member))),
                        _ => {}
                    }
                }
                let of = schema.properties.get(name.as_str()).filter(|of| is_visible(of))?;
                Some((escaped(name)?, self::of(member, of, of.embedded)))
            }))),
        },
        Value::Array(items) => {
            let any = Schema::default();
            let of = schema.items.as_deref().unwrap_or(&any);
            let items: Vec<Box<dyn Val>> = items.iter().map(|item| self::of(item, of, of.embedded)).collect();
            Box::new(CelList::from(items))
        }
        Value::String(text) => of_text(text, schema),
        Value::Number(one) => of_number(one, schema),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::Null => Box::new(CelNull),
    }
}

fn text(value: &Value) -> Box<dyn Val> {
    Box::new(CelString::from(value.as_str().unwrap_or_default().to_owned()))
}

/// Of metadata, rules see the names alone.
fn metadata(value: &Value) -> Box<dyn Val> {
    let members = value.as_object().into_iter().flatten();
    let names = members.filter(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    Box::new(OrderedMap::new(names.map(|(name, member)| (name.clone(), text(member)))))
}

fn of_number(one: &Number, schema: &Schema) -> Box<dyn Val> {
    let is_whole = schema.kind == Some(Type::Integer) || schema.int_or_string;
    match (one.as_i64(), one.as_f64()) {
        (Some(whole), _) if schema.kind != Some(Type::Number) => Box::new(CelInt::from(whole)),
        (_, Some(value)) if is_whole && value.fract() == 0.0 => Box::new(CelInt::from(value as i64)),
        (_, value) => Box::new(CelDouble::from(value.unwrap_or_default())),
    }
}

fn of_text(text: &str, schema: &Schema) -> Box<dyn Val> {
    let format = schema.rules.as_ref().and_then(|rules| rules.format).map(|format| format.name);
    let typed = match format {
        Some("date-time" | "datetime") => environment::convert("timestamp", text),
        Some("date") => environment::convert("timestamp", &format!("{text}T00:00:00Z")),
        Some("duration") => environment::convert("duration", text),
        Some("byte") => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text).ok();
            decoded.map(|bytes| Box::new(CelBytes::from(bytes)) as Box<dyn Val>)
        }
        _ => None,
    };
    typed.unwrap_or_else(|| Box::new(CelString::from(text.to_owned())))
}
