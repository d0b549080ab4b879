//! One GET on one connection. HTTP/1.1, as much of it as a probe needs.

use std::net::SocketAddr;

use daruma_world::Net;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::in_words;

/// More of an answer is not read.
const MOST_BYTES: usize = 64 * 1024;
/// Room that there is for each part of it.
const CHUNK_BYTES: usize = 4096;
/// What the tutorial's application says before its pod's name.
const RUNNING_ON: &str = "Running on: ";

/// Asks; gives the pod that answered, where the answer tells it.
///
/// # Errors
/// No connection, no answer that is HTTP, or not the status that is right.
pub(super) async fn get(net: &dyn Net, to: SocketAddr, path: &str, right: Option<u16>) -> Result<String, String> {
    let mut stream = net.connect(to).await.map_err(|error| in_words(&error))?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: daruma-drill\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| in_words(&error))?;
    stream.flush().await.map_err(|error| in_words(&error))?;
    let mut answer = Vec::new();
    loop {
        answer.reserve(CHUNK_BYTES);
        let length = match stream.read_buf(&mut answer).await {
            Ok(length) => length,
            // A peer that resets after its answer has answered.
            Err(_) if is_whole(&answer) => 0,
            Err(error) => return Err(in_words(&error)),
        };
        if length == 0 || answer.len() >= MOST_BYTES || is_whole(&answer) {
            break;
        }
    }
    let status = status(&answer)?;
    let is_right = right.map_or(status < 400, |right| status == right);
    if is_right { Ok(running_on(&answer)) } else { Err(format!("status {status}")) }
}

/// Whether head and body (by its length) are there.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = memmem::find(answer, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let body = answer.len() - end - 4;
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    if let Some(length) = header("content-length:").and_then(|value| value.parse::<usize>().ok()) {
        return body >= length;
    }
    header("transfer-encoding:").is_some_and(|value| value == "chunked") && answer.ends_with(b"0\r\n\r\n")
}

fn status(answer: &[u8]) -> Result<u16, String> {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next().and_then(|code| code.parse().ok()) {
        Some(code) if is_http => Ok(code),
        _ if answer.is_empty() => Err("the connection was closed without an answer".to_owned()),
        _ => Err("the answer is not HTTP".to_owned()),
    }
}

fn running_on(answer: &[u8]) -> String {
    let Some(begin) = memmem::find(answer, RUNNING_ON.as_bytes()) else { return String::new() };
    let after = String::from_utf8_lossy(&answer[begin + RUNNING_ON.len()..]);
    after.split(|one: char| one.is_whitespace() || one == '|').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (answer, whole, code, by) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true, Ok(200), ""),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", false, Ok(200), ""),
            ("HTTP/1.1 503 Nope\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true, Ok(503), ""),
            ("HTTP/1.0 200 OK\r\n\r\nHello Kubernetes bootcamp! | Running on: web-abc-1 | v=1\n", false, Ok(200), "web-abc-1"),
            ("SSH-2.0-x\r\n", false, Err("not HTTP"), ""),
            ("", false, Err("closed without"), ""),
        ] {
            assert_eq!(is_whole(answer.as_bytes()), whole, "{answer:?}");
            match (status(answer.as_bytes()), code) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
            assert_eq!(running_on(answer.as_bytes()), by);
        }
    }
}
