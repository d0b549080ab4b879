//! A GET request on a connection of its own, and of the answer what says how it went.
//!
//! No client of everything that HTTP can do: every container is asked every few seconds, so there is one request without a
//! body, nothing is kept for another, and an answer's body is only waited for. Redirects are followed in `redirect`.
//!
//! Source: kubernetes pkg/probe/http.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::mem::MaybeUninit;

use daruma_api::core::v1::HTTPHeader;
use daruma_world::net::Stream;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest body that is waited for (`maxRespBodyLength`).
const BODY_BYTES: usize = 10 * 1024;
/// Longest head of an answer.
const HEAD_BYTES: usize = 400 * 1024;
/// Most headers of an answer.
const HEADERS: usize = 100;
/// Room for most requests and answers.
const ROOM: usize = 1024;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct HttpTarget<'a> {
    /// With TLS, whose certificate is not looked at.
    pub https: bool,
    /// Host name or address.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: &'a str,
    /// Headers.
    pub headers: &'a [HTTPHeader],
    /// User agent where the headers name none.
    pub user_agent: &'a str,
}

impl HttpTarget<'_> {
    /// The URL, for a person.
    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.absolute_path())
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        let mut authority = String::with_capacity(self.host.len() + 8);
        let (before, behind) = if self.host.contains(':') { ("[", "]:") } else { ("", ":") };
        for part in [before, self.host, behind] {
            authority.push_str(part);
        }
        // Writing to a string does not fail.
        let _ = write!(authority, "{}", self.port);
        authority
    }

    fn absolute_path(&self) -> Cow<'_, str> {
        if self.path.starts_with('/') { Cow::Borrowed(self.path) } else { Cow::Owned(["/", self.path].concat()) }
    }

    /// The request as it is sent.
    ///
    /// # Errors
    /// Path or headers are none of HTTP.
    fn request(&self) -> Result<String, String> {
        let path = PathAndQuery::try_from(&*self.absolute_path()).map_err(|error| format!("invalid URL: {error}"))?;
        let mut request = String::with_capacity(ROOM);
        for part in ["GET ", path.as_str(), " HTTP/1.1\r\n"] {
            request.push_str(part);
        }
        let mut add = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                request.push_str(part);
            }
        };
        let named = |name: &str| self.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        if !named("host") {
            add("Host", &self.authority());
        }
        if !named("user-agent") {
            add("User-Agent", self.user_agent);
        }
        if !named("accept") {
            add("Accept", "*/*");
        }
        // Given as nothing, these two are not sent at all.
        let leaves = |name: &str| ["user-agent", "accept"].iter().any(|one| name.eq_ignore_ascii_case(one));
        for HTTPHeader { name, value } in self.headers.iter().filter(|header| !header.value.is_empty() || !leaves(&header.name)) {
            HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            HeaderValue::from_str(value).map_err(|error| error.to_string())?;
            add(name, value);
        }
        add("Connection", "close");
        request.push_str("\r\n");
        Ok(request)
    }
}

/// An answer of which the head has come.
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Where a redirect leads, as it is written.
    pub(super) location: Option<String>,
    framing: Body,
    content: Vec<u8>,
    stream: Box<dyn Stream>,
}

impl Answer {
    /// The body, as far as it is read.
    ///
    /// # Errors
    /// It breaks off.
    pub async fn body(mut self) -> Result<String, String> {
        while !self.framing.is_whole(&self.content) && self.content.len() < BODY_BYTES {
            if self.stream.read_buf(&mut self.content).await.map_err(|error| error.to_string())? == 0 {
                if self.framing == Body::UntilEnd {
                    break;
                }
                return Err("unexpected EOF".to_owned());
            }
        }
        let content = match self.framing {
            Body::Bytes(count) => &self.content[..self.content.len().min(usize::try_from(count).unwrap_or(usize::MAX))],
            Body::UntilEnd => &self.content[..],
            Body::Chunks => {
                let chunks = chunks(&self.content);
                if chunks.is_broken {
                    return Err("invalid byte in chunk length".to_owned());
                }
                &chunks.held.concat()
            }
        };
        Ok(String::from_utf8_lossy(&content[..content.len().min(BODY_BYTES)]).into_owned())
    }

    /// One that leads elsewhere.
    #[cfg(test)]
    pub(super) fn redirect(status: u16, location: &str) -> Self {
        let stream = Box::new(tokio::io::duplex(1).0);
        Self { status, location: Some(location.to_owned()), framing: Body::UntilEnd, content: Vec::new(), stream }
    }
}

/// Asks, and gives the answer once its head has come.
///
/// # Errors
/// The request is none of HTTP, or no answer came: for a person.
pub(super) async fn get(mut stream: Box<dyn Stream>, target: &HttpTarget<'_>) -> Result<Answer, String> {
    let lost = |error: std::io::Error| error.to_string();
    stream.write_all(target.request()?.as_bytes()).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let mut answer = Vec::with_capacity(ROOM);
    loop {
        if stream.read_buf(&mut answer).await.map_err(lost)? == 0 {
            return Err("EOF".to_owned());
        }
        if let Some(Head { status, location, body }) = final_head(&mut answer)? {
            return Ok(Answer { status, location, framing: body, content: answer, stream });
        }
        if answer.len() > HEAD_BYTES {
            return Err("net/http: server response headers exceeded the limit".to_owned());
        }
    }
}

/// How the end of a body is known.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    Bytes(u64),
    Chunks,
    UntilEnd,
}

impl Body {
    /// Whether no more will come behind what is there.
    fn is_whole(&self, content: &[u8]) -> bool {
        match self {
            Self::Bytes(count) => content.len() as u64 >= *count,
            Self::Chunks => chunks(content).is_whole,
            Self::UntilEnd => false,
        }
    }
}

/// What chunks hold, and whether nothing comes behind them.
struct Chunks<'a> {
    held: Vec<&'a [u8]>,
    is_whole: bool,
    is_broken: bool,
}

fn chunks(mut content: &[u8]) -> Chunks<'_> {
    let (mut held, mut is_broken) = (Vec::new(), false);
    let is_whole = loop {
        match httparse::parse_chunk_size(content) {
            Ok(httparse::Status::Complete((_, 0))) => break true,
            Ok(httparse::Status::Complete((start, size))) => {
                let end = usize::try_from(size).ok().and_then(|size| start.checked_add(size));
                held.push(&content[start..end.unwrap_or(usize::MAX).min(content.len())]);
                // Behind each chunk there is a line break.
                let next = end.and_then(|end| content.get(end.checked_add(2)?..));
                let Some(rest) = next else { break false };
                content = rest;
            }
            Ok(httparse::Status::Partial) => break false,
            Err(httparse::InvalidChunkSize) => {
                is_broken = true;
                break true;
            }
        }
    };
    Chunks { held, is_whole, is_broken }
}

#[derive(Debug)]
struct Head {
    status: u16,
    location: Option<String>,
    body: Body,
}

/// Takes the heads that are there whole out of `answer` up to the one that says how it went: before it there may be others
/// (100 Continue, 103 Early Hints).
fn final_head(answer: &mut Vec<u8>) -> Result<Option<Head>, String> {
    loop {
        let Some((bytes, head)) = parse(answer)? else { return Ok(None) };
        answer.drain(..bytes);
        if head.status == 101 || !(100..200).contains(&head.status) {
            return Ok(Some(head));
        }
    }
}

fn parse(answer: &[u8]) -> Result<Option<(usize, Head)>, String> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut head = httparse::Response::new(&mut []);
    let malformed = || {
        let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response {line:?}")
    };
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, answer, &mut headers);
    let bytes = match parsed {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(malformed()),
    };
    let status = head.code.ok_or_else(malformed)?;
    let named = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let location = named("location").map(|header| String::from_utf8_lossy(header.value).into_owned());
    let mut body = Body::UntilEnd;
    for header in &*head.headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            // It counts more than any length; only chunks say themselves where they end.
            let codings = header.value.to_ascii_lowercase();
            body = if codings.trim_ascii_end().ends_with(b"chunked") { Body::Chunks } else { Body::UntilEnd };
            break;
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let count = std::str::from_utf8(header.value).ok().and_then(|value| value.trim().parse().ok());
            body = Body::Bytes(count.ok_or_else(malformed)?);
        }
    }
    if status < 200 || matches!(status, 204 | 304) {
        body = Body::Bytes(0);
    }
    Ok(Some((bytes, Head { status, location, body })))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daruma_world::Elapsed;

    use super::*;

    /// Status and body of somebody who sends these pieces and then keeps still, or closes where the last one is empty.
    fn ask(pieces: &[&str]) -> (Result<u16, String>, Result<String, String>) {
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        daruma_sim::run(1, |world| async move {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            let sending = world.clone();
            let task = world.spawn("server", async move {
                for piece in pieces {
                    if piece.is_empty() {
                        return;
                    }
                    far.write_all(piece.as_bytes()).await.expect("somebody reads");
                    sending.sleep(Duration::from_millis(1)).await;
                }
                std::future::pending::<()>().await;
            });
            let target =
                HttpTarget { https: false, host: "10.0.0.1", port: 80, path: "x", headers: &[], user_agent: "kube-probe/1.36" };
            let limit = Duration::from_secs(1);
            let answer = world.timeout(limit, get(Box::new(near), &target)).await.unwrap_or_else(no_end);
            let (status, body) = match answer {
                Ok(answer) => (Ok(answer.status), world.timeout(limit, answer.body()).await.unwrap_or_else(no_end)),
                Err(error) => (Err(error.clone()), Err(error)),
            };
            task.abort();
            (status, body)
        })
    }

    fn no_end<T>(_: Elapsed) -> Result<T, String> {
        Err("no end".to_owned())
    }

    #[track_caller]
    fn check(pieces: &[&str], status: u16, body: Result<&str, &str>) {
        assert_eq!(ask(pieces), (Ok(status), body.map(str::to_owned).map_err(str::to_owned)), "{pieces:?}");
    }

    #[test]
    fn answers() {
        check(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more"], 200, Ok("ok"));
        check(&["HTTP/1.1 302 Found\r\nLocation: /else", "where\r\ncontent-length:0\r\n\r\n"], 302, Ok(""));
        check(&["HTTP/1.1 503 \r\nContent-Length: 5\r\n\r\nno", "pe", "."], 503, Ok("nope."));
        check(&["HTTP/1.1 204 No Content\r\n\r\n"], 204, Ok(""));
        check(&["HTTP/1.1 101 Switching Protocols\r\n\r\n"], 101, Ok(""));
        check(&["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2", "00 OK\r\nContent-Length: 0\r\n\r\n"], 200, Ok(""));
        check(&["HTTP/1.0 200 OK\r\n\r\nall that comes", ""], 200, Ok("all that comes"));
        check(&["HTTP/1.0 200 OK\r\n\r\nno end"], 200, Err("no end"));
        check(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"], 200, Err("no end"));
        check(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", ""], 200, Err("unexpected EOF"));
        let long = "x".repeat(BODY_BYTES);
        check(&["HTTP/1.0 200 OK\r\n\r\n", &long, &long], 200, Ok(&long));
    }

    #[test]
    fn no_answers() {
        let broken = "net/http: HTTP/1.x transport connection broken: malformed HTTP response \"SSH-2.0-OpenSSH\"";
        for (pieces, expected) in [
            (&["HTTP/1.1 200 OK\r\n", ""][..], "EOF"),
            (&[""], "EOF"),
            (&["SSH-2.0-OpenSSH\r\n"], broken),
            (&["HTTP/1.1 200 OK\r\n"], "no end"),
        ] {
            assert_eq!(ask(pieces).0, Err(expected.to_owned()), "{pieces:?}");
        }
    }

    #[test]
    fn bodies_in_chunks() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: Chunked\r\n\r\n";
        check(&[head, "4\r\nwiki\r\n5;x=y\r\npe", "dia\r\n0\r\n\r\n"], 200, Ok("wikipedia"));
        check(&[head, "4\r\nwiki\r\n0"], 200, Err("no end"));
        check(&[head, "4\r\nwiki\r\n5\r\nped", ""], 200, Err("unexpected EOF"));
        check(&[head, "4\r\nwiki\r\nz\r\n"], 200, Err("invalid byte in chunk length"));
        let long = "x".repeat(BODY_BYTES);
        check(&[head, "ffff\r\n", &long], 200, Ok(&long));
    }

    #[test]
    fn requests() {
        let header = |name: &str, value: &str| HTTPHeader { name: name.to_owned(), value: value.to_owned() };
        let request = |path: &str, host: &str, headers: &[HTTPHeader]| {
            HttpTarget { https: false, host, port: 8080, path, headers, user_agent: "kube-probe/1.36" }.request()
        };
        let plain = "GET /live?a=b HTTP/1.1\r\nHost: 10.0.0.1:8080\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n\r\n";
        assert_eq!(request("live?a=b#there", "10.0.0.1", &[]), Ok(plain.to_owned()));
        let own = [header("host", "web.example"), header("X-Probe", "a"), header("X-Probe", "b"), header("USER-AGENT", "me")];
        let told = "GET / HTTP/1.1\r\nAccept: */*\r\nhost: web.example\r\nX-Probe: a\r\nX-Probe: b\r\nUSER-AGENT: me\r\nConnection: close\r\n\r\n";
        assert_eq!(request("/", "fd00::1", &own), Ok(told.to_owned()));
        let silent = [header("Accept", ""), header("User-Agent", ""), header("X-Probe", "")];
        let told = "GET / HTTP/1.1\r\nHost: 10.0.0.1:8080\r\nX-Probe: \r\nConnection: close\r\n\r\n";
        assert_eq!(request("/", "10.0.0.1", &silent), Ok(told.to_owned()));
        assert!(request("/", "fd00::1", &[]).is_ok_and(|request| request.contains("Host: [fd00::1]:8080\r\n")));
        assert_eq!(request("/a b", "10.0.0.1", &[]), Err("invalid URL: invalid uri character".to_owned()));
        for (name, value) in [("X Probe", "a"), ("X-Probe", "a\r\nHost: b")] {
            assert!(request("/", "10.0.0.1", &[header(name, value)]).is_err(), "{name:?} {value:?}");
        }
    }
}
