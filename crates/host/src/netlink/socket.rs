//! The socket: sends requests and waits for their answers. It blocks, for microseconds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::attributes::{Answer, number};
use super::message::{HEADER, Messages};

const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
/// The kernel's answers to one read are never longer, but for what an error repeats.
const BUFFER: usize = 64 * 1024;

/// A socket in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: OwnedFd,
    /// Number of the newest message.
    sequence: u32,
}

impl Socket {
    /// For links, addresses, routes, neighbours.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    /// For nf_tables, connection tracking and packet queues.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> io::Result<Self> {
        let descriptor = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // A kernel that never answers must not hold the thread for ever.
        setsockopt(&descriptor, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
        Ok(Self { descriptor, sequence: 0 })
    }

    /// Sends messages as one datagram and waits for every acknowledgement that they ask for.
    ///
    /// # Errors
    /// The first error among the answers.
    pub(crate) fn execute(&mut self, messages: Messages) -> io::Result<()> {
        let mut awaited = messages.acknowledgements();
        let first = self.sequence.wrapping_add(1);
        self.send(messages)?;
        let sent = first..=self.sequence;
        let mut buffer = vec![0; BUFFER];
        while awaited > 0 {
            let length = self.receive(&mut buffer)?;
            // Whatever an earlier request left unread has other numbers.
            let answers = split(&buffer[..length]).into_iter().filter(|answer| sent.contains(&answer.sequence));
            for answer in answers.filter(|answer| answer.kind == MESSAGE_ERROR) {
                acknowledged(answer.payload)?;
                awaited -= 1;
            }
        }
        Ok(())
    }

    /// Sends one message that asks for all objects, or for one and an acknowledgement, and collects them.
    pub(crate) fn ask(&mut self, message: Messages) -> io::Result<Vec<Answer>> {
        self.send(message)?;
        let mut buffer = vec![0; BUFFER];
        let mut found = Vec::new();
        loop {
            let length = self.receive(&mut buffer)?;
            for answer in split(&buffer[..length]).into_iter().filter(|answer| answer.sequence == self.sequence) {
                match answer.kind {
                    MESSAGE_DONE => return Ok(found),
                    MESSAGE_ERROR => return acknowledged(answer.payload).map(|()| found),
                    _ => found.push(Answer(answer.payload.to_vec())),
                }
            }
        }
    }

    fn send(&mut self, messages: Messages) -> io::Result<()> {
        let datagram = messages.seal(&mut self.sequence);
        if datagram.len() > 64 * 1024 {
            // A batch is one datagram; without the capability the ordinary limit may still do.
            let _ = setsockopt(&self.descriptor, sockopt::SndBufForce, &(datagram.len() * 2));
        }
        let sent = send(self.descriptor.as_raw_fd(), &datagram, MsgFlags::empty())?;
        if sent == datagram.len() { Ok(()) } else { Err(io::Error::other("netlink took only a part of the request")) }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(self.descriptor.as_raw_fd(), buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.descriptor
    }
}

#[derive(Debug)]
struct Received<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of a datagram.
fn split(mut bytes: &[u8]) -> Vec<Received<'_>> {
    let mut found = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let length = number(header, 0) as usize;
        // An error repeats the message it is about, which may be longer than the buffer.
        let Some(payload) = bytes.get(HEADER..length.min(bytes.len())) else { break };
        found.push(Received { kind: u16::from_ne_bytes([header[4], header[5]]), sequence: number(header, 8), payload });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn acknowledged(payload: &[u8]) -> io::Result<()> {
    match number(payload, 0) as i32 {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attributes::Attributes;
    use crate::netlink::flags;

    #[test]
    fn what_is_written_can_be_read() {
        let mut messages = Messages::one(16, flags::ACK, &[7; 4], |message| {
            message.string(1, "eth0");
            message.nested(2, |inner| {
                inner.be32(3, 7);
                inner.nested(4, |innermost| innermost.attribute(5, &[9]));
            });
        });
        messages.add(17, 0, &[0; 4], |_| {});
        assert_eq!(messages.acknowledgements(), 1);
        messages.acknowledge_last();
        assert_eq!(messages.acknowledgements(), 2);
        let mut sequence = 41;
        let datagram = messages.seal(&mut sequence);
        let parts = split(&datagram);
        assert_eq!(parts.iter().map(|part| (part.kind, part.sequence)).collect::<Vec<_>>(), [(16, 42), (17, 43)]);
        assert_eq!(sequence, 43);
        let attributes = Attributes(&parts[0].payload[4..]);
        assert_eq!(attributes.clone().count(), 2);
        assert_eq!(attributes.find(1).map(|attribute| attribute.text()).as_deref(), Some("eth0"));
        let inner = attributes.find(2).expect("is there").inner();
        assert_eq!(inner.find(3).expect("is there").value, 7_u32.to_be_bytes());
        assert_eq!(inner.find(4).and_then(|attribute| attribute.inner().find(5)).expect("is there").value, [9]);
    }

    #[test]
    fn broken_answers_end_the_reading() {
        assert!(split(&[200, 0, 0, 0, 1]).is_empty());
        assert!(split(&[3; HEADER]).len() <= 1);
        assert!(split(&[0; HEADER]).is_empty());
        assert_eq!(Attributes(&[90, 0, 1, 0, 1]).count(), 0);
        assert_eq!(Attributes(&[0; 8]).count(), 0);
    }
}
