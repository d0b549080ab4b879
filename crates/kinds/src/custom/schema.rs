//! The schema of a custom resource, parsed once: what its values are made of, and which rules they follow.
//!
//! One type serves for the structural part and for what may stand below `allOf`, `anyOf`, `oneOf` and `not`; that the
//! latter is structural is checked with the definition (`custom_resource_definition`).
//!
//! Source: apiextensions-apiserver pkg/apiserver/schema/{structural,convert}.go, and pkg/apiserver/validation/validation.go for what
//! the rules are made of.

use std::collections::BTreeMap;

use daruma_api::apply::{ListKey, ListKind};
use serde_json::Value;

use super::format::Format;
use super::pattern::Pattern;
use super::rules::Rule;
use crate::access::{flag, get, list, text};

/// A place in the type of a custom resource.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// `type`; `None` where it is open.
    pub kind: Option<Type>,
    /// Whether null is a value.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-embedded-resource`: has `apiVersion`, `kind` and `metadata` without saying so.
    pub embedded: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve: bool,
    /// Declared members.
    pub properties: BTreeMap<Box<str>, Schema>,
    /// Members that are not declared.
    pub additional: Additional,
    /// Elements.
    pub items: Option<Box<Schema>>,
    /// What is filled in where nothing is.
    pub default: Option<Value>,
    /// How a list merges, where it is said.
    pub list: Option<ListKind>,
    /// Keys of a list of kind [`ListKind::Map`].
    pub keys: Box<[ListKey]>,
    /// Whether apply replaces an object as a whole.
    pub atomic: bool,
    /// What values must be beyond their type; `None` where nothing is asked.
    pub rules: Option<Box<Rules>>,
    /// `x-kubernetes-validations`.
    pub validations: Box<[Rule]>,
    /// Whether there are validations here or below.
    pub has_rules: bool,
}

/// Types of JSON, as schemas name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// An object.
    Object,
    /// A list.
    Array,
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
}

/// `additionalProperties`.
#[derive(Debug, Default)]
pub(crate) enum Additional {
    /// Not said.
    #[default]
    None,
    /// Anything, or nothing.
    Any(bool),
    /// Values of a type.
    Of(Box<Schema>),
}

/// What values must be.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// `format`, where it is one that is checked.
    pub format: Option<Format>,
    /// The greatest number, and whether it is excluded itself.
    pub maximum: Option<(f64, bool)>,
    /// The least number, and whether it is excluded itself.
    pub minimum: Option<(f64, bool)>,
    /// Numbers are multiples of it.
    pub multiple_of: Option<f64>,
    /// Characters at most.
    pub max_length: Option<i64>,
    /// Characters at least.
    pub min_length: Option<i64>,
    /// What texts match.
    pub pattern: Option<Pattern>,
    /// Elements at most.
    pub max_items: Option<i64>,
    /// Elements at least.
    pub min_items: Option<i64>,
    /// Members at most.
    pub max_properties: Option<i64>,
    /// Members at least.
    pub min_properties: Option<i64>,
    /// Allowed values; empty for all.
    pub allowed: Vec<Value>,
    /// Members that must be there.
    pub required: Vec<Box<str>>,
    /// All of them hold.
    pub all_of: Vec<Schema>,
    /// At least one of them holds.
    pub any_of: Vec<Schema>,
    /// Exactly one of them holds.
    pub one_of: Vec<Schema>,
    /// It does not hold.
    pub not: Option<Box<Schema>>,
}

impl Type {
    /// As schemas spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Object, Self::Array, Self::String, Self::Integer, Self::Number, Self::Boolean]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl Schema {
    /// From `openAPIV3Schema`. What a valid definition does not hold is passed over.
    pub(crate) fn parse(schema: &Value) -> Self {
        let items = get(schema, "items");
        let properties = get(schema, "properties").as_object();
        let list_kind = match text(schema, "x-kubernetes-list-type") {
            "map" => Some(ListKind::Map),
            "set" => Some(ListKind::Set),
            "atomic" => Some(ListKind::Atomic),
            _ => None,
        };
        let default_of = |name: &str| items.pointer(&format!("/properties/{name}/default")).cloned();
        let keys = list(schema, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str);
        let mut parsed = Self {
            kind: Type::parse(text(schema, "type")),
            nullable: flag(schema, "nullable"),
            int_or_string: flag(schema, "x-kubernetes-int-or-string"),
            embedded: flag(schema, "x-kubernetes-embedded-resource"),
            preserve: flag(schema, "x-kubernetes-preserve-unknown-fields"),
            properties: properties.into_iter().flatten().map(|(name, one)| (name.as_str().into(), Self::parse(one))).collect(),
            additional: match get(schema, "additionalProperties") {
                Value::Bool(allowed) => Additional::Any(*allowed),
                Value::Object(_) => Additional::Of(Box::new(Self::parse(get(schema, "additionalProperties")))),
                _ => Additional::None,
            },
            items: items.is_object().then(|| Box::new(Self::parse(items))),
            default: Some(get(schema, "default")).filter(|default| !default.is_null()).cloned(),
            list: list_kind,
            keys: keys.map(|name| ListKey { name: name.into(), default: default_of(name) }).collect(),
            atomic: text(schema, "x-kubernetes-map-type") == "atomic",
            rules: Rules::parse(schema).map(Box::new),
            validations: list(schema, "x-kubernetes-validations").iter().map(Rule::parse).collect(),
            has_rules: false,
        };
        let below = parsed.properties.values().chain(parsed.items.as_deref());
        parsed.has_rules = !parsed.validations.is_empty()
            || below
                .chain(match &parsed.additional {
                    Additional::Of(of) => Some(&**of),
                    _ => None,
                })
                .any(|one| one.has_rules);
        parsed
    }

    /// A declared member, or what undeclared ones are.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Additional::Of(schema) => Some(schema),
            _ => None,
        })
    }
}

impl Rules {
    fn parse(schema: &Value) -> Option<Self> {
        let whole = |key: &str| get(schema, key).as_i64().or_else(|| get(schema, key).as_f64().map(|number| number as i64));
        let bound = |key: &str, exclusive: &str| get(schema, key).as_f64().map(|bound| (bound, flag(schema, exclusive)));
        let nested = |key: &str| list(schema, key).iter().map(Schema::parse).collect();
        let rules = Self {
            format: Format::of(text(schema, "type"), text(schema, "format")),
            maximum: bound("maximum", "exclusiveMaximum"),
            minimum: bound("minimum", "exclusiveMinimum"),
            multiple_of: get(schema, "multipleOf").as_f64(),
            max_length: whole("maxLength"),
            min_length: whole("minLength"),
            pattern: Some(text(schema, "pattern")).filter(|text| !text.is_empty()).map(Pattern::new),
            max_items: whole("maxItems"),
            min_items: whole("minItems"),
            max_properties: whole("maxProperties"),
            min_properties: whole("minProperties"),
            allowed: list(schema, "enum").to_vec(),
            required: list(schema, "required").iter().filter_map(Value::as_str).map(Into::into).collect(),
            all_of: nested("allOf"),
            any_of: nested("anyOf"),
            one_of: nested("oneOf"),
            not: Some(get(schema, "not")).filter(|not| not.is_object()).map(|not| Box::new(Schema::parse(not))),
        };
        rules.asks_anything().then_some(rules)
    }

    fn asks_anything(&self) -> bool {
        self.format.is_some()
            || self.maximum.is_some()
            || self.minimum.is_some()
            || self.multiple_of.is_some()
            || self.max_length.is_some()
            || self.min_length.is_some()
            || self.pattern.is_some()
            || self.max_items.is_some()
            || self.min_items.is_some()
            || self.max_properties.is_some()
            || self.min_properties.is_some()
            || self.not.is_some()
            || !(self.allowed.is_empty() && self.required.is_empty())
            || !(self.all_of.is_empty() && self.any_of.is_empty() && self.one_of.is_empty())
    }
}
