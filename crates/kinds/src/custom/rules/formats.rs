//! Formats of texts that rules ask for by name.
//!
//! Source: apiserver pkg/cel/library/format.go.

use std::any::Any;

use cel::common::types::{CelList, CelOptional, CelString, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env};

use super::arguments::{Answer, text, typed};
use crate::custom::format::Format;
use crate::names;

static TYPE: Type = Type::new_unspecified_type("kubernetes.NamedFormat");

/// A format.
#[derive(Debug, Clone, Copy)]
struct Named {
    name: &'static str,
    check: fn(&str) -> Vec<String>,
}

impl Val for Named {
    fn get_type(&self) -> &Type {
        &TYPE
    }
    fn cel_type() -> &'static Type {
        &TYPE
    }
    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>().is_some_and(|other| other.name == self.name)
    }
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(*self)
    }
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Named {}

/// What a name that others are made of may end in: a dash, as the rest begins with a letter.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(stem) if !stem.is_empty() => format!("{stem}a"),
        _ => text.to_owned(),
    }
}

fn unless(format: &str, text: &str, wrong: &str) -> Vec<String> {
    let good = Format::of("string", format).is_some_and(|format| format.accepts(text));
    if good { Vec::new() } else { vec![wrong.to_owned()] }
}

macro_rules! formats {
    ($($name:literal => $check:expr),* $(,)?) => {
        static FORMATS: &[Named] = &[$(Named { name: $name, check: $check }),*];

        /// Declares them.
        pub(super) fn declare(environment: &mut Env) -> Result<(), DeclarationError> {
            $(environment.add_overload(
                concat!("format.", $name),
                concat!("format.", $name, "()"),
                vec![],
                |_| Ok(CowVal::owned(Named { name: $name, check: $check })),
            )?;)*
            environment.add_overload("format.named", "format.named(string)", vec![STRING_TYPE], named)?;
            environment.add_member_overload("validate", "format.validate(string)", TYPE.to_owned(), vec![STRING_TYPE], validate)
        }
    };
}

formats! {
    "byte" => |text| unless("byte", text, "invalid base64"),
    "date" => |text| unless("date", text, "invalid date"),
    "datetime" => |text| unless("datetime", text, "invalid datetime"),
    "dns1035Label" => names::dns_1035_label,
    "dns1035LabelPrefix" => |text| names::dns_1035_label(&prefix(text)),
    "dns1123Label" => names::dns_label,
    "dns1123LabelPrefix" => |text| names::dns_label(&prefix(text)),
    "dns1123Subdomain" => names::dns_subdomain,
    "dns1123SubdomainPrefix" => |text| names::dns_subdomain(&prefix(text)),
    "labelValue" => names::label_value,
    "qualifiedName" => names::qualified_name,
    "uri" => |text| unless("uri", text, "invalid URI"),
    "uuid" => |text| unless("uuid", text, "does not match the UUID format"),
}

fn named<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let name = text(&args, 0)?;
    Ok(CowVal::owned(match FORMATS.iter().find(|format| format.name == name) {
        Some(format) => CelOptional::of(Box::new(*format)),
        None => CelOptional::none(),
    }))
}

/// What is wrong with a text; none where it has the format.
fn validate<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let wrong = (typed::<Named>(&args, 0)?.check)(text(&args, 1)?);
    if wrong.is_empty() {
        return Ok(CowVal::owned(CelOptional::none()));
    }
    let wrong: Vec<Box<dyn Val>> = wrong.into_iter().map(|one| Box::new(CelString::from(one)) as Box<dyn Val>).collect();
    Ok(CowVal::owned(CelOptional::of(Box::new(CelList::from(wrong)))))
}
