//! Addresses of registries. The binary is static and has no name service of its C library.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Record types: RFC 1035 and RFC 3596.
const A: u16 = 1;
const AAAA: u16 = 28;

/// Looks a host name up: literal, `localhost`, `/etc/hosts`, then the servers of `/etc/resolv.conf`. Blocks.
pub fn lookup(host: &str, query_id: u16) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![address]);
    }
    if host == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if let Some(Ok(address)) = words.next().map(str::parse)
            && words.any(|name| name.eq_ignore_ascii_case(host))
        {
            return Ok(vec![address]);
        }
    }
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = resolv.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("lookup {host}: no such host"));
    for server in servers {
        let mut found = Vec::new();
        for kind in [A, AAAA] {
            match ask(server, host, kind, query_id) {
                Ok(addresses) => found.extend(addresses),
                Err(error) => last = io::Error::new(error.kind(), format!("lookup {host} on {server}:53: {error}")),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(last)
}

fn ask(server: IpAddr, host: &str, kind: u16, id: u16) -> io::Result<Vec<IpAddr>> {
    let local: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(local)?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    let query = query(host, kind, id)?;
    let mut buffer = [0u8; 1500];
    for attempt in 0..2 {
        socket.send(&query)?;
        match socket.recv(&mut buffer) {
            Ok(len) if buffer.starts_with(&id.to_be_bytes()) => {
                return answers(&buffer[..len], kind)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed answer"));
            }
            Err(error) if attempt > 0 => return Err(error),
            _ => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn query(host: &str, kind: u16, id: u16) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    // Recursion desired, one question.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in host.trim_end_matches('.').split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..64).contains(len));
        message.push(len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "malformed host name"))?);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    Ok(message)
}

/// Addresses among the answers; names they go through are skipped. `None` when malformed.
fn answers(message: &[u8], kind: u16) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let (questions, count) = (word(4)?, word(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = skip_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..count {
        at = skip_name(message, at)?;
        let (this, len) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + len)?;
        match (this, len) {
            (A, 4) if kind == A => found.push(<[u8; 4]>::try_from(data).ok()?.into()),
            (AAAA, 16) if kind == AAAA => found.push(<[u8; 16]>::try_from(data).ok()?.into()),
            _ => {}
        }
        at += 10 + len;
    }
    Some(found)
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            len if len & 0xc0 == 0xc0 => return Some(at + 2),
            len => at += usize::from(len) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let question = query("a.example", A, 7).unwrap();
        assert_eq!(&question[12..], b"\x01a\x07example\x00\x00\x01\x00\x01");
        let mut answer = question.clone();
        answer[6..8].copy_from_slice(&2u16.to_be_bytes());
        // A CNAME first, then the address.
        answer.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x01\x00\x02\xc0\x0c");
        answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x0a\x00\x00\x01");
        assert_eq!(answers(&answer, A).unwrap(), [IpAddr::from([10, 0, 0, 1])]);
        assert!(answers(&answer[..answer.len() - 2], A).is_none());
        assert!(query("a..b", A, 1).is_err());
    }
}
