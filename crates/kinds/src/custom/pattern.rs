//! Patterns of schemas: regular expressions in the syntax of Go (RE2), brought to that of the `regex` crate.
//!
//! Both know the same language; they differ in what `\d`, `\w`, `\s` and `\b` mean beyond ASCII, and in which characters
//! stand for themselves.
//!
//! Source: kube-openapi pkg/validation/validate/values.go (`Pattern`), Go regexp/syntax.

use regex::Regex;

/// A pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// As written.
    pub source: Box<str>,
    compiled: Result<Regex, String>,
}

impl Pattern {
    /// Compiles a pattern; one that does not compile matches nothing.
    pub(crate) fn new(source: &str) -> Self {
        let compiled = Regex::new(&translate(source)).map_err(|error| {
            let text = error.to_string();
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        });
        Self { source: source.into(), compiled }
    }

    /// What is wrong with the pattern itself.
    pub(crate) fn error(&self) -> Option<&str> {
        self.compiled.as_ref().err().map(String::as_str)
    }

    /// Where it is found in a text, `most` times at most.
    pub(super) fn find_all<'t>(&self, text: &'t str, most: usize) -> Vec<&'t str> {
        let found = self.compiled.iter().flat_map(|regex| regex.find_iter(text));
        found.take(most).map(|found| found.as_str()).collect()
    }

    /// Whether it is found in a text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.compiled.as_ref().is_ok_and(|regex| regex.is_match(text))
    }
}

/// What is wrong with a pattern; nothing with an empty one.
pub(crate) fn pattern_error(source: &str) -> Option<String> {
    Pattern::new(source).error().map(str::to_owned)
}

fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 8);
    let mut rest = source;
    let mut in_class = false;
    // A class that just began: there `]` stands for itself.
    let mut fresh = false;
    while let Some(letter) = rest.chars().next() {
        let tail = &rest[letter.len_utf8()..];
        match letter {
            '\\' => {
                let escaped = tail.chars().next();
                match (escaped, in_class) {
                    (Some('d'), true) => out.push_str("0-9"),
                    (Some('d'), false) => out.push_str("[0-9]"),
                    (Some('D'), false) => out.push_str("[^0-9]"),
                    (Some('w'), true) => out.push_str("0-9A-Za-z_"),
                    (Some('w'), false) => out.push_str("[0-9A-Za-z_]"),
                    (Some('W'), false) => out.push_str("[^0-9A-Za-z_]"),
                    (Some('s'), true) => out.push_str("\\t\\n\\f\\r "),
                    (Some('s'), false) => out.push_str("[\\t\\n\\f\\r ]"),
                    (Some('S'), false) => out.push_str("[^\\t\\n\\f\\r ]"),
                    (Some('b'), false) => out.push_str("(?-u:\\b)"),
                    (Some(other), _) => {
                        out.push('\\');
                        out.push(other);
                    }
                    (None, _) => out.push('\\'),
                }
                rest = escaped.map_or(tail, |escaped| &tail[escaped.len_utf8()..]);
                // A name or a number in braces belongs to it: `\p{Lu}`, `\x{10FFFF}`.
                if let (Some('p' | 'P' | 'x'), Some(end)) = (escaped, rest.find('}'))
                    && rest.starts_with('{')
                {
                    out.push_str(&rest[..=end]);
                    rest = &rest[end + 1..];
                }
                fresh = false;
                continue;
            }
            '[' if !in_class => {
                in_class = true;
                fresh = true;
                out.push('[');
                rest = tail;
                if let Some(tail) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = tail;
                }
                continue;
            }
            '[' if rest.starts_with("[:") && rest.contains(":]") => {
                let end = rest.find(":]").map_or(rest.len(), |at| at + 2);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                fresh = false;
                continue;
            }
            ']' if in_class && fresh => out.push_str("\\]"),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(letter);
            }
            '{' if !in_class && !repeats(rest) => out.push_str("\\{"),
            '}' if !in_class && !closes(&out) => out.push_str("\\}"),
            other => out.push(other),
        }
        fresh = false;
        rest = tail;
    }
    out
}

/// Whether a text begins with a repetition: `{2}`, `{2,}` or `{2,5}`.
fn repeats(text: &str) -> bool {
    let Some((body, _)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) else { return false };
    let (low, high) = body.split_once(',').unwrap_or((body, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

/// Whether an open repetition waits for its end.
fn closes(written: &str) -> bool {
    let open = written.rfind('{');
    open.is_some_and(|at| !written[..at].ends_with('\\') && !written[at..].contains('}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, expected) in [
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", true),
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * *", false),
            (r"^\d$", "٣", false),
            (r"^[\w.-]+$", "a.b-c_d", true),
            (r"^[[]a]$", "[a]", true),
            (r"^[]a]+$", "]a", true),
            (r"^[[:alpha:]]+$", "ab", true),
            ("^a{b}$", "a{b}", true),
            ("^a{,2}$", "a{,2}", true),
            (r"^\p{Lu}{2}$", "ÄB", true),
            ("^[a&&b]+$", "&", true),
            ("b", "abc", true),
        ] {
            let compiled = Pattern::new(pattern);
            assert_eq!(compiled.error(), None, "{pattern}");
            assert_eq!(compiled.matches(text), expected, "{pattern} {text}");
        }
        for pattern in ["(", "[a", "*a", "a{2,1}"] {
            assert!(Pattern::new(pattern).error().is_some(), "{pattern}");
            assert!(!Pattern::new(pattern).matches("a"));
        }
    }
}
