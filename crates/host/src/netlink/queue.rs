//! Packets that wait for the verdict of a process (linux/netfilter/nfnetlink_queue.h).

use std::io;

use super::attributes::Answer;
use super::message::HEADER;
use super::{Messages, Socket, flags, netfilter};

const SUBSYSTEM: u8 = 3;
const PACKET: u8 = 0;
const VERDICT: u8 = 1;
const CONFIG: u8 = 2;

const CONFIG_COMMAND: u16 = 1;
const CONFIG_PARAMETERS: u16 = 2;
const CONFIG_LENGTH: u16 = 3;
const CONFIG_MASK: u16 = 4;
const CONFIG_FLAGS: u16 = 5;
const COMMAND_BIND: u8 = 1;
/// `NFQNL_COPY_META`: the packet itself stays in the kernel.
const COPY_META: u8 = 1;
/// `NFQA_CFG_F_FAIL_OPEN`: what does not fit passes at once.
const FAIL_OPEN: u32 = 1;
/// `NFQA_CFG_F_GSO`: large packets need not be cut into pieces.
const WHOLE: u32 = 4;
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const ACCEPT: u32 = 1;
/// Most packets that wait in one queue.
const LONGEST: u32 = 100_000;

/// A packet that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Number of its queue.
    pub(crate) queue: u16,
    /// Its number in that queue.
    pub(crate) id: u32,
}

/// Makes this socket the one that decides on the packets of `queue`.
pub(crate) fn bind(socket: &mut Socket, queue: u16) -> io::Result<()> {
    let kind = netfilter(SUBSYSTEM, CONFIG);
    socket.execute(Messages::one(kind, flags::ACK, &header(queue), |message| {
        message.attribute(CONFIG_COMMAND, &[COMMAND_BIND, 0, 0, 0]);
    }))?;
    socket.execute(Messages::one(kind, flags::ACK, &header(queue), |message| {
        message.attribute(CONFIG_PARAMETERS, &[0, 0, 0, 0, COPY_META]);
        message.be32(CONFIG_LENGTH, LONGEST);
        message.be32(CONFIG_FLAGS, FAIL_OPEN | WHOLE);
        message.be32(CONFIG_MASK, FAIL_OPEN | WHOLE);
    }))
}

/// The message that lets a packet pass.
pub(crate) fn pass(packet: Waiting) -> Vec<u8> {
    let message = Messages::one(netfilter(SUBSYSTEM, VERDICT), 0, &header(packet.queue), |message| {
        let mut verdict = [0; 8];
        verdict[..4].copy_from_slice(&ACCEPT.to_be_bytes());
        verdict[4..].copy_from_slice(&packet.id.to_be_bytes());
        message.attribute(VERDICT_HEADER, &verdict);
    });
    message.seal(&mut 0)
}

/// The packets that a datagram of the kernel tells of.
pub(crate) fn read(mut datagram: &[u8]) -> Vec<Waiting> {
    let mut found = Vec::new();
    while let Some(start) = datagram.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([start[0], start[1], start[2], start[3]]) as usize;
        let Some(payload) = datagram.get(HEADER..length) else { break };
        if u16::from_ne_bytes([start[4], start[5]]) == netfilter(SUBSYSTEM, PACKET) {
            found.extend(waiting(&Answer(payload.to_vec())));
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn waiting(answer: &Answer) -> Option<Waiting> {
    let [_, _, high, low] = *answer.header::<4>()?;
    let id = answer.attributes(4).find(PACKET_HEADER)?;
    Some(Waiting { queue: u16::from_be_bytes([high, low]), id: u32::from_be_bytes(*id.value.first_chunk()?) })
}

/// `struct nfgenmsg` with the queue's number in network order.
fn header(queue: u16) -> [u8; 4] {
    let [high, low] = queue.to_be_bytes();
    [0, 0, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_the_kernel_writes_them() {
        let message = Messages::one(netfilter(SUBSYSTEM, PACKET), 0, &header(70), |message| {
            message.attribute(PACKET_HEADER, &[0, 0, 1, 2, 8, 0, 2]);
        });
        let datagram = message.seal(&mut 0);
        assert_eq!(read(&datagram), [Waiting { queue: 70, id: 258 }]);
        assert!(read(&datagram[..20]).is_empty());
        assert!(read(&[0; 40]).len() <= 1);
    }
}
