//! Parameters of faults: what they are called, what may be said, what is meant where nothing is said.

use std::str::FromStr;

use serde_json::{Value, json};

use crate::Span;
use crate::file::Bytes;

/// One parameter of a fault.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// As it is written under `with`.
    pub name: &'static str,
    /// What it may be.
    pub kind: ParameterKind,
    /// What is meant where nothing is said.
    pub default: Option<&'static str>,
    /// Whether it must be said.
    pub required: bool,
    /// One sentence for help, manual and schema.
    pub about: &'static str,
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// A length of time.
    Time,
    /// An amount of bytes.
    Bytes,
    /// A share, 0 to 100.
    Percent,
    /// A whole number.
    Count,
    /// A whole number that may be below zero.
    Signed,
    /// Yes or no.
    Flag,
    /// Text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// See [`ParameterKind::Time`].
    Time(Span),
    /// See [`ParameterKind::Bytes`].
    Bytes(u64),
    /// See [`ParameterKind::Percent`].
    Percent(f64),
    /// See [`ParameterKind::Count`].
    Count(u64),
    /// See [`ParameterKind::Signed`].
    Signed(i64),
    /// See [`ParameterKind::Flag`].
    Flag(bool),
    /// See [`ParameterKind::Text`] and [`ParameterKind::Choice`].
    Text(String),
}

impl Parameter {
    /// A parameter that need not be said.
    pub const fn new(name: &'static str, kind: ParameterKind, about: &'static str) -> Self {
        Self { name, kind, default: None, required: false, about }
    }

    /// What is meant where nothing is said.
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// It must be said.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

impl ParameterKind {
    /// Reads a value as it stands in a file.
    ///
    /// # Errors
    /// In words, where it is none of this kind.
    pub fn read(self, value: &Value) -> Result<Argument, String> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            other => return Err(format!("{other} is not {}", self.expected())),
        };
        let wrong = || format!("{text:?} is not {}", self.expected());
        fn number<T: FromStr>(text: &str, wrong: impl Fn() -> String) -> Result<T, String> {
            text.parse().map_err(|_| wrong())
        }
        Ok(match self {
            Self::Time => Argument::Time(text.parse().map_err(|_| wrong())?),
            Self::Bytes => Argument::Bytes(text.parse::<Bytes>().map_err(|_| wrong())?.0),
            Self::Percent => {
                let share: f64 = number(text.trim_end_matches('%'), wrong)?;
                if !(0.0..=100.0).contains(&share) {
                    return Err(wrong());
                }
                Argument::Percent(share)
            }
            Self::Count => Argument::Count(number(&text, wrong)?),
            Self::Signed => Argument::Signed(number(&text, wrong)?),
            Self::Flag => Argument::Flag(number(&text, wrong)?),
            Self::Text => Argument::Text(text),
            Self::Choice(words) if words.contains(&text.as_str()) => Argument::Text(text),
            Self::Choice(_) => return Err(wrong()),
        })
    }

    /// What is expected, in words.
    pub fn expected(self) -> String {
        match self {
            Self::Time => "a length of time such as 90s or 250ms".to_owned(),
            Self::Bytes => "an amount of bytes such as 512Mi".to_owned(),
            Self::Percent => "a share in percent (0 to 100)".to_owned(),
            Self::Count => "a whole number".to_owned(),
            Self::Signed => "a whole number (below zero is allowed)".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// JSON schema of a value.
    pub fn schema(self) -> Value {
        match self {
            Self::Time | Self::Text => json!({"type": "string"}),
            Self::Bytes => json!({"type": ["string", "integer"]}),
            Self::Percent => json!({"type": "number", "minimum": 0, "maximum": 100}),
            Self::Count => json!({"type": "integer", "minimum": 0}),
            Self::Signed => json!({"type": "integer"}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Choice(words) => json!({"enum": words}),
        }
    }
}
