//! Paths into objects, as printer columns have them: what client-go's `jsonpath` understands inside of one pair of braces.
//!
//! Source: client-go util/jsonpath/{parser,jsonpath}.go and third_party/forked/golang/template/funcs.go.

use std::cmp::Ordering;

use serde_json::Value;

/// A path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    /// The value and all that is below it.
    Recursive,
    Slice(Slice),
    Union(Vec<JsonPath>),
    Filter(JsonPath, Operator, JsonPath),
    /// A text or number that is written out.
    Literal(Value),
}

/// Where a part of a list begins and ends.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slice {
    from: i64,
    to: Option<i64>,
    /// Whether the end was not written: one element is meant.
    single: bool,
    step: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A path that finds nothing because it does not fit the object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DoesNotFit;

impl JsonPath {
    /// Parses a path; `None` where it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mut steps, mut rest) = (Vec::new(), text);
        while let Some(first) = rest.chars().next() {
            if let Some(tail) = rest.strip_prefix("[?(") {
                let end = end_of_filter(tail)?;
                steps.push(filter(&tail[..end])?);
                rest = &tail[end + 2..];
            } else if let Some(tail) = rest.strip_prefix("..") {
                if steps.last() == Some(&Step::Recursive) {
                    return None;
                }
                steps.push(Step::Recursive);
                rest = tail;
                if rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
                    rest = field(rest, &mut steps);
                }
            } else {
                let tail = &rest[first.len_utf8()..];
                match first {
                    ' ' | '@' | '$' => rest = tail,
                    '.' => rest = field(tail, &mut steps),
                    '[' => {
                        let end = tail.find(']')?;
                        steps.push(array(&tail[..end])?);
                        rest = &tail[end + 1..];
                    }
                    '"' | '\'' => {
                        let end = end_of_quote(tail, first)?;
                        steps.push(Step::Literal(tail[..end].replace(&format!("\\{first}"), &first.to_string()).into()));
                        rest = &tail[end + 1..];
                    }
                    '+' | '-' | '0'..='9' => {
                        let end = tail.find(|letter: char| !matches!(letter, '0'..='9' | '.' | '-' | '+' | 'e' | 'E'));
                        let (number, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
                        steps.push(Step::Literal(literal(number.trim_start_matches('+'))?));
                        rest = after;
                    }
                    _ => {
                        let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
                        let value = match &rest[..end] {
                            "true" => true,
                            "false" => false,
                            _ => return None,
                        };
                        steps.push(Step::Literal(value.into()));
                        rest = &rest[end..];
                    }
                }
            }
        }
        Some(Self(steps))
    }

    /// All values that the path leads to.
    ///
    /// # Errors
    /// An index beyond the end of a list, an index into what is none, a comparison of values of different types.
    pub(crate) fn find<'a>(&'a self, object: &'a Value) -> Result<Vec<&'a Value>, DoesNotFit> {
        let mut found = vec![object];
        for step in &self.0 {
            found = step.walk(found)?;
        }
        Ok(found)
    }
}

fn literal(text: &str) -> Option<Value> {
    text.parse::<i64>().map(Value::from).ok().or_else(|| text.parse::<f64>().map(Value::from).ok())
}

/// Reads a name up to the next delimiter; a backslash takes the meaning from the next character.
fn field<'a>(text: &'a str, steps: &mut Vec<Step>) -> &'a str {
    let mut escaped = false;
    let end = text.char_indices().find_map(|(at, letter)| {
        let ends = !escaped && (letter.is_whitespace() || matches!(letter, '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}'));
        escaped = !escaped && letter == '\\';
        ends.then_some(at)
    });
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name.replace('\\', "")) });
    rest
}

/// Where a quoted text ends.
fn end_of_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, letter)| {
        let ends = !escaped && letter == quote;
        escaped = !escaped && letter == '\\';
        ends.then_some(at)
    })
}

/// Where the `)]` of a filter begins; quoted ones do not count.
fn end_of_filter(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 1_usize;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter && !text[..at].ends_with('\\') => quote = None,
            (None, '(') => depth += 1,
            (None, ')') => {
                depth -= 1;
                if depth == 0 {
                    return text[at + 1..].starts_with(']').then_some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn filter(text: &str) -> Option<Step> {
    let is_operator = |letter: char| matches!(letter, '!' | '<' | '>' | '=');
    let Some(begin) = text.find(is_operator).filter(|begin| *begin > 0) else {
        return Some(Step::Filter(JsonPath::parse(text)?, Operator::Exists, JsonPath(Vec::new())));
    };
    let (left, rest) = text.split_at(begin);
    let end = rest.find(|letter| !is_operator(letter))?;
    let (operator, right) = rest.split_at(end);
    let operator = match operator {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        _ => return None,
    };
    Some(Step::Filter(JsonPath::parse(left)?, operator, JsonPath::parse(right)?))
}

fn array(text: &str) -> Option<Step> {
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > 1 {
        let paths = parts.iter().map(|part| array(part.trim()).map(|step| JsonPath(vec![step])));
        return Some(Step::Union(paths.collect::<Option<_>>()?));
    }
    if let Some(name) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).filter(|name| !name.contains('\'')) {
        return Some(Step::Field(name.to_owned()));
    }
    let text = if text == "*" { ":" } else { text };
    let mut parts = text.split(':').map(|part| if part.is_empty() { Some(None) } else { part.parse().ok().map(Some) });
    let from: Option<i64> = parts.next()??;
    let (to, single) = match parts.next() {
        Some(to) => (to?, false),
        None => (Some(from.unwrap_or_default() + 1), true),
    };
    let step = match parts.next() {
        Some(step) => step?,
        None => None,
    };
    let slice = Slice { from: from.unwrap_or_default(), to, single, step };
    parts.next().is_none().then_some(Step::Slice(slice))
}

impl Step {
    fn walk<'a>(&'a self, from: Vec<&'a Value>) -> Result<Vec<&'a Value>, DoesNotFit> {
        let mut found = Vec::new();
        match self {
            Self::Field(name) => found.extend(from.iter().filter_map(|value| value.as_object()?.get(name))),
            Self::Wildcard => from.iter().for_each(|value| found.extend(children(value))),
            Self::Recursive => from.iter().for_each(|value| below(value, &mut found)),
            Self::Literal(value) => found.push(value),
            Self::Union(paths) => {
                for path in paths {
                    for value in &from {
                        found.extend(path.find(value)?);
                    }
                }
            }
            Self::Slice(slice) => {
                for value in from {
                    found.extend(slice.of(value.as_array().ok_or(DoesNotFit)?)?);
                }
            }
            Self::Filter(left, operator, right) => {
                for value in from {
                    for item in value.as_array().ok_or(DoesNotFit)? {
                        if operator.holds(&left.find(item)?, &right.find(item)?)? {
                            found.push(item);
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    }
}

fn below<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    let inner = children(value);
    if !inner.is_empty() {
        found.push(value);
        for value in inner {
            below(value, found);
        }
    }
}

impl Slice {
    fn of(self, list: &[Value]) -> Result<Vec<&Value>, DoesNotFit> {
        let length = list.len() as i64;
        let from = if self.from < 0 { self.from + length } else { self.from };
        let to = match self.to {
            None => length,
            Some(to) if to < 0 || (to == 0 && self.single) => to + length,
            Some(to) => to,
        };
        if from == to {
            return Ok(Vec::new());
        }
        let step = self.step.unwrap_or(1);
        let fits = (0..length).contains(&from) && (0..=length).contains(&to) && from < to && step > 0;
        if !fits {
            return Err(DoesNotFit);
        }
        Ok(list[from as usize..to as usize].iter().step_by(step as usize).collect())
    }
}

impl Operator {
    fn holds(self, left: &[&Value], right: &[&Value]) -> Result<bool, DoesNotFit> {
        if self == Self::Exists {
            return Ok(!left.is_empty());
        }
        let (left, right) = match (left, right) {
            ([], _) | (_, []) => return Ok(false),
            ([left], [right]) => (*left, *right),
            _ => return Err(DoesNotFit),
        };
        let order = order(left, right).ok_or(DoesNotFit)?;
        Ok(match self {
            Self::Exists | Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        })
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_they_find_in_client_go() {
        let object = json!({
            "metadata": {"labels": {"app.kubernetes.io/name": "x"}},
            "spec": {"list": [1, 2, 3], "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 443, "tls": true}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False"}]},
        });
        for (path, expected) in [
            (".spec.list[0]", json!([1])),
            (".spec.list[-1]", json!([3])),
            (".spec.list[*]", json!([1, 2, 3])),
            (".spec.list[0:2]", json!([1, 2])),
            (".spec.list[::2]", json!([1, 3])),
            (".spec.list[0,2]", json!([1, 3])),
            (".spec.list[-2:]", json!([2, 3])),
            (".spec.ports[*].name", json!(["a", "b"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type == 'Synced')].status", json!(["False"])),
            (".spec.ports[?(@.port>80)].name", json!(["b"])),
            (".spec.ports[?(@.port != 443)].name", json!(["a"])),
            (".spec.ports[?(@.tls)].port", json!([443])),
            (".spec.ports[?(@.tls==true)].port", json!([443])),
            (".metadata.labels.app\\.kubernetes\\.io/name", json!(["x"])),
            (".metadata.labels['app.kubernetes.io/name']", json!(["x"])),
            ("..port", json!([80, 443])),
            (".spec.ports.*.name", json!(["a", "b"])),
            (".spec.missing.member", json!([])),
        ] {
            let parsed = JsonPath::parse(path).unwrap_or_else(|| panic!("{path} is a path"));
            let found: Vec<Value> = parsed.find(&object).expect(path).into_iter().cloned().collect();
            assert_eq!(Value::from(found), expected, "{path}");
        }
        for path in [".spec.list[3]", ".spec[0]", ".status.conditions[?(@.type==1)]"] {
            assert_eq!(JsonPath::parse(path).expect(path).find(&object), Err(DoesNotFit), "{path}");
        }
        for path in [".spec[", ".spec.list[a]", "....a", ".a[?(@.b=~1)]", ".spec }"] {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
}
