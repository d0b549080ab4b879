//! Label and field selectors.
//!
//! Grammar: kubernetes apimachinery pkg/labels/selector.go and pkg/fields/selector.go.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Why a selector was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// How one requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values, or no such key.
    NotIn,
    /// The key is there.
    Exists,
    /// The key is not there.
    DoesNotExist,
    /// An integer above the value (node affinity only).
    Gt,
    /// An integer below the value (node affinity only).
    Lt,
}

/// One requirement on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Label key or field path.
    pub key: String,
    /// Comparison.
    pub operator: Operator,
    /// What is compared with.
    pub values: Vec<String>,
}

impl Requirement {
    /// Whether a key with `value` (`None`: absent) meets the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        match (self.operator, value) {
            (Operator::In, Some(value)) => self.values.iter().any(|one| one == value),
            (Operator::NotIn, Some(value)) => self.values.iter().all(|one| one != value),
            (Operator::NotIn | Operator::DoesNotExist, None) | (Operator::Exists, Some(_)) => true,
            (Operator::In | Operator::Exists | Operator::Gt | Operator::Lt, None) | (Operator::DoesNotExist, Some(_)) => false,
            (Operator::Gt | Operator::Lt, Some(value)) => {
                let (Ok(left), Some(Ok(right))) = (value.parse::<i64>(), self.values.first().map(|right| right.parse::<i64>()))
                else {
                    return false;
                };
                if self.operator == Operator::Gt { left > right } else { left < right }
            }
        }
    }
}

/// All requirements must hold. The empty selector matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// The requirements.
    pub requirements: Vec<Requirement>,
    /// Matches nothing (a missing `LabelSelector`).
    pub nothing: bool,
}

impl Selector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing.
    pub fn none() -> Self {
        Self { nothing: true, ..Self::default() }
    }

    /// Every key must have its value.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement { key: key.clone(), operator: Operator::In, values: vec![value.clone()] })
            .collect();
        Self { requirements, nothing: false }
    }

    /// From the selector of an object; `None` matches nothing, an empty one everything.
    ///
    /// # Errors
    /// An unknown operator, or values where none belong.
    pub fn from_label_selector(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else { return Ok(Self::none()) };
        let mut result = selector.match_labels.as_ref().map(Self::from_map).unwrap_or_default();
        for expression in selector.match_expressions.iter().flatten() {
            result.requirements.push(requirement(expression)?);
        }
        Ok(result)
    }

    /// Parses the query-string form of a label selector, e.g. `a=b,c!=d,e in (f,g),h,!i`.
    ///
    /// # Errors
    /// A text that does not follow the grammar.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self { requirements: crate::selector_grammar::parse(text)?, nothing: false })
    }

    /// Parses a field selector, e.g. `spec.nodeName=a,status.phase!=Failed`.
    ///
    /// # Errors
    /// A term without an operator.
    pub fn parse_fields(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, operator, value) = split_equality(part)
                .ok_or_else(|| SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            requirements.push(Requirement { key: key.into(), operator, values: vec![value.into()] });
        }
        Ok(Self { requirements, nothing: false })
    }

    /// Whether nothing is asked.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether the labels meet all requirements.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches_with(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
    }

    /// Whether the values that `lookup` finds meet all requirements.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|one| one.matches(lookup(&one.key)))
    }

    /// The one value that `key` must have, where the selector says so.
    pub fn exact(&self, key: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|one| one.key == key && one.operator == Operator::In && one.values.len() == 1)
            .and_then(|one| one.values.first())
            .map(String::as_str)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let first = one.values.first().map(String::as_str).unwrap_or_default();
            match (one.operator, one.values.len()) {
                (Operator::In, 1) => write!(f, "{}={first}", one.key)?,
                (Operator::NotIn, 1) => write!(f, "{}!={first}", one.key)?,
                (Operator::In, _) => write!(f, "{} in ({})", one.key, one.values.join(","))?,
                (Operator::NotIn, _) => write!(f, "{} notin ({})", one.key, one.values.join(","))?,
                (Operator::Exists, _) => f.write_str(&one.key)?,
                (Operator::DoesNotExist, _) => write!(f, "!{}", one.key)?,
                (Operator::Gt, _) => write!(f, "{}>{first}", one.key)?,
                (Operator::Lt, _) => write!(f, "{}<{first}", one.key)?,
            }
        }
        Ok(())
    }
}

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, SelectorError> {
    let operator = match expression.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
    };
    let values = expression.values.clone().unwrap_or_default();
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            Err(SelectorError("for 'in', 'notin' operators, values set can't be empty".into()))
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            Err(SelectorError("values set must be empty for exists and does not exist".into()))
        }
        _ => Ok(Requirement { key: expression.key.clone(), operator, values }),
    }
}

fn split_equality(part: &str) -> Option<(&str, Operator, &str)> {
    if let Some((key, value)) = part.split_once("!=") {
        return Some((key.trim(), Operator::NotIn, value.trim()));
    }
    if let Some((key, value)) = part.split_once("==") {
        return Some((key.trim(), Operator::In, value.trim()));
    }
    part.split_once('=').map(|(key, value)| (key.trim(), Operator::In, value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &[(&str, &str)], expected: bool) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let parsed = Selector::parse(selector).expect("parses");
        assert_eq!(parsed.matches(Some(&labels)), expected, "{selector}");
        assert_eq!(Selector::parse(&parsed.to_string()).expect("printed form parses"), parsed);
    }

    #[test]
    fn matching() {
        check("", &[], true);
        check("a=b", &[("a", "b")], true);
        check("a==b,c!=d", &[("a", "b")], true);
        check("a!=b", &[("a", "b")], false);
        check("a in (x, y)", &[("a", "y")], true);
        check("a notin (x,y),b", &[("b", "")], true);
        check("!a", &[("a", "")], false);
        check("a>3", &[("a", "4")], true);
        check("a<3", &[("a", "4")], false);
    }

    #[test]
    fn refusals() {
        for bad in ["a=b=c", "a in x", "a b", "=", "a in (b", "!"] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
        assert!(Selector::parse_fields("metadata.name").is_err());
    }
}
