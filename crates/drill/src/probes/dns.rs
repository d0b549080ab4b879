//! One question to a name server over UDP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use daruma_world::Net;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::in_words;

/// Asks for a name's IPv4 address; gives nothing: who answers is the server.
///
/// # Errors
/// No answer that is one, or the name has no address.
pub(super) async fn resolve(net: &dyn Net, server: SocketAddr, name: &str, id: u16) -> Result<String, String> {
    let mut question = Name::from_ascii(name).map_err(|error| format!("{name:?}: {error}"))?;
    question.set_fqdn(true);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(question, RecordType::A));
    let bytes = message.to_vec().map_err(|error| error.to_string())?;
    let any: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = net.bind_udp(any).await.map_err(|error| in_words(&error))?;
    socket.send_to(&bytes, server).await.map_err(|error| in_words(&error))?;
    let mut buffer = vec![0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.map_err(|error| in_words(&error))?;
        let Ok(answer) = Message::from_vec(&buffer[..length]) else { continue };
        if from != server || answer.metadata.id != id {
            continue;
        }
        return match answer.metadata.response_code {
            ResponseCode::NoError if answer.answers.iter().any(|record| matches!(record.data, RData::A(_))) => Ok(String::new()),
            ResponseCode::NoError => Err("the name has no address".to_owned()),
            code => Err(code.to_string()),
        };
    }
}
