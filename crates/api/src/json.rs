//! JSON texts: decoding them, and finding one's way in them without.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Decodes JSON. Whether it is UTF-8 is looked at once, and not for each of its texts.
///
/// # Errors
/// What is no JSON, or not of the type.
pub fn parse<T: DeserializeOwned>(content: &[u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(content) {
        Ok(text) => serde_json::from_str(text),
        // Tells where it is wrong.
        Err(_) => serde_json::from_slice(content),
    }
}

/// A place in a JSON text. What is no JSON has no members.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// At the begin of a value.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Goes into the object that begins here; `None` where none does.
    pub fn enter(&mut self) -> Option<()> {
        self.take(b'{')
    }

    /// The next member's name, as it is written; the value begins behind it. `Some(None)` at the object's end, which is
    /// passed, and `None` where the text is no object's.
    pub fn member(&mut self) -> Option<Option<&'a [u8]>> {
        if self.take(b'}').is_some() {
            return Some(None);
        }
        // Commas stand where they should: the text has been written by a program.
        let _ = self.take(b',');
        self.skip_space();
        let name = self.string()?;
        self.take(b':')?;
        Some(Some(name))
    }

    /// The value that begins here, as it is written; goes behind it.
    pub fn value(&mut self) -> Option<&'a [u8]> {
        self.skip_space();
        let begin = self.at;
        match self.text.get(self.at)? {
            b'"' => {
                self.string()?;
            }
            b'{' | b'[' => {
                self.at += 1;
                self.leave()?;
            }
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                let rest = &self.text[self.at..];
                self.at += rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
        Some(&self.text[begin..self.at])
    }

    /// Goes behind the end of the object or list that was entered last.
    pub fn leave(&mut self) -> Option<()> {
        let mut depth = 1;
        while depth > 0 {
            match *self.text.get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        Some(())
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (*self.text.get(self.at)? == byte).then(|| self.at += 1)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// What is between the quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let rest = self.text.get(self.at..)?.strip_prefix(b"\"")?;
        let mut length = 0;
        loop {
            length += memchr::memchr2(b'"', b'\\', rest.get(length..)?)?;
            if rest[length] == b'"' {
                break;
            }
            length += 2;
        }
        self.at += length + 2;
        Some(&rest[..length])
    }
}

/// The text that is written between quotes like this.
pub fn unescaped(written: &[u8]) -> Option<Cow<'_, str>> {
    if !written.contains(&b'\\') {
        return std::str::from_utf8(written).ok().map(Cow::Borrowed);
    }
    let quoted = [b"\"", written, b"\""].concat();
    serde_json::from_slice(&quoted).ok().map(Cow::Owned)
}

/// The text at the end of a path of names.
pub fn text_at<'a>(stored: &'a [u8], path: &[&str]) -> Option<Cow<'a, str>> {
    let mut scanner = Scanner::new(stored);
    for name in path {
        scanner.enter()?;
        while scanner.member()?? != name.as_bytes() {
            scanner.value()?;
        }
    }
    scanner.skip_space();
    unescaped(scanner.string()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let stored = r#"{"a":{"x":[1,{"uid":"}"}],"b\"c":"","uid":"\u0041"},"uid": 1 , "z" : {"uid":"é"}}"#.as_bytes();
        assert_eq!(text_at(stored, &["a", "uid"]).as_deref(), Some("A"));
        assert_eq!(text_at(stored, &["z", "uid"]).as_deref(), Some("é"));
        for nowhere in [&["uid"][..], &["a"], &["a", "b"], &["uid", "uid"], &["y", "uid"]] {
            assert_eq!(text_at(stored, nowhere), None, "{nowhere:?}");
        }
        // What is broken off is no text, wherever that is.
        for length in 0..stored.len() - 3 {
            assert_eq!(text_at(&stored[..length], &["z", "uid"]), None, "{length}");
        }
    }

    #[test]
    fn what_is_no_text_is_told_where_it_is_wrong() {
        assert_eq!(parse::<Vec<String>>(br#"["a"]"#).expect("a list"), ["a"]);
        for (wrong, why) in [(&b"[\"\xff\"]"[..], "invalid unicode code point at line 1 column"), (b"[", "EOF")] {
            let error = parse::<Vec<String>>(wrong).expect_err("no list of texts").to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn values() {
        let mut scanner = Scanner::new(br#" {"a": [1, "]"], "b":-1.5,"c":{},"d":"\\" } "#);
        scanner.enter().expect("an object");
        let mut seen = Vec::new();
        while let Some(name) = scanner.member().expect("an object") {
            seen.push((name, scanner.value().expect("a value")));
        }
        let expected: [(&[u8], &[u8]); 4] = [(b"a", br#"[1, "]"]"#), (b"b", b"-1.5"), (b"c", b"{}"), (b"d", br#""\\""#)];
        assert_eq!(seen, expected);
        assert_eq!(Scanner::new(b"").value(), None);
        assert_eq!(Scanner::new(b"[{}").value(), None);
    }
}
