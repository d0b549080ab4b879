//! Questions that others have to answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use daruma_world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long one server may take.
const LIMIT: Duration = Duration::from_secs(2);
const PORT: u16 = 53;

/// The servers that know the rest of the world, asked one after the other.
#[derive(Clone)]
pub struct Upstream {
    world: World,
    servers: Vec<SocketAddr>,
}

impl Upstream {
    /// The servers that a `resolv.conf` names. Loopback addresses and those of `own` (our own service)
    /// would only lead back to us.
    pub async fn read(world: &World, path: &Path, own: &[IpAddr]) -> Self {
        let content = match world.disk.read(path).await {
            Ok(content) => String::from_utf8_lossy(&content).into_owned(),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "names outside the cluster will not resolve");
                String::new()
            }
        };
        Self { world: world.clone(), servers: name_servers(&content, own) }
    }

    /// Sends a query as it came and gives the answer as it comes; `None` where nobody answers.
    pub async fn exchange(&self, query: &[u8], stream: bool) -> Option<Vec<u8>> {
        for server in &self.servers {
            let asked =
                async { if stream { self.by_stream(query, *server).await } else { self.by_datagram(query, *server).await } };
            match self.world.timeout(LIMIT, asked).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "upstream failed"),
                Err(_) => tracing::debug!(%server, "upstream did not answer in time"),
            }
        }
        None
    }

    async fn by_datagram(&self, query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = self.world.net.bind_udp((any, 0).into()).await?;
        // An id of our own: the client's may be known to somebody who would answer in the server's place.
        let id = (self.world.random.next_u64() as u16).to_be_bytes();
        socket.send_to(&with_id(query, id), server).await?;
        let mut buffer = vec![0; 65_535];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await?;
            if from == server && buffer[..length].starts_with(&id) {
                return Ok(with_id(&buffer[..length], client_id(query)));
            }
        }
    }

    async fn by_stream(&self, query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
        let mut stream = self.world.net.connect(server).await?;
        write_message(&mut stream, query).await?;
        read_message(&mut stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Reads one message of a stream, which its length precedes; `None` at the stream's end.
pub(super) async fn read_message(stream: &mut Box<dyn daruma_world::net::Stream>) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes one message to a stream.
pub(super) async fn write_message(stream: &mut Box<dyn daruma_world::net::Stream>, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::other("a DNS message of more than 64 KiB"))?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

fn client_id(query: &[u8]) -> [u8; 2] {
    [query.first().copied().unwrap_or_default(), query.get(1).copied().unwrap_or_default()]
}

fn with_id(message: &[u8], id: [u8; 2]) -> Vec<u8> {
    let mut message = message.to_vec();
    if let Some(start) = message.get_mut(..2) {
        start.copy_from_slice(&id);
    }
    message
}

fn name_servers(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().map(str::split_whitespace);
    let named = lines.filter_map(|mut words| if words.next() == Some("nameserver") { words.next() } else { None });
    let usable = named.filter_map(|server| server.parse::<IpAddr>().ok());
    usable.filter(|server| !server.is_loopback() && !own.contains(server)).map(|server| SocketAddr::new(server, PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_resolv_conf() {
        let own = [IpAddr::from([10, 96, 0, 10])];
        for (content, expected) in [
            ("", vec![]),
            (
                "# comment\nnameserver 192.0.2.1\nsearch x\n  nameserver\t2001:db8::1 # two\n",
                vec!["192.0.2.1:53", "[2001:db8::1]:53"],
            ),
            ("nameserver 127.0.0.53\nnameserver 10.96.0.10\nnameserver x\n", vec![]),
        ] {
            let found: Vec<String> = name_servers(content, &own).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{content:?}");
        }
    }
}
