//! One line of a log file.

use jiff::Timestamp;

/// A line: when, where to, what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// As it was written.
    pub time_text: String,
    /// Parsed.
    pub time: Timestamp,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The text goes on in the next line.
    pub partial: bool,
    /// The text, with its newline unless it is partial.
    pub text: Vec<u8>,
}

/// Parses `2006-01-02T15:04:05.999999999Z07:00 stdout F text\n`; `None` for anything else.
pub fn parse(raw: &[u8]) -> Option<Line> {
    let mut parts = raw.splitn(4, |byte| *byte == b' ');
    let time_text = std::str::from_utf8(parts.next()?).ok()?.to_owned();
    let time: Timestamp = time_text.parse().ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?.to_owned();
    if stream != "stdout" && stream != "stderr" {
        return None;
    }
    let tag = std::str::from_utf8(parts.next()?).ok()?;
    let partial = tag.split(':').next() == Some("P");
    let mut text = parts.next().unwrap_or_default().to_vec();
    if partial && text.last() == Some(&b'\n') {
        text.pop();
    }
    Some(Line { time_text, time, stream, partial, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let line = parse(b"2016-10-06T00:17:09.669794202Z stdout F log content 1\n").expect("a line");
        assert_eq!((line.stream.as_str(), line.partial, &line.text[..]), ("stdout", false, &b"log content 1\n"[..]));
        let line = parse(b"2016-10-06T00:17:09.669794203+02:00 stderr P a b\n").expect("a line");
        assert_eq!((line.stream.as_str(), line.partial, &line.text[..]), ("stderr", true, &b"a b"[..]));
        assert_eq!(parse(b"2016-10-06T00:17:09Z stdout F \n").map(|line| line.text), Some(b"\n".to_vec()));
        assert_eq!(parse(b"hello world\n"), None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"2016-10-06T00:17:09Z other F x\n"), None);
    }
}
