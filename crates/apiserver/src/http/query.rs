//! Query parameters.

use percent_encoding::percent_decode_str;

/// Parameters in the order of the query string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Decodes `a=b&c=d`. A parameter without `=` has the empty value.
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        let decode = |part: &str| {
            if !part.contains(['+', '%']) {
                return part.to_owned();
            }
            percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned()
        };
        let pairs = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(key), decode(value))
            })
            .collect();
        Self { pairs }
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The first value of `key`, where it is not empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// All values of `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A switch: absent, `0` and `false` are off, everything else is on (apimachinery
    /// pkg/runtime/converter.go `Convert_Slice_string_To_bool`).
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "0" | "false"))
    }

    /// A number; `None` where absent, empty or not a number.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.text(key).and_then(|value| value.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=true&x&name=a+b&x=2");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert!(query.flag("watch") && query.flag("x") && !query.flag("dry"));
        assert_eq!(query.get("name"), Some("a b"));
        assert_eq!(query.all("x").collect::<Vec<_>>(), ["", "2"]);
        assert!(!Query::parse("watch=0").flag("watch"));
    }
}
