//! What an expression speaks of is there: variables, functions, and members of values of a known type.
//!
//! The real server checks the types of all expressions (cel-go `Env.Compile`). Here members are followed from `self` as far as
//! the schema tells them; whether an operator fits its operands is seen when a rule is evaluated.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, operators};

use super::value;
use crate::custom::schema::{Additional, Schema, Type};

/// Everything that is not there.
pub(super) fn errors(expression: &IdedExpr, schema: &Schema, root: bool, optional_old: bool) -> Vec<String> {
    let own = Known::Value(schema, root || schema.embedded);
    let old = if optional_old { Known::Nothing } else { own };
    let mut check = Check { scope: vec![("self".to_owned(), own), ("oldSelf".to_owned(), old)], wrong: Vec::new() };
    check.expression(expression);
    check.wrong
}

/// What is known of the type of an expression.
#[derive(Clone, Copy)]
enum Known<'a> {
    Nothing,
    /// A value of a schema; whether it is a whole object.
    Value(&'a Schema, bool),
    Metadata,
}

struct Check<'a> {
    scope: Vec<(String, Known<'a>)>,
    wrong: Vec<String>,
}

impl<'a> Check<'a> {
    fn expression(&mut self, expression: &IdedExpr) -> Known<'a> {
        match &expression.expr {
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                let of = self.expression(&select.operand);
                self.member(of, &select.field)
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(loop_) => {
                let range = self.expression(&loop_.iter_range);
                self.expression(&loop_.accu_init);
                let depth = self.scope.len();
                let of = match range {
                    Known::Value(schema, _) => element(schema),
                    Known::Nothing | Known::Metadata => Known::Nothing,
                };
                let (first, second) = if loop_.iter_var2.is_some() { (Known::Nothing, of) } else { (of, Known::Nothing) };
                self.scope.push((loop_.iter_var.clone(), first));
                if let Some(name) = &loop_.iter_var2 {
                    self.scope.push((name.clone(), second));
                }
                self.scope.push((loop_.accu_var.clone(), Known::Nothing));
                self.expression(&loop_.loop_cond);
                self.expression(&loop_.loop_step);
                self.expression(&loop_.result);
                self.scope.truncate(depth);
                Known::Nothing
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.expression(element);
                }
                Known::Nothing
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.expression(&entry.key);
                        self.expression(&entry.value);
                    }
                }
                Known::Nothing
            }
            Expr::Struct(one) => {
                self.wrong.push(format!("undeclared reference to '{}' (in container '')", one.type_name));
                Known::Nothing
            }
            Expr::Literal(_) | Expr::Unspecified => Known::Nothing,
        }
    }

    fn name(&mut self, name: &str) -> Known<'a> {
        const TYPES: [&str; 13] = [
            "bool",
            "bytes",
            "double",
            "dyn",
            "duration",
            "int",
            "list",
            "map",
            "null_type",
            "string",
            "timestamp",
            "type",
            "uint",
        ];
        if let Some((_, known)) = self.scope.iter().rev().find(|(known, _)| known == name) {
            return *known;
        }
        if !TYPES.contains(&name) && !name.starts_with('@') {
            self.wrong.push(format!("undeclared reference to '{name}' (in container '')"));
        }
        Known::Nothing
    }

    /// Whether an expression is the first part of a function's name: `math` of `math.abs`.
    fn is_namespace(&self, name: &str) -> bool {
        !self.scope.iter().any(|(known, _)| known == name) && NAMESPACES.contains(&name)
    }

    fn member(&mut self, of: Known<'a>, name: &str) -> Known<'a> {
        let found = match of {
            Known::Nothing => return Known::Nothing,
            Known::Metadata => matches!(name, "name" | "generateName").then_some(Known::Nothing),
            Known::Value(_, true) if matches!(name, "apiVersion" | "kind") => Some(Known::Nothing),
            Known::Value(_, true) if name == "metadata" => Some(Known::Metadata),
            Known::Value(schema, _) => match (schema.kind, &schema.additional) {
                (Some(Type::Object), Additional::Of(of)) if schema.properties.is_empty() => Some(Known::Value(of, of.embedded)),
                (Some(Type::Object), _) => schema
                    .properties
                    .iter()
                    .find(|(own, of)| value::escaped(own).is_some_and(|own| own == name) && value::is_visible(of))
                    .map(|(_, of)| Known::Value(of, of.embedded)),
                (None, _) => return Known::Nothing,
                _ => None,
            },
        };
        found.unwrap_or_else(|| {
            self.wrong.push(format!("undefined field '{name}'"));
            Known::Nothing
        })
    }

    fn call(&mut self, call: &CallExpr) -> Known<'a> {
        let mut name = call.func_name.clone();
        if let Some(target) = &call.target {
            match &target.expr {
                Expr::Ident(space) if self.is_namespace(space) => name = format!("{space}.{name}"),
                _ => {
                    self.expression(target);
                }
            }
        }
        let args: Vec<Known<'a>> = call.args.iter().map(|arg| self.expression(arg)).collect();
        let is_operator = name.starts_with(['_', '@', '!', '-', '?']);
        if !is_operator && !FUNCTIONS.contains(&name.as_str()) {
            self.wrong.push(format!("undeclared reference to '{name}' (in container '')"));
        }
        match (name.as_str(), args.first()) {
            (super::budget::CHARGE, Some(known)) => *known,
            (operators::INDEX, Some(Known::Value(schema, _))) => match schema.kind {
                Some(Type::Array) => schema.items.as_deref().map_or(Known::Nothing, |of| Known::Value(of, of.embedded)),
                Some(Type::Object) => match &schema.additional {
                    Additional::Of(of) => Known::Value(of, of.embedded),
                    _ => Known::Nothing,
                },
                _ => Known::Nothing,
            },
            _ => Known::Nothing,
        }
    }
}

/// What a loop over a value goes through: elements of lists, keys of maps.
fn element(schema: &Schema) -> Known<'_> {
    match (schema.kind, schema.items.as_deref()) {
        (Some(Type::Array), Some(of)) => Known::Value(of, of.embedded),
        _ => Known::Nothing,
    }
}

const NAMESPACES: &[&str] = &["format", "ip", "optional", "sets", "strings"];

/// Functions of the standard library and of those of [`super::environment`], which the `cel` crate does not list.
const FUNCTIONS: &[&str] = &[
    "add",
    "asApproximateFloat",
    "asInteger",
    "bool",
    "bytes",
    "charAt",
    "cidr",
    "compareTo",
    "contains",
    "containsCIDR",
    "containsIP",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "family",
    "find",
    "findAll",
    "format",
    "format.byte",
    "format.date",
    "format.datetime",
    "format.dns1035Label",
    "format.dns1035LabelPrefix",
    "format.dns1123Label",
    "format.dns1123LabelPrefix",
    "format.dns1123Subdomain",
    "format.dns1123SubdomainPrefix",
    "format.labelValue",
    "format.named",
    "format.qualifiedName",
    "format.uri",
    "format.uuid",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getEscapedPath",
    "getFullYear",
    "getHost",
    "getHostname",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getPort",
    "getQuery",
    "getScheme",
    "getSeconds",
    "hasValue",
    "indexOf",
    "int",
    "ip",
    "ip.isCanonical",
    "isCIDR",
    "isGlobalUnicast",
    "isGreaterThan",
    "isIP",
    "isInteger",
    "isLessThan",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isLoopback",
    "isQuantity",
    "isSorted",
    "isURL",
    "isUnspecified",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "masked",
    "matches",
    "max",
    "min",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "prefixLength",
    "quantity",
    "replace",
    "reverse",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "sign",
    "size",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "sub",
    "substring",
    "sum",
    "timestamp",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "url",
    "validate",
    "value",
];
