//! The text form of label selectors: a lexer and a parser of requirements.
//!
//! Grammar and messages: kubernetes apimachinery pkg/labels/selector.go (`Lexer`, `Parser`).

use crate::selector::{Operator, Requirement, SelectorError};

const SPECIAL: &[char] = &['=', '!', '(', ')', ',', '>', '<'];
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

/// A word, a symbol, or the empty text at the end.
type Token<'a> = &'a str;

/// Parses e.g. `a=b,c!=d,e in (f,g),h,!i`.
///
/// # Errors
/// A text that does not follow the grammar, in the words of the real server.
pub(crate) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { tokens: scan(text)?, position: 0 };
    let mut requirements = Vec::new();
    loop {
        let token = parser.peek();
        if token.is_empty() {
            return Ok(requirements);
        }
        if token != "!" && !is_word(token) {
            return Err(SelectorError(format!("found '{token}', expected: !, identifier, or 'end of string'")));
        }
        let requirement = parser.requirement();
        requirements.push(requirement.map_err(|why| SelectorError(format!("unable to parse requirement: {why}")))?);
        match parser.next() {
            "" => return Ok(requirements),
            "," => {
                let after = parser.peek();
                if after != "!" && !is_word(after) {
                    return Err(SelectorError(format!("found '{after}', expected: identifier after ','")));
                }
            }
            other => return Err(SelectorError(format!("found '{other}', expected: ',' or 'end of string'"))),
        }
    }
}

fn is_word(token: Token<'_>) -> bool {
    token.chars().next().is_some_and(|first| !SPECIAL.contains(&first))
}

fn scan(text: &str) -> Result<Vec<Token<'_>>, SelectorError> {
    let (mut tokens, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let length = if rest.starts_with(SPECIAL) {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
            symbol.ok_or_else(|| SelectorError(format!("error expected: keyword found '{rest}'")))?.len()
        } else {
            rest.find(|c: char| c.is_whitespace() || SPECIAL.contains(&c)).unwrap_or(rest.len())
        };
        let (token, others) = rest.split_at(length);
        tokens.push(token);
        rest = others.trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.position).copied().unwrap_or_default()
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut key = self.next();
        let absent = key == "!";
        if absent {
            key = self.next();
        }
        if !is_word(key) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let done = |operator, values| Ok(Requirement { key: key.to_owned(), operator, values });
        if absent {
            return done(Operator::DoesNotExist, vec![]);
        }
        if matches!(self.peek(), "" | ",") {
            return done(Operator::Exists, vec![]);
        }
        match self.next() {
            "in" => done(Operator::In, self.values()?),
            "notin" => done(Operator::NotIn, self.values()?),
            "=" | "==" => done(Operator::In, vec![self.exact_value()?]),
            "!=" => done(Operator::NotIn, vec![self.exact_value()?]),
            sign @ (">" | "<") => {
                let value = self.exact_value()?;
                if value.parse::<i64>().is_err() {
                    return Err(format!(
                        "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                    ));
                }
                done(if sign == ">" { Operator::Gt } else { Operator::Lt }, vec![value])
            }
            other => Err(format!("found '{other}', expected: {OPERATORS}")),
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek(), "" | ",") {
            return Ok(String::new());
        }
        let value = self.next();
        if is_word(value) { Ok(value.to_owned()) } else { Err(format!("found '{value}', expected: identifier")) }
    }

    /// `(x,y,z)`, sorted; a missing element is the empty value.
    fn values(&mut self) -> Result<Vec<String>, String> {
        let open = self.next();
        if open != "(" {
            return Err(format!("found '{open}' expected: '('"));
        }
        let mut values = Vec::new();
        loop {
            let token = self.peek();
            values.push(if is_word(token) { self.next().to_owned() } else { String::new() });
            match self.next() {
                "," => {}
                ")" => break,
                other if is_word(token) => return Err(format!("found '{other}', expected: ',' or ')'")),
                other => return Err(format!("found '{other}', expected: ',', or identifier")),
            }
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        for (text, expected) in [
            ("a b c", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("=", "found '=', expected: !, identifier, or 'end of string'"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("a,", "found '', expected: identifier after ','"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a in x", "unable to parse requirement: found 'x' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(parse(text), Err(SelectorError(expected.to_owned())), "{text}");
        }
    }

    #[test]
    fn values() {
        for (text, expected) in
            [("a in (c, b,b)", vec!["b", "c"]), ("a in ()", vec![""]), ("a in (,b)", vec!["", "b"]), ("a=", vec![""])]
        {
            let parsed = parse(text).map(|all| all.into_iter().flat_map(|one| one.values).collect::<Vec<_>>());
            assert_eq!(parsed, Ok(expected.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }
}
