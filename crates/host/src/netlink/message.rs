//! Messages to the kernel (linux/netlink.h).

/// Flags of a message.
pub(crate) mod flags {
    /// It is a request.
    pub(in crate::netlink) const REQUEST: u16 = 0x1;
    /// An acknowledgement is wanted.
    pub(crate) const ACK: u16 = 0x4;
    /// All objects are wanted.
    pub(crate) const DUMP: u16 = 0x300;
    /// Replace what is there.
    pub(crate) const REPLACE: u16 = 0x100;
    /// Fail where it is there.
    pub(crate) const EXCL: u16 = 0x200;
    /// Make it where it is missing.
    pub(crate) const CREATE: u16 = 0x400;
    /// Put it behind what is there.
    pub(crate) const APPEND: u16 = 0x800;
}

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
const NESTED: u16 = 0x8000;

/// Messages that go to the kernel together, filled from front to back.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Messages {
    /// One message with its family header (`ifinfomsg`, `nfgenmsg`, …) and attributes.
    pub(crate) fn one(kind: u16, message_flags: u16, family_header: &[u8], content: impl FnOnce(&mut Self)) -> Self {
        let mut messages = Self::default();
        messages.add(kind, message_flags, family_header, content);
        messages
    }

    /// Adds a message; the request flag is set by itself.
    pub(super) fn add(&mut self, kind: u16, message_flags: u16, family_header: &[u8], content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(message_flags | flags::REQUEST).to_ne_bytes());
        // The sequence number is the socket's to give; the kernel fills in the port.
        self.bytes.extend_from_slice(&[0; 8]);
        self.raw(family_header);
        content(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Asks for an acknowledgement of the message that was added last.
    pub(super) fn acknowledge_last(&mut self) {
        if let Some(start) = self.starts.last() {
            self.bytes[start + 6] |= flags::ACK as u8;
        }
    }

    /// How many messages ask for an acknowledgement.
    pub(super) fn acknowledgements(&self) -> usize {
        self.starts.iter().filter(|start| self.bytes[**start + 6] & flags::ACK as u8 != 0).count()
    }

    /// Numbers the messages from the one after `sequence` on, which becomes the last number given; gives the datagram.
    pub(super) fn seal(mut self, sequence: &mut u32) -> Vec<u8> {
        for start in self.starts {
            *sequence = sequence.wrapping_add(1);
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
        self.bytes
    }

    /// An attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    /// A string attribute with its zero byte.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// A number in host order.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// A number in network order.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// An attribute made of attributes.
    pub(crate) fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        content(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes as they are (a header inside a nested attribute), filled up to a multiple of four.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
