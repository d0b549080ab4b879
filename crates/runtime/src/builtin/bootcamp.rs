//! The application of Kubernetes' tutorial: a tiny HTTP server that names its pod and version.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Requests with longer headers are not answered.
const MAX_HEAD_BYTES: u64 = 16 * 1024;
/// Threads serve connections; this is enough for a demonstration and small in memory.
const STACK_BYTES: usize = 64 * 1024;

/// Serves what `arguments` say: `--app-version=N`, which the image gives, 1 without it. Any other argument is unknown,
/// and ends the process with exit code 1.
pub fn main(arguments: &[String]) -> ! {
    match version(arguments) {
        Ok(version) => serve(version),
        Err(unknown) => {
            eprintln!("unknown argument {unknown:?}");
            std::process::exit(1)
        }
    }
}

/// The version, or the argument that is unknown.
fn version(arguments: &[String]) -> Result<u32, &str> {
    let mut version = 1;
    for argument in arguments {
        version = argument.strip_prefix("--app-version=").and_then(|text| text.parse().ok()).ok_or(argument.as_str())?;
    }
    Ok(version)
}

/// Serves on port 8080 for ever; SIGTERM ends the process at once, as a first process of a
/// container has no default action for it.
fn serve(version: u32) -> ! {
    // SAFETY: the handler only calls _exit, which is safe in a signal handler.
    unsafe {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            libc::signal(signal, end as extern "C" fn(libc::c_int) as libc::sighandler_t);
        }
    }
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    let started = now();
    println!("Kubernetes Bootcamp App Started At: {started} | Running On:  {host} \n");
    let listener =
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 8080)).or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))) {
            Ok(listener) => listener,
            Err(error) => {
                eprintln!("listen on port 8080: {error}");
                std::process::exit(1)
            }
        };
    let (host, requests) = (Arc::new(host), Arc::new(AtomicU64::new(0)));
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let (host, requests) = (host.clone(), requests.clone());
        let serve = move || {
            // A client that goes away is its own business.
            let _ = connection(&stream, &host, version, started, &requests);
        };
        if let Err(error) = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(serve) {
            eprintln!("start a thread: {error}");
        }
    }
}

extern "C" fn end(_signal: libc::c_int) {
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(0) }
}

#[allow(clippy::disallowed_methods, reason = "an application in a container, not part of the cluster")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Answers the requests of one connection.
fn connection(
    stream: &TcpStream,
    host: &str,
    version: u32,
    started: jiff::Timestamp,
    requests: &AtomicU64,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::with_capacity(1024, stream);
    loop {
        let (mut close, mut body, mut first) = (false, 0u64, true);
        let mut head = reader.by_ref().take(MAX_HEAD_BYTES);
        loop {
            let mut line = String::new();
            if head.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() && !first {
                break;
            }
            if first {
                close = line.ends_with("http/1.0");
                first = line.is_empty();
            } else if let Some(length) = line.strip_prefix("content-length:") {
                body = length.trim().parse().unwrap_or(0);
            } else if let Some(connection) = line.strip_prefix("connection:") {
                close = connection.contains("close") || (close && !connection.contains("keep-alive"));
            }
        }
        std::io::copy(&mut reader.by_ref().take(body), &mut std::io::sink())?;
        let total = requests.fetch_add(1, Ordering::Relaxed) + 1;
        let answered = now();
        let up = (answered.as_millisecond() - started.as_millisecond()) as f64 / 1000.0;
        println!("Running On: {host} | Total Requests: {total} | App Uptime: {up} seconds | Log Time: {answered}");
        let text = format!("Hello Kubernetes bootcamp! | Running on: {host} | v={version}\n");
        let tail = if close { "Connection: close\r\n" } else { "" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{tail}\r\n{text}", text.len());
        (&*stream).write_all(answer.as_bytes())?;
        if close {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn arguments() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (line, wanted) in [
            ("", Ok(1)),
            ("--app-version=2", Ok(2)),
            ("--app-version=2 --crash-on-start", Err("--crash-on-start")),
            ("--app-version=x", Err("--app-version=x")),
        ] {
            assert_eq!(version(&words(line)), wanted, "{line}");
        }
    }
}
