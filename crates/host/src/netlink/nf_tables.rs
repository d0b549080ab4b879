//! Transactions of nf_tables (linux/netfilter/nf_tables.h, nfnetlink.h): the kernel takes all of one or nothing.

use std::io;

use super::{Messages, NETFILTER_IPV4, Socket, flags, netfilter};

const SUBSYSTEM: u8 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `struct nfgenmsg` of a batch: no family, the subsystem in network order.
const BATCH_HEADER: [u8; 4] = [0, 0, 0, SUBSYSTEM];

const NEW_TABLE: u8 = 0;
const GET_TABLE: u8 = 1;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const GET_GENERATION: u8 = 16;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4 packets of the whole namespace (`NFPROTO_IPV4`).
    Ipv4 = 2,
    /// All frames that the namespace's bridges pass (`NFPROTO_BRIDGE`).
    Bridge = 7,
}

/// What makes a chain one that the kernel itself calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BaseChain {
    /// Number of the hook in its family.
    pub(crate) hook: u32,
    /// Lower ones are called first.
    pub(crate) priority: i32,
    /// What becomes of packets that no rule decides on: accepted or dropped.
    pub(crate) accept: bool,
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
}

/// Changes of one table.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    family: Family,
    table: &'a str,
    messages: Messages,
}

impl<'a> Transaction<'a> {
    /// A transaction that changes nothing.
    pub(crate) fn new(family: Family, table: &'a str) -> Self {
        Self { family, table, messages: Messages::one(BATCH_BEGIN, 0, &BATCH_HEADER, |_| {}) }
    }

    /// Goes on with the table of the same name of another family.
    pub(crate) fn turn_to(&mut self, family: Family) {
        self.family = family;
    }

    /// Adds a change: a message of nf_tables, whose first attribute is always the table's name.
    pub(crate) fn add(&mut self, kind: u8, message_flags: u16, content: impl FnOnce(&mut Messages)) {
        let header = [self.family as u8, 0, 0, 0];
        self.messages.add(netfilter(SUBSYSTEM, kind), message_flags, &header, |message| {
            message.string(1, self.table);
            content(message);
        });
    }

    /// Makes the table where it is missing.
    pub(crate) fn add_table(&mut self) {
        self.add(NEW_TABLE, flags::CREATE, |_| {});
    }

    /// Deletes the table, present or not.
    pub(crate) fn delete_table(&mut self) {
        self.add_table();
        self.add(DELETE_TABLE, 0, |_| {});
    }

    /// Makes a chain.
    pub(crate) fn add_chain(&mut self, name: &str, base: Option<BaseChain>) {
        self.add(NEW_CHAIN, flags::CREATE, |message| {
            message.string(3, name);
            let Some(base) = base else { return };
            message.nested(4, |hook| {
                hook.be32(1, base.hook);
                hook.be32(2, base.priority as u32);
            });
            // NF_ACCEPT, NF_DROP.
            message.be32(5, u32::from(base.accept));
            message.string(7, base.kind);
        });
    }

    /// Carries everything out, or nothing.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> io::Result<()> {
        // Errors of the other changes come without being asked for, and before.
        self.messages.acknowledge_last();
        self.messages.add(BATCH_END, 0, &BATCH_HEADER, |_| {});
        socket.execute(self.messages)
    }
}

/// The handle of a table of IPv4 packets, which another table of that name does not have.
pub(crate) fn table_handle(socket: &mut Socket, table: &str) -> io::Result<Option<u64>> {
    let kind = netfilter(SUBSYSTEM, GET_TABLE);
    match socket.ask(Messages::one(kind, flags::ACK, &NETFILTER_IPV4, |message| message.string(1, table))) {
        Ok(found) => Ok(found.first().and_then(|table| table.attributes(4).find(4)).map(|handle| handle.be64())),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the kernel speaks nf_tables at all: it says why not.
pub(crate) fn probe(socket: &mut Socket) -> io::Result<()> {
    socket.ask(Messages::one(netfilter(SUBSYSTEM, GET_GENERATION), flags::ACK, &[0; 4], |_| {})).map(drop)
}
