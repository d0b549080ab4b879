//! HTTP/1.1 answers on a byte stream: what probes and drills ask of a behaving container.
//!
//! Kept small: bodies of requests are skipped, chunked ones refused; no compression, no upgrade.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use daruma_world::World;
use daruma_world::net::Stream;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{best, time};

/// Requests with longer headers are refused.
const HEAD_BYTES: usize = 16 * 1024;
/// Room for most requests.
const ROOM: usize = 512;
/// Most headers of a request.
const HEADERS: usize = 100;
/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// What is answered on a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpAnswers {
    /// By path; a `*` at the end stands for any rest, the longest match wins. Others are 404.
    pub paths: BTreeMap<String, HttpAnswer>,
    /// Line written to the log for each request, with `${REQUESTS}`, `${UPTIME}` and `${TIME}` too.
    pub log: Option<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: String,
    /// Time before the answer.
    #[serde(deserialize_with = "time")]
    pub delay: Duration,
    /// Answers so also before the container is ready.
    pub always: bool,
}

impl Default for HttpAnswer {
    fn default() -> Self {
        Self { status: 200, body: String::new(), delay: Duration::ZERO, always: false }
    }
}

impl HttpAnswers {
    /// What is answered for a path, while the container is `ready` or not.
    pub fn answer(&self, path: &str, ready: bool) -> HttpAnswer {
        let path = path.split('?').next().unwrap_or_default();
        let refusal = |status, body: &str| HttpAnswer { status, body: body.to_owned(), ..HttpAnswer::default() };
        match best(self.paths.iter(), path) {
            Some(answer) if ready || answer.always => answer.clone(),
            Some(_) => refusal(503, "not ready\n"),
            None => refusal(404, "404 page not found\n"),
        }
    }
}

/// A request's head, as far as it matters.
struct Head {
    /// Where it ends.
    bytes: usize,
    path: String,
    only_head: bool,
    body_bytes: u64,
    close: bool,
}

/// Why a request is refused.
struct Refused(u16);

/// Reads a head; `None` where it is not there as a whole yet.
fn parse(text: &[u8]) -> Result<Option<Head>, Refused> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let bytes = match request.parse_with_uninit_headers(text, &mut headers) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::Version) => return Err(Refused(505)),
        Err(_) => return Err(Refused(400)),
    };
    let target = request.path.ok_or(Refused(400))?;
    let old = request.version == Some(0);
    // A proxy's form of the target names the host as well.
    let path = target.split_once("://").map_or(target, |(_, rest)| rest.find('/').map_or("/", |slash| &rest[slash..]));
    let only_head = request.method == Some("HEAD");
    let mut head = Head { bytes, path: path.to_owned(), only_head, body_bytes: 0, close: old };
    for header in &*request.headers {
        let is = |name| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let value = std::str::from_utf8(header.value).ok().and_then(|value| value.trim().parse().ok());
            head.body_bytes = value.ok_or(Refused(400))?;
        } else if is("transfer-encoding") {
            return Err(Refused(501));
        } else if is("connection") {
            let value = String::from_utf8_lossy(header.value).to_ascii_lowercase();
            head.close = value.contains("close") || (old && !value.contains("keep-alive"));
        }
    }
    Ok(Some(head))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

fn render(answer: &HttpAnswer, only_head: bool, close: bool) -> Vec<u8> {
    let bodiless = answer.status == 204 || answer.status == 304 || (100..200).contains(&answer.status);
    let body = if only_head || bodiless { "" } else { &answer.body };
    let mut text = String::with_capacity(128 + body.len());
    // Writing to a string does not fail.
    let _ = write!(text, "HTTP/1.1 {} ", answer.status);
    text.push_str(reason(answer.status));
    text.push_str("\r\nContent-Type: text/plain\r\n");
    if !bodiless {
        let _ = write!(text, "Content-Length: {}\r\n", answer.body.len());
    }
    text.push_str(if close { "Connection: close\r\n\r\n" } else { "\r\n" });
    text.push_str(body);
    text.into_bytes()
}

/// Answers the requests of one connection until either side closes it. `answer` gives what is
/// answered for a path, placeholders filled in.
///
/// # Errors
/// Those of the stream.
pub async fn serve<A>(world: &World, mut stream: Box<dyn Stream>, mut answer: A) -> io::Result<()>
where
    A: FnMut(&str) -> HttpAnswer + Send,
{
    let mut buffer = Vec::with_capacity(ROOM);
    loop {
        let head = loop {
            match parse(&buffer) {
                Ok(Some(head)) => {
                    buffer.drain(..head.bytes);
                    break Ok(head);
                }
                Ok(None) if buffer.len() > HEAD_BYTES => break Err(Refused(400)),
                Ok(None) => {}
                Err(refused) => break Err(refused),
            }
            match world.timeout(IDLE, stream.read_buf(&mut buffer)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) | Err(_) => return Ok(()),
                Ok(Err(error)) => return Err(error),
            }
        };
        let head = match head {
            Ok(head) => head,
            Err(Refused(status)) => {
                let refusal = HttpAnswer { status, body: format!("{}\n", reason(status)), ..HttpAnswer::default() };
                stream.write_all(&render(&refusal, false, true)).await?;
                return stream.shutdown().await;
            }
        };
        let mut body = head.body_bytes;
        while body > 0 {
            let here = (buffer.len() as u64).min(body);
            buffer.drain(..here as usize);
            body -= here;
            if body > 0 && stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let answered = answer(&head.path);
        if !answered.delay.is_zero() {
            world.sleep(answered.delay).await;
        }
        stream.write_all(&render(&answered, head.only_head, head.close)).await?;
        stream.flush().await?;
        if head.close {
            return stream.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(requests: &str, wanted: &str) {
        let answers = HttpAnswers {
            paths: BTreeMap::from([
                ("/".to_owned(), HttpAnswer { body: "hello".to_owned(), ..HttpAnswer::default() }),
                ("/live".to_owned(), HttpAnswer { status: 204, always: true, ..HttpAnswer::default() }),
                ("/a/*".to_owned(), HttpAnswer { status: 500, ..HttpAnswer::default() }),
            ]),
            log: None,
        };
        let requests = requests.to_owned();
        let got = crate::run(1, |world| async move {
            let (mut near, far) = tokio::io::duplex(64 * 1024);
            let world2 = world.clone();
            world.spawn("server", async move {
                let _ = serve(&world2, Box::new(far), |path| answers.answer(path, path != "/?early")).await;
            });
            near.write_all(requests.as_bytes()).await.unwrap();
            near.shutdown().await.unwrap();
            let mut text = String::new();
            near.read_to_string(&mut text).await.unwrap();
            text
        });
        let statuses: Vec<&str> = got.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.lines().next()).collect();
        let bodies = got.matches("hello").count();
        assert_eq!(format!("{} {bodies}", statuses.join(", ")), wanted, "{got}");
    }

    #[test]
    fn requests() {
        check("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK 1");
        check("GET / HTTP/1.1\r\n\r\nGET /a/b?c HTTP/1.1\r\n\r\n", "200 OK, 500 Internal Server Error 1");
        check("GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n", "200 OK 1");
        check("HEAD / HTTP/1.1\r\n\r\n", "200 OK 0");
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /no HTTP/1.1\r\n\r\n", "200 OK, 404 Not Found 1");
        check("GET /?early HTTP/1.1\r\n\r\nGET /live HTTP/1.1\r\n\r\n", "503 Service Unavailable, 204 No Content 0");
        check("GET http://x/live HTTP/1.0\r\n\r\n", "204 No Content 0");
        check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "501 Not Implemented 0");
        check("nonsense\r\n\r\n", "400 Bad Request 0");
        check("GET / HTTP/1.1\r\n", " 0");
    }
}
